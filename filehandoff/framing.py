"""Check the bytes of an HTTP/1.1 connection before the server parses them (RFC 9112).

A proxy may read a lax request differently from the server behind it: another end of the body, another target. An
attacker uses the difference to smuggle a request past the proxy. So this module accepts only a head with one meaning,
and passes it on in a canonical form that every server reads alike; it decodes chunks itself. It offers no upgrade: a
client that switched to HTTP/2 could bypass a proxy's rules. It joins small chunks, in one pass per read.
"""

import re
from dataclasses import dataclass

#: Bytes of a head, of a request line, of a header line, and the number of header lines: gunicorn's defaults.
MAX_HEAD_BYTES = 64 * 1024
MAX_REQUEST_LINE = 4094
MAX_HEADER_LINE = 8190
MAX_HEADERS = 100
#: Bytes of the line before a chunk, extensions included and its CRLF not, and of the trailer section.
MAX_CHUNK_LINE = 1024
MAX_TRAILER_BYTES = 8192
#: Bytes read per step, and per step of small chunks, which takes a few milliseconds.
STEP_BYTES = 64 * 1024
SMALL_STEP_BYTES = 16 * 1024
#: Chunks in one step from which on they count as small.
MANY_CHUNKS = 64
#: A read of a body below this size in bytes is followed by a pause, in seconds, so that the next one is larger.
SMALL_READ_BYTES = 1024
SMALL_READ_PAUSE = 0.005
#: Bytes that wait for the app; with more, a server's reading pauses.
READ_AHEAD_BYTES = 64 * 1024

_END = b"\r\n\r\n"
#: Bytes of `_END` that may have arrived without the others.
_CUT_END = len(_END) - 1
#: A client may send one before a request (RFC 9112, section 2.2).
_BLANK_LINE = b"\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{2,19}) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[\t ]*+((?:[\x21-\x7e\x80-\xff]+(?:[\t ]+[\x21-\x7e\x80-\xff]+)*)?)[\t ]*")
_HOST = re.compile(rb"[0-9A-Za-z._~!$&'()*+;=%-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_LENGTH = re.compile(rb"[0-9]{1,19}")
#: At most 15 hexadecimal digits, so that no signed 64-bit integer overflows. No blanks: RFC 9112 forbids them.
_SIZE = rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*\r\n"
_FIRST_SIZE = re.compile(_SIZE)
_NEXT_SIZE = re.compile(rb"\r\n" + _SIZE)
#: The beginning of a line before a chunk.
_BEGUN_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r?)?")

#: Headers allowed once per request: of two, a proxy and a server may choose different ones.
_ONLY_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"expect"})
#: Headers that are dropped: no upgrade is offered, and Connection is written anew.
_DROPPED = frozenset({b"upgrade", b"http2-settings", b"connection"})
#: Trailers that could change framing, routing or access (RFC 9110, section 6.5.1).
_NO_TRAILERS = frozenset(
    b"host content-length transfer-encoding content-encoding content-type content-range trailer te expect connection"
    b" upgrade authorization cookie".split()
)


class FramingError(Exception):
    """A malformed or ambiguous request; the server must respond with `status` and disconnect."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """A request's head in canonical form, including its final blank line.

    Attributes:
        data: the canonical bytes.
        length: bytes of the body; None for a chunked body.
        closes: the connection ends after this request.
    """

    data: bytes
    length: int | None
    closes: bool


def head_size(data: bytes) -> int:
    """Return the size of the head that these bytes begin with, 0 if its end is still to come.

    Raises:
        FramingError: it is too long, or will never end.
    """
    end = data.find(_END)
    if (len(data) - _CUT_END if end < 0 else end) > MAX_HEAD_BYTES:
        raise FramingError("the head is too long", 431)
    if end >= 0:
        return end + len(_END)
    line, lf, _ = data.partition(b"\n")
    if lf and not line.endswith(b"\r"):
        raise FramingError("the request line ends in a bare LF")
    if len(line) > MAX_REQUEST_LINE + 1:
        raise FramingError("the request line is too long", 414)
    return 0


def is_decided(data: bytes) -> bool:
    """Return whether a connection's next bytes are enough to answer: a whole head, or none that can be read."""
    try:
        return head_size(data.removeprefix(_BLANK_LINE)) > 0
    except FramingError:
        return True


def take_head(data: bytes) -> tuple[RequestHead, bytes] | None:
    """Split these bytes into a head and its rest; return None for an incomplete head.

    Raises:
        FramingError: the head is malformed, too long, or cannot end.
    """
    size = head_size(data)
    return (parse_head(data[:size]), data[size:]) if size else None


def parse_head(raw: bytes) -> RequestHead:
    """Check a complete head, from the request line to the blank line.

    Raises:
        FramingError: the head is malformed or ambiguous.
    """
    line, *lines = raw.removesuffix(_END).split(b"\r\n")
    if len(line) > MAX_REQUEST_LINE:
        raise FramingError("the request line is too long", 414)
    if len(lines) > MAX_HEADERS:
        raise FramingError("too many headers", 431)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or match[1] == b"CONNECT":
        raise FramingError("the request line is malformed")
    method, target, minor = match.groups()
    headers = [_parse_header(line) for line in lines]
    seen: dict[bytes, bytes] = {}
    closes = minor == b"0"
    for name, value in headers:
        lower = name.lower()
        if lower in _ONLY_ONCE and lower in seen:
            raise FramingError(f"the header {lower.decode()} occurs twice")
        seen[lower] = value
        closes |= lower == b"connection" and b"close" in [option.strip() for option in value.lower().split(b",")]
    kept = [
        b"%s: %s\r\n" % (name, value)
        for name, value in headers
        # servers disagree about an underscore: CGI's variables replace a hyphen by it
        if name.lower() not in _DROPPED and b"_" not in name
    ]
    if closes:
        kept.append(b"Connection: close\r\n")
    length = _body_length(seen, minor)
    data = b"%s %s HTTP/1.%s\r\n%s\r\n" % (method, _origin_form(target, _host(seen, minor)), minor, b"".join(kept))
    return RequestHead(data, length, closes)


def _parse_header(line: bytes) -> tuple[bytes, bytes]:
    if len(line) > MAX_HEADER_LINE:
        raise FramingError("a header is too long", 431)
    match = _HEADER.fullmatch(line)
    if match is None:
        raise FramingError("a header is malformed")
    return match[1], match[2]


def _host(headers: dict[bytes, bytes], minor: bytes) -> bytes:
    host = headers.get(b"host")
    if host is None and minor == b"1":
        raise FramingError("the Host is missing")
    if _HOST.fullmatch(host or b"") is None:
        raise FramingError("the Host is malformed")
    return host or b""


def _origin_form(target: bytes, host: bytes) -> bytes:
    """Return a target's path and query; a URL's host must be `Host` (RFC 9112, 3.2.2)."""
    if match := _ABSOLUTE.fullmatch(target):
        authority, target = match.groups()
        if not authority or authority.lower() != host.lower():
            raise FramingError("the target and the Host differ")
        target = target if target.startswith(b"/") else b"/" + target
    if not target.startswith(b"/"):
        raise FramingError("the target is neither a path nor a URL")
    return target


def _body_length(headers: dict[bytes, bytes], minor: bytes) -> int | None:
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise FramingError("the Expect is unknown", 417)
    if coding is None:
        if length is not None and _LENGTH.fullmatch(length) is None:
            raise FramingError("the Content-Length is malformed")
        return int(length or 0)
    if length is not None or minor == b"0":
        raise FramingError("a Transfer-Encoding with a Content-Length, or in HTTP/1.0")
    if coding.lower() != b"chunked":
        raise FramingError("the Transfer-Encoding is not just chunked", 501)
    return None


class ChunkedDecoder:
    """Decodes the chunks of one body: call `receive` until `ended`.

    Attributes:
        ended: the body is complete. Its trailers were checked and dropped.
        rest: the bytes after the body.
        small: the last call received many chunks.
    """

    def __init__(self) -> None:
        self.ended = self.small = False
        self.rest = b""
        self._left = 0  # bytes of the current chunk that have not arrived
        self._size = _FIRST_SIZE
        self._in_trailers = False

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes; return their content, joined.

        Raises:
            FramingError: the chunks are malformed.
        """
        data, self.rest = self.rest + data if self.rest else data, b""
        content: list[bytes] = []
        at = 0
        while not self._in_trailers:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            match = self._size.match(data, at)
            if match is None:
                self.rest = self._begun(data[at:])
                break
            if match.end() - match.start(1) > MAX_CHUNK_LINE + 2:
                raise FramingError("the line before a chunk is too long")
            self._size = _NEXT_SIZE
            at = match.end()
            self._left = int(match[1], 16)
            self._in_trailers = self._left == 0
        if self._in_trailers:
            self._read_trailers(data[at:])
        self.small = len(content) > MANY_CHUNKS
        return content[0] if len(content) == 1 else b"".join(content)

    def _begun(self, rest: bytes) -> bytes:
        line = rest
        if self._size is _NEXT_SIZE:
            if not rest.startswith(b"\r\n"[: len(rest)]):
                raise FramingError("a chunk is longer than its size")
            line = rest[2:]
        if len(line) > MAX_CHUNK_LINE + 1 or _BEGUN_SIZE.fullmatch(line) is None:
            raise FramingError("the line before a chunk is malformed")
        return rest

    def _read_trailers(self, data: bytes) -> None:
        lines, end, rest = (b"\r\n" + data).partition(_END)
        if len(lines) - (0 if end else _CUT_END) > MAX_TRAILER_BYTES:
            raise FramingError("the trailers are too long", 431)
        if lines.count(b"\n") != lines.count(b"\r\n"):
            raise FramingError("a trailer ends in a bare LF")
        if not end:
            self.rest = data
            return
        for line in lines.split(b"\r\n")[1:]:
            name, _ = _parse_header(line)
            if name.lower() in _NO_TRAILERS:
                raise FramingError(f"the trailer {name.decode()} is forbidden")
        self.ended = True
        self.rest = rest


class RequestReader:
    """Takes a connection's bytes by `receive`, and returns its requests in canonical form by `step`.

    It drops all bytes after an error, and after a request that closes the connection.
    """

    def __init__(self) -> None:
        self._data = b""
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self._received = 0  # bytes of the last read
        self._last = False  # the connection ends with this request
        self._blank_line = False  # one blank line before a request was skipped
        #: Bytes of the body after the last step; None unless that step returned content of a known length.
        self.content_left: int | None = None

    @property
    def in_body(self) -> bool:
        """Whether the current request's body is incomplete."""
        return self._left > 0 or self._chunks is not None

    @property
    def pending(self) -> bool:
        """Whether bytes are buffered, even if only the beginning of a head."""
        return bool(self._data)

    @property
    def wants_pause(self) -> bool:
        """Whether the last read was small and in a body: the next one must come `SMALL_READ_PAUSE` later."""
        return self.in_body and self._received < SMALL_READ_BYTES

    def receive(self, data: bytes) -> None:
        """Take the next bytes."""
        self._received = len(data)
        self._data = self._data + data if self._data else data
        self._skip()

    def step(self) -> bytes:
        """Return the next canonical bytes, of one request at most; empty without enough bytes.

        Raises:
            FramingError: these bytes are no request; the server must close the connection.
        """
        self.content_left = None
        try:
            if self._chunks is not None:
                piece = self._chunked(self._chunks)
            elif self._left:
                piece, self._data = self._data[: self._left], self._data[self._left :]
                self._left = self.content_left = self._left - len(piece)
            else:
                piece = self._head()
        except FramingError:
            self._last, self._left, self._chunks = True, 0, None
            self._skip()
            raise
        self._skip()
        return piece

    def _skip(self) -> None:
        """Drop one blank line before a request (RFC 9112, 2.2), and bytes after the last."""
        if self.in_body:
            return
        if self._last:
            self._data = b""
        elif not self._blank_line and self._data.startswith(_BLANK_LINE):
            self._data = self._data[len(_BLANK_LINE) :]
            self._blank_line = True

    def _head(self) -> bytes:
        taken = take_head(self._data)
        if taken is None:
            return b""
        head, self._data = taken
        self._last = head.closes
        self._blank_line = False
        self._left = head.length or 0
        self._chunks = ChunkedDecoder() if head.length is None else None
        return head.data

    def _chunked(self, chunks: ChunkedDecoder) -> bytes:
        content = b""
        while self._data and not content and not chunks.ended:
            size = SMALL_STEP_BYTES if chunks.small else STEP_BYTES
            content = chunks.receive(self._data[:size])
            self._data = self._data[size:]
        piece = b"%x\r\n%s\r\n" % (len(content), content) if content else b""
        if chunks.ended:
            self._data = chunks.rest + self._data
            self._chunks = None
            piece += b"0\r\n\r\n"
        return piece
