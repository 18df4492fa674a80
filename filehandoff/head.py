"""Whether a request's head has come: known as its bytes come, so that no thread need wait for the rest of it."""

#: The longest head that is taken, in bytes, for those that are not there yet wait in memory. hypercorn takes 16 KiB.
MAX_BYTES = 64 * 1024
_END = b"\r\n\r\n"


class Head:
    """The head of one request, and what came behind it.

    Attributes:
        ended: it is here, or it is none: there is an answer to it.
        too_long: it has not ended within `MAX_BYTES`.
        cut_short: the client ended its side before.
    """

    def __init__(self, max_line: int) -> None:
        self.data = bytearray()
        self.ended = self.too_long = self.cut_short = False
        self._max_line = max_line
        self._line_ended = False

    def receive(self, data: bytes) -> bool:
        """Take in the next bytes, or none at the connection's end; whether nothing more is to be waited for.

        Args:
            data: as they came.
        """
        searched = max(0, len(self.data) - len(_END) + 1)
        self.data += data
        self.ended = self.data.find(_END, searched) >= 0 or self._is_no_request_line()
        self.cut_short = not data and not self.ended
        self.too_long = len(self.data) > MAX_BYTES and not self.ended
        return self.ended or self.cut_short or self.too_long

    def _is_no_request_line(self) -> bool:
        """Whether the first line is too long, or ends in a bare LF (RFC 9112, section 2.2): an error at once."""
        if self._line_ended:
            return False
        end = self.data.find(b"\n")
        self._line_ended = end >= 0
        if self._line_ended:
            return not self.data[:end].endswith(b"\r")
        return len(self.data) > self._max_line + len(b"\r\n")
