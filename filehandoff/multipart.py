"""Split a multipart body into its parts (RFC 2046, section 5.1); sans I/O.

The parser must neither lose a part nor join two. So a line that begins with the delimiter ends a part, even after a
bare LF, and even if the part has no body. Bytes that can only be a broken delimiter are an error.
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cached_property
from typing import TypeAlias

from filehandoff.errors import FormMalformed

#: Bytes of a line in a part's head, without its CRLF.
MAX_LINE_BYTES = 4096
#: Lines of a part's head, including folded ones.
MAX_LINES = 16
#: Characters of a boundary. RFC 2046 permits 70; clients send more.
MAX_BOUNDARY = 250
#: Bytes of white space after a delimiter, which receivers must accept (RFC 2046).
MAX_PADDING = 1024

#: Any visible ASCII character, since clients send many that RFC 2046 forbids; the last one cannot be a space.
_BOUNDARY = re.compile(rf"[\x20-\x7e]{{0,{MAX_BOUNDARY - 1}}}[\x21-\x7e]")
_PADDING = rb"[ \t]{0,%d}+" % MAX_PADDING
_PART_LINE = re.compile(_PADDING + rb"\r\n")
_END_LINE = re.compile(_PADDING + rb"\r?\n")
_UNENDED_LINE = re.compile(rb"-|" + _PADDING + rb"\r?")
_BARE_LF = re.compile(_PADDING + rb"\n")
_HEADER = rb"\r?\n[Cc]ontent-"
_CUT_HEADER = rb"\r?\n?[Cc]?o?n?t?e?n?t?"
_FIRST_BYTE = re.compile(rb"[\r\n-]")


class Mark(Enum):
    """Events in a body without bytes of their own."""

    PART = "a part begins"
    PART_END = "the part has ended"
    END = "the last delimiter has come"


#: A mark, the lines of a part's head, or the next bytes of the current part, never empty.
Token: TypeAlias = Mark | list[bytes] | bytes
_Step: TypeAlias = tuple[tuple[Token, ...], int | None]


class Multipart:
    """Takes bytes by `receive`, yields tokens, independent of the split of the bytes.

    A chunk entirely inside a part is yielded as the same object, without a copy.

    Raises:
        FormMalformed: the boundary is invalid, or the body is broken; the parser is then unusable.
    """

    def __init__(self, boundary: str | None) -> None:
        if not boundary or not _BOUNDARY.fullmatch(boundary):
            raise FormMalformed(
                f"The Content-Type has no usable boundary parameter, of 1 to {MAX_BOUNDARY} visible ASCII characters."
            )
        self._delimiter = b"--" + boundary.encode("ascii")
        self._begins = (b"\r\n" + self._delimiter, b"\n" + self._delimiter, self._delimiter)
        self._state: Callable[[bytes, int], _Step] = self._preamble
        self._held = b""  # bytes whose meaning depends on the following ones
        self._at_line_start = True
        self._seen = b"\n"  # the end of the preamble
        self._lines: list[bytes] = []
        #: Number of parts that have begun.
        self.parts = 0
        #: Whether the last delimiter has arrived.
        self.complete = False

    # Each form has a boundary of its own, and compiling these takes as long as storing a small file. Most forms need
    # none of them.

    @cached_property
    def _line(self) -> re.Pattern[bytes]:
        """A delimiter after a CRLF; after a bare LF, if its line ends like a delimiter's; amiss: before a part."""
        quoted = re.escape(self._delimiter)
        return re.compile(
            rb"\r\n%b|\n%b(?=--|%b\r?\n)|(?P<amiss>%b(?=%b%b))" % (quoted, quoted, _PADDING, quoted, _PADDING, _HEADER)
        )

    @cached_property
    def _cut_line(self) -> re.Pattern[bytes]:
        """A delimiter whose line has not ended."""
        return re.compile(re.escape(self._delimiter) + rb"-?" + _PADDING + _CUT_HEADER + rb"\Z")

    @cached_property
    def _suspect(self) -> re.Pattern[bytes]:
        """A sign of a part before the first delimiter."""
        boundary = re.escape(self._delimiter[2:])
        return re.compile(rb"[\r\n][ \t]{0,9}(?:--|-?%b)|(?i:content-disposition)" % boundary)

    def receive(self, chunk: bytes) -> Iterator[Token]:
        """Take the next bytes of the body."""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        at: int | None = 0
        while at is not None and at < len(data):
            tokens, at = self._state(data, at)
            yield from tokens

    def _hold(self, data: bytes, start: int, *tokens: Token) -> _Step:
        self._held = data[start:]
        return tokens, None

    def _preamble(self, data: bytes, at: int) -> _Step:
        """Skip the bytes before the first delimiter; reject a part after a broken one."""
        end, after, amiss = self._find_delimiter(data, at)
        seen = self._seen + data[at:end]
        if amiss or (len(seen) > 1 and self._suspect.search(seen)):
            raise FormMalformed("The bytes before the first boundary look like a part after a broken boundary.")
        self._seen = seen[-(len(self._delimiter) + 32) :]
        if after is None:
            return self._hold(data, end)
        self._state = self._delimiter_line
        return (), after

    def _data(self, data: bytes, at: int) -> _Step:
        """Return a part's bytes up to the next delimiter."""
        end, after, amiss = self._find_delimiter(data, at)
        tokens: tuple[Token, ...] = (data[at:end],) if end > at else ()
        if after is None:
            return self._hold(data, end, *tokens)
        if amiss:
            self._state = self._amiss
            return tokens, end
        self._state = self._delimiter_line
        return (*tokens, Mark.PART_END), after

    def _amiss(self, _data: bytes, _at: int) -> _Step:
        raise FormMalformed(f"The boundary after part {self.parts} does not begin a line.")

    def _find_delimiter(self, data: bytes, at: int) -> tuple[int, int | None, bool]:
        """Find the next delimiter.

        Return the end of the bytes before it, its own end if it is complete, and whether it is amiss.
        """
        if self._at_line_start:
            if data.startswith(self._delimiter, at):
                return at, at + len(self._delimiter), False
            if self._delimiter.startswith(data[at : at + len(self._delimiter)]):
                return at, None, False
            self._at_line_start = False
        first = data.find(self._delimiter, at)
        if first >= at + 2 and data.startswith(b"\r\n", first - 2):
            return first - 2, first + len(self._delimiter), False
        if first >= 0 and (found := self._line.search(data, max(at, first - 2))):
            return found.start(), found.end(), found["amiss"] is not None
        return self._undecided(data, at), None, False

    def _undecided(self, data: bytes, at: int) -> int:
        """Return the start of the trailing bytes that may become a delimiter."""
        last = data.rfind(self._delimiter, max(at, len(data) - len(self._delimiter) - MAX_PADDING - 16))
        if last >= 0 and self._cut_line.match(data, last):
            while last > at and data[last - 1] in b"\r\n":
                last -= 1
            return last
        for candidate in _FIRST_BYTE.finditer(data, max(at, len(data) - len(self._delimiter) - 1)):
            rest = data[candidate.start() :]
            if any(whole.startswith(rest) for whole in self._begins):
                return candidate.start()
        return len(data)

    def _delimiter_line(self, data: bytes, at: int) -> _Step:
        """Read the rest of a delimiter's line: nothing, or two hyphens after the last delimiter."""
        if data.startswith(b"--", at):
            self.complete = True
            self._state = self._last_line
            return (Mark.END,), at + 2
        if line := _PART_LINE.match(data, at):
            self.parts += 1
            self._state = self._head
            return (Mark.PART,), line.end()
        if _UNENDED_LINE.fullmatch(data, at):
            return self._hold(data, at)
        if _BARE_LF.match(data, at):
            raise FormMalformed(f"The boundary before part {self.parts + 1} ends with a bare LF; lines end with CRLF.")
        raise FormMalformed(f"The boundary before part {self.parts + 1} is followed by other text.")

    def _last_line(self, data: bytes, at: int) -> _Step:
        if line := _END_LINE.match(data, at):
            self._state = self._epilogue
            return (), line.end()
        if _UNENDED_LINE.fullmatch(data, at) and data[at:] != b"-":
            return self._hold(data, at)
        raise FormMalformed("The last boundary is followed by other text.")

    def _epilogue(self, _data: bytes, _at: int) -> _Step:
        return (), None

    def _head(self, data: bytes, at: int) -> _Step:
        """Read the next line of a part's head."""
        end = data.find(b"\r\n", at)
        length = (end if end >= 0 else len(data) - 1) - at  # the last byte may be a CR whose LF has not arrived
        if length > MAX_LINE_BYTES:
            raise FormMalformed(f"Part {self.parts} has a header line of more than {MAX_LINE_BYTES} bytes.")
        if end < 0:
            return self._hold(data, at)
        if not length:
            lines, self._lines = self._lines, []
            self._state = self._data
            self._at_line_start = True
            return (lines,), end + 2
        line = data[at:end]
        if b"\r" in line or b"\n" in line:
            raise FormMalformed(f"Part {self.parts} has a bare CR or LF in a header line.")
        self._lines.append(line)
        if len(self._lines) > MAX_LINES:
            raise FormMalformed(f"Part {self.parts} has more than {MAX_LINES} header lines.")
        return (), end + 2
