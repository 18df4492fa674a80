"""Parse multipart/form-data: bytes in, fields and file chunks out, with limits (RFC 7578); sans I/O.

`filehandoff.multipart` finds the parts, `filehandoff.part_head` reads their names. This module adds the decisions of an
upload service: the error for each fault, the limit for each byte, the file for each promised digest. The decisions do
not depend on how the bytes are split.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Self, TypeAlias

from filehandoff.chunked import Chunking
from filehandoff.digest import from_content_digest, from_hex
from filehandoff.errors import (
    BodyTooLarge,
    DigestMalformed,
    FileMissing,
    FileTooLarge,
    FormError,
    FormMalformed,
    TooManyFields,
    TooManyParts,
    UnsupportedMediaType,
)
from filehandoff.keys import clean_name
from filehandoff.multipart import Mark, Multipart, Token
from filehandoff.part_head import DEFAULT_CHARSET, PartHead, charset_of, known_charset, read_parameters
from filehandoff.settings import Limits
from filehandoff.transfer import Decoder, decoder

#: A media type with parameters that S3 and every browser accept (RFC 9110, section 8.3.1).
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:[ \t]*;[\x20-\x7e]{0,200})?", re.ASCII)
#: Media types of text fields. A part of another type without a filename is a file whose client forgot the name.
_OF_FIELDS = re.compile(r"text/plain|application/(?:json|x-www-form-urlencoded)|", re.IGNORECASE)

FORM_TYPE = "multipart/form-data"
DEFAULT_CONTENT_TYPE = "application/octet-stream"

#: The text field that promises the next file's digest, and the part header that promises that of its own part.
DIGEST_FIELD = "sha256"
DIGEST_HEADER = "Content-Digest"
#: The text field that names the charset of the others (RFC 7578, section 4.6).
CHARSET_FIELD = "_charset_"


# These and the other values of each upload are not frozen: making a frozen dataclass takes several times as long.
@dataclass(slots=True)
class Field:
    """A complete text field."""

    name: str
    value: str


@dataclass(slots=True)
class FileStart:
    """A file begins; `promised` is the SHA-256 that its client promised, in lowercase hex.

    For an empty file input a browser sends an empty filename and no bytes. That is no file, and causes no event.
    """

    name: str
    filename: str
    content_type: str
    promised: str | None

    def __post_init__(self) -> None:
        """Clean the filename, for the key and for `request.files`."""
        self.filename = clean_name(self.filename)


@dataclass(slots=True)
class FileChunk:
    """The next bytes of the current file; never empty."""

    data: bytes


@dataclass(slots=True)
class FileEnd:
    """The current file is complete; `size` is in bytes."""

    size: int


Event: TypeAlias = Field | FileStart | FileChunk | FileEnd


class FormParser:
    """Takes a body's bytes, returns events, and raises a FormError for the client.

    After an error the parser is unusable: each later call raises the same error.

    Args:
        mimetype: the request's media type in lower case, without parameters.
        boundary: the media type's `boundary` parameter, None if it has none.
        content_length: the declared length of the body in bytes, None for a chunked body.
        limits: the sizes and counts that a form may have.
        coding: the request's `Content-Encoding`, empty if it has none.
    """

    def __init__(
        self, mimetype: str, boundary: str | None, content_length: int | None, limits: Limits, coding: str = ""
    ) -> None:
        check_coding(coding)
        if mimetype != FORM_TYPE:
            raise UnsupportedMediaType(f"The body is {mimetype or 'of no type'}; send multipart/form-data.")
        self._multipart = Multipart(boundary)
        self.limits = limits
        if content_length is not None and content_length > limits.body_bytes:
            self._body_too_large()
        self._declared = content_length
        self._received = 0
        self._charset: str | None = None
        self._chunking = Chunking()
        self._field_bytes = 0
        self._promised: str | None = None
        self._waiting: FileStart | None = (
            None  # a file with an empty name, which counts as a file from its first byte on
        )
        self._head = PartHead("", None, ())
        self._decoder: Decoder | None = None
        self._file_bytes = 0
        self._text = bytearray()
        self._error: FormError | None = None

    @classmethod
    def of(cls, content_type: str, content_length: int | None, limits: Limits, coding: str = "") -> Self:
        """Return a parser for a request with this unparsed `Content-Type`.

        Frameworks parse the header more strictly than clients write it, and cut `boundary=a/b` to `a`.
        """
        mimetype = content_type.partition(";")[0].strip(" \t").lower()
        try:
            boundary = read_parameters(content_type)[1].get("boundary")
        except ValueError as error:
            if mimetype == FORM_TYPE:
                raise FormMalformed(f"The Content-Type of the request {error}.") from None
            boundary = None
        return cls(mimetype, boundary, content_length, limits, coding)

    def receive(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes and yield their events, which the caller must consume."""
        if self._error is not None:
            raise self._error
        try:
            room = self.limits.body_bytes - self._received
            self._received += len(chunk)
            # The bytes within the limit come first: an error in them is raised no matter how the bytes are split.
            for token in self._multipart.receive(chunk[:room]):
                yield from self._take(token)
            if len(chunk) > room:
                self._body_too_large()
        except FormError as error:
            self._error = error
            raise

    def finish(self) -> None:
        """End the body.

        Raises:
            FormMalformed: the last boundary is missing, or the body is shorter than declared.
        """
        if self._error is not None:
            raise self._error
        cut_short = self._received < (self._declared or 0)
        if self._multipart.complete and not cut_short:
            return
        text = "The body ends before its declared length; it was cut short."
        if not self._multipart.complete:
            text = "The form ends before its last boundary; it was cut short."
            if not self._multipart.parts:
                text = "No line of the body begins with the boundary from the Content-Type."
        self._error = FormMalformed(text, cut_short=cut_short)
        raise self._error

    def _take(self, token: Token) -> Iterator[Event]:
        if isinstance(token, bytes):
            yield from self._encoded(token)
        elif isinstance(token, list):
            yield from self._part_starts(PartHead.of(token, self._multipart.parts, self._charset))
        elif token is Mark.PART_END:
            yield from self._part_ends()
        elif token is Mark.PART:
            if self._multipart.parts > self.limits.form_parts:
                raise TooManyParts(f"The form has more than {self.limits.form_parts} parts.")
        elif self._promised is not None:
            self._promise_without_file()

    def _part_starts(self, head: PartHead) -> Iterator[Event]:
        self._head = head
        self._decoder = decoder(head.value("content-transfer-encoding"), self._multipart.parts)
        self._text = bytearray()
        self._file_bytes = 0
        self._waiting = None
        if head.filename is None:
            return
        content_type = head.value("content-type")
        self._waiting = FileStart(
            head.name,
            head.filename,
            content_type if is_media_type(content_type) else DEFAULT_CONTENT_TYPE,
            self._promise_for(head),
        )
        if head.filename:
            yield from self._file_starts()

    def _promise_for(self, head: PartHead) -> str | None:
        headers = head.values(DIGEST_HEADER.lower())
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

    def _encoded(self, data: bytes) -> Iterator[Event]:
        if self._decoder is None:
            yield from self._decoded(data)
        else:
            for decoded in self._decoder.decode(data):
                yield from self._decoded(decoded)

    def _decoded(self, data: bytes) -> Iterator[Event]:
        if not data:
            return
        if self._head.filename is None:
            self._field_bytes += len(data)
            if self._field_bytes > self.limits.field_bytes:
                self._field_too_large()
            self._text += data
            return
        self._file_bytes += len(data)
        if self._file_bytes > self.limits.file_bytes:
            raise FileTooLarge(f"A file has more than {self.limits.file_bytes} bytes.")
        yield from self._file_starts()
        yield FileChunk(data)

    def _field_too_large(self) -> NoReturn:
        media_type = self._head.value("content-type").partition(";")[0].strip(" \t")
        if self.limits.is_file_field(self._head.name) or not _OF_FIELDS.fullmatch(media_type):
            raise FileMissing(f"Part {self._multipart.parts}, {self._head.name!r}, has no filename, so it is no file.")
        raise TooManyFields(f"The form's text fields hold more than {self.limits.field_bytes} bytes.")

    def _part_ends(self) -> Iterator[Event]:
        if self._decoder is not None:
            yield from self._decoded(self._decoder.finish())
        if self._head.filename is None:
            yield self._field()
        elif self._waiting is None:
            yield FileEnd(self._file_bytes)

    def _field(self) -> Field:
        name = self._head.name
        charset = charset_of(self._head.value("content-type")) or self._charset or DEFAULT_CHARSET
        field = Field(name, self._text.decode(charset, "replace"))
        self._chunking.take(name, field.value)
        if name == CHARSET_FIELD:
            self._charset = known_charset(field.value)
        if name == DIGEST_FIELD:
            if self._promised is not None:
                self._promise_without_file()
            self._promised = from_hex(field.value)
        return field

    def _promise_without_file(self) -> NoReturn:
        raise DigestMalformed("A field 'sha256' must come before its file, and no file follows this one.")

    def _body_too_large(self) -> NoReturn:
        raise BodyTooLarge(f"The request has more than {self.limits.body_bytes} bytes.")


def check_coding(coding: str) -> None:
    """Reject a compressed body, whose size is unknown until it is unpacked.

    Raises:
        UnsupportedMediaType: it is compressed; `Accept-Encoding` has the accepted coding (RFC 9110, section 15.5.16).
    """
    if coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"The body has the Content-Encoding '{coding.strip()[:40]}'; send it uncompressed.",
            headers={"Accept-Encoding": "identity"},
        )


def is_media_type(text: str) -> bool:
    """Whether S3 and every browser accept this media type, with or without parameters."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def file_missing(limits: Limits) -> FileMissing:
    """Return the error for a form without a file."""
    *others, last = (repr(name) for name in limits.file_fields)
    names = f"{', '.join(others)} or {last}" if others else last
    return FileMissing(f"Send the file in a form field named {names}, with a filename.")
