"""multipart/form-data bytes in, fields and file chunks out, with limits (RFC 7578): a sans-I/O object.

The library `multipart` finds the parts; this module adds what an upload service has to decide, the same for every
way the bytes may be split: what is an error and which, what counts against which limit, and which file a promised
digest belongs to.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, override

from multipart import MultipartError, MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from handoff.digest import from_content_digest, from_hex
from handoff.errors import (
    BodyTooLarge,
    DigestMalformed,
    FileTooLarge,
    FormError,
    FormMalformed,
    TooManyFields,
    TooManyParts,
    UnsupportedMediaType,
)
from handoff.keys import clean_name
from handoff.settings import Limits

#: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
#: A media type with parameters, as S3 and every browser take it back (RFC 9110, section 8.3.1).
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:[ \t]*;[\x20-\x7e]{0,200})?", re.ASCII)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})

_MAX_HEADER_BYTES = 4096
_MAX_HEADERS = 8
FORM_TYPE = "multipart/form-data"
DEFAULT_CONTENT_TYPE = "application/octet-stream"

#: Part headers of which only one can be meant: whoever looks at the form before us may mean another.
_ONLY_ONCE = ("Content-Disposition", "Content-Type", "Content-Length")

#: The text field that promises the digest of the next file, and the part header that does so for its own.
DIGEST_FIELD = "sha256"
DIGEST_HEADER = "Content-Digest"


@dataclass(frozen=True, slots=True)
class Field:
    """A text field, whole."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins; `promised` is its SHA-256 in lowercase hex, if the client gave one.

    An empty filename with no bytes is what a browser sends for an empty file input: that is no file, and no event.
    """

    name: str
    filename: str
    content_type: str
    promised: str | None

    def __post_init__(self) -> None:
        """Clean the name, for the key and for `request.files`."""
        object.__setattr__(self, "filename", clean_name(self.filename))


@dataclass(frozen=True, slots=True)
class FileChunk:
    """The next bytes of the file that began last; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file that began last is complete; its size in bytes."""

    size: int


type Event = Field | FileStart | FileChunk | FileEnd


class _Parser(PushMultipartParser):  # type: ignore[misc] # the library ships no types
    """The library's parser, stricter where what it makes of a header line depends on how the line is split."""

    @override
    def _on_segment_headerline(self, line: bytes) -> None:
        # A bare LF is an error there only in a line that is not complete yet, and white space around a name is lost.
        if b"\n" in line or b"\r" in line:
            raise ParserError("Bare line end in a header")
        if len(line) > _MAX_HEADER_BYTES:
            raise ParserError("Header line too long")
        super()._on_segment_headerline(line)


class FormParser:
    """Bytes in by `receive` and `finish`, events out; raises the FormError that the client is to be told.

    After an error the parser is done for: the next call raises the same error.

    Args:
        mimetype: the request's media type in lower case, without parameters.
        boundary: its `boundary` parameter, None if there is none.
        content_length: the declared length of the body in bytes, None if it is chunked.
        limits: what a form may hold.
        coding: the request's `Content-Encoding`, empty if it has none.
    """

    def __init__(
        self, mimetype: str, boundary: str | None, content_length: int | None, limits: Limits, coding: str = ""
    ) -> None:
        check_coding(coding)
        if mimetype != FORM_TYPE:
            raise UnsupportedMediaType(f"The body is {mimetype or 'of no type'}; send multipart/form-data.")
        if not boundary or not _BOUNDARY.fullmatch(boundary):
            raise FormMalformed("The Content-Type has no usable boundary parameter (RFC 2046, section 5.1.1).")
        self._limits = limits
        if content_length is not None and content_length > limits.body_bytes:
            self._body_too_large()
        self._first_delimiter = b"\r\n--" + boundary.encode("ascii")
        self._parser = _Parser(
            boundary,
            max_header_size=_MAX_HEADER_BYTES + 1,  # it counts the CR of a line whose LF has not come yet
            max_header_count=_MAX_HEADERS,
            max_segment_count=limits.form_parts,
        )
        self._preamble: bytes | None = b"\r\n"  # None once the first delimiter was found
        self._declared = content_length
        self._received = 0
        self._parts = 0
        self._field_bytes = 0
        self._promised: str | None = None
        self._waiting: FileStart | None = None  # a file without a name, which is none until it has a byte
        self._file_bytes = 0
        self._text: bytearray | None = None
        self._segment: MultipartSegment | None = None
        self._error: FormError | None = None

    def receive(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes of the body; what they hold comes as events, which must be consumed."""
        if self._error is not None:
            raise self._error
        try:
            room = self._limits.body_bytes - self._received
            self._received += len(chunk)
            # What fits is read first: an error in it counts, however the bytes were split.
            if within := self._skip_preamble(chunk[:room]):
                for item in self._parser.parse(within):
                    yield from self._take(item)
            if len(chunk) > room:
                self._body_too_large()
        except FormError as error:
            self._error = error
            raise
        except MultipartError as error:
            self._error = self._from_library(error)
            raise self._error from error

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            FormMalformed: the last boundary is missing, or what was declared to follow it: the form was cut short.
            DigestMalformed: a digest was promised for a file that never came.
        """
        if self._error is not None:
            raise self._error
        try:
            self._parser.close()
        except MultipartError as error:
            cut_short = self._received < (self._declared or 0)
            self._error = FormMalformed(
                "The form ends before its last boundary; it was cut short.", cut_short=cut_short
            )
            raise self._error from error
        if self._received < (self._declared or 0):
            self._error = FormMalformed("The body ends before its declared length; it was cut short.", cut_short=True)
            raise self._error
        if self._promised is not None:
            self._error = DigestMalformed("A field 'sha256' must come before its file, and no file follows this one.")
            raise self._error

    def _skip_preamble(self, chunk: bytes) -> bytes:
        # Done here because what the library makes of a preamble depends on how it is split.
        if self._preamble is None:
            return chunk
        seen = self._preamble + chunk
        index = seen.find(self._first_delimiter)
        if index < 0:
            self._preamble = seen[-(len(self._first_delimiter) - 1) :]
            return b""
        self._preamble = None
        return seen[index + 2 :]

    def _take(self, item: MultipartSegment | bytes | None) -> Iterator[Event]:
        if isinstance(item, MultipartSegment):
            yield from self._part_starts(item)
        elif item is not None:
            yield from self._part_goes_on(item)
        else:
            yield from self._part_ends()

    def _part_starts(self, segment: MultipartSegment) -> Iterator[Event]:
        self._parts += 1
        if not segment.name:
            raise FormMalformed(f"Part {self._parts} has no name (RFC 7578, section 4.2).")
        headers = [name for name, _ in segment.headerlist]
        if twice := next((name for name in _ONLY_ONCE if headers.count(name) > 1), None):
            raise FormMalformed(f"Part {self._parts} has several {twice} headers.")
        self._segment = segment
        self._text = bytearray() if segment.filename is None else None
        self._file_bytes = 0
        # The library holds a part to its own Content-Length, but how much of it we see then depends on the split.
        self._check_room(int(segment.header("Content-Length", "0")))
        if segment.filename is None:
            return
        promised = self._promise_for(segment)
        self._waiting = FileStart(segment.name, segment.filename, _content_type(segment), promised)
        if segment.filename:
            yield from self._file_starts()

    def _promise_for(self, segment: MultipartSegment) -> str | None:
        headers = [value for name, value in segment.headerlist if name == DIGEST_HEADER]
        if len(headers) > 1:
            raise DigestMalformed("A part may have one Content-Digest header.")
        header = from_content_digest(headers[0]) if headers else None
        if self._promised is not None and header is not None and self._promised != header:
            raise DigestMalformed("The field 'sha256' and the Content-Digest promise different digests for one file.")
        return self._promised if self._promised is not None else header

    def _file_starts(self) -> Iterator[Event]:
        if (start := self._waiting) is not None:
            self._waiting = self._promised = None
            yield start

    def _part_goes_on(self, data: bytes) -> Iterator[Event]:
        self._check_room(len(data))
        if self._text is not None:
            self._field_bytes += len(data)
            self._text += data
            return
        self._file_bytes += len(data)
        yield from self._file_starts()
        yield FileChunk(data)

    def _check_room(self, more: int) -> None:
        if self._text is not None and self._field_bytes + more > self._limits.field_bytes:
            raise TooManyFields(f"The form's text fields hold more than {self._limits.field_bytes} bytes.")
        if self._text is None and self._file_bytes + more > self._limits.file_bytes:
            raise FileTooLarge(f"A file has more than {self._limits.file_bytes} bytes.")

    def _part_ends(self) -> Iterator[Event]:
        segment = self._segment
        assert segment is not None
        if self._text is None:
            if self._waiting is None:
                yield FileEnd(self._file_bytes)
            return
        field = Field(segment.name, _decode(segment, self._text))
        if field.name == DIGEST_FIELD:
            if self._promised is not None:
                raise DigestMalformed("A field 'sha256' must come before its file, and no file follows this one.")
            self._promised = from_hex(field.value)
        yield field

    def _from_library(self, error: MultipartError) -> FormError:
        # Once the last part allowed has begun, the only limit of the library's that is left is the one on parts.
        if isinstance(error, ParserLimitReached) and self._parts == self._limits.form_parts:
            return TooManyParts(f"The form has more than {self._limits.form_parts} parts.")
        text = str(error.args[0])
        return FormMalformed(f"The form is broken: {text[:1].lower()}{text[1:]}.")

    def _body_too_large(self) -> NoReturn:
        raise BodyTooLarge(f"The request has more than {self._limits.body_bytes} bytes.")


def check_coding(coding: str) -> None:
    """Take a body as it is, and no other: what a compressed one holds is known only when it was unpacked.

    Raises:
        UnsupportedMediaType: it is compressed; `Accept-Encoding` says what is taken (RFC 9110, section 15.5.16).
    """
    if coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"The body has the Content-Encoding '{coding.strip()[:40]}'; send it as it is.",
            headers={"Accept-Encoding": "identity"},
        )


def is_media_type(text: str) -> bool:
    """Whether this is a media type, with or without parameters, such as S3 and every browser take back."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def _content_type(segment: MultipartSegment) -> str:
    value = (segment.header("Content-Type") or "").strip()
    return value if is_media_type(value) else DEFAULT_CONTENT_TYPE


def _decode(segment: MultipartSegment, text: bytearray) -> str:
    charset = (segment.charset or "utf-8").lower()
    try:
        return text.decode(charset if charset in _CHARSETS else "utf-8")
    except UnicodeDecodeError:
        raise FormMalformed(f"The field {segment.name!r} is not text in {charset}.") from None
