"""Decode a body in chunks, as boto3 sends it over TLS: S3's own chunks (`aws-chunked`) inside those of HTTP/1.1.

S3, "Signature calculations: transferring a payload in multiple chunks", and RFC 9112, 7.1.
"""

from collections.abc import Iterator

#: Longest line with the size of a chunk, or with a trailer.
_LINE_BYTES = 1024


class Chunks:
    """A decoder of one layer of chunks."""

    def __init__(self) -> None:
        self.is_over = False
        #: Header fields after the last chunk.
        self.trailers: dict[str, str] = {}
        self._line = b""
        self._left = 0
        self._was_last = False

    def data(self, received: memoryview) -> Iterator[memoryview]:
        """Yield the data in received bytes, in pieces.

        Raises:
            ValueError: they are no chunks.
        """
        while received and not self.is_over:
            if self._left:
                piece, received = received[: self._left], received[self._left :]
                self._left -= len(piece)
                yield piece
            else:
                line, end, _ = bytes(received[:_LINE_BYTES]).partition(b"\n")
                received = received[len(line + end) :]
                self._line += line
                if end:
                    self._end_line(self._line.decode("latin-1").strip())
                    self._line = b""

    def _end_line(self, line: str) -> None:
        if self._was_last:
            self.is_over = not line
            if line:
                name, _, value = line.partition(":")
                self.trailers[name.lower()] = value.strip()
        elif line:  # an empty line ends the data of a chunk
            self._left = int(line.partition(";")[0], 16)
            self._was_last = not self._left


class ChunkedBody:
    """A body in two layers of chunks; `kept` holds its bytes if they are wanted."""

    def __init__(self, *, keep: bool) -> None:
        self.size = 0
        self.kept = bytearray()
        self._keep = keep
        self._http, self._aws = Chunks(), Chunks()

    @property
    def is_over(self) -> bool:
        """Whether the whole body was received."""
        return self._http.is_over

    @property
    def trailers(self) -> dict[str, str]:
        """The header fields behind the bytes, such as their checksum."""
        return self._aws.trailers

    def receive(self, received: memoryview) -> None:
        """Decode the next bytes.

        Raises:
            ValueError: they are no chunks.
        """
        for chunk in self._http.data(received):
            for piece in self._aws.data(chunk):
                self.size += len(piece)
                if self._keep:
                    self.kept += piece
