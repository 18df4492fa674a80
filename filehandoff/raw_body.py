"""Check a request body that is one file without a form.

`curl -T`, `curl --data-binary` and Uppy without `formData` send a file this way.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NoReturn

from filehandoff.chunked import check_whole
from filehandoff.digest import from_content_digest
from filehandoff.errors import DigestMalformed, FileMissing, FileTooLarge, FormMalformed
from filehandoff.form import DEFAULT_CONTENT_TYPE, FORM_TYPE, FileStart, check_coding, is_media_type
from filehandoff.http import joined
from filehandoff.part_head import read_filename
from filehandoff.settings import Limits

#: Request headers that promise the body's digest. Without a Content-Encoding both mean the same bytes (RFC 9530).
_DIGESTS = ("content-digest", "repr-digest")
_FIELDS = frozenset(
    {"content-disposition", "content-encoding", "content-range", "content-type", "transfer-encoding", *_DIGESTS}
)
#: Types of a form, not of a file; curl sends the first one by default.
_FORM_TYPES = ("application/x-www-form-urlencoded", FORM_TYPE)


class RawBody:
    """A file that is the whole body: call `receive` with each chunk, then `finish`.

    Args:
        name: the file's name in the path; if empty, `Content-Disposition` may have one.
        headers: the request's headers, as pairs of a name in any case and a value.
        content_length: the declared length of the body in bytes, None for a chunked body.
        limits: `file_bytes` limits the body.

    Attributes:
        start: the file's name, media type and promised digest.

    Raises:
        FileMissing: the request has neither a body nor a media type.
        FileTooLarge: the declared length exceeds the limit.
        DigestMalformed: a digest header is malformed, or two of them differ.
        UnsupportedMediaType: the body is compressed.
        ChunkedForm: the `Content-Range` describes one chunk of a file.
    """

    def __init__(
        self, name: str, headers: Iterable[tuple[str, str]], content_length: int | None, limits: Limits
    ) -> None:
        fields = joined(headers, _FIELDS)
        check_coding(fields.get("content-encoding", ""))
        check_whole(fields.get("content-range"), ())
        content_type = fields.get("content-type", "").strip()
        if not content_type and not content_length and "transfer-encoding" not in fields:
            raise FileMissing("Send the file as the body of the request, or in a form.")
        if content_length is not None and content_length > limits.file_bytes:
            _refuse_size(limits)
        name = name or _filename(fields.get("content-disposition", ""))
        self.start = FileStart("file", name, _media_type(content_type), _promised(fields))
        self._limits = limits
        self._declared = content_length
        self._received = 0

    def receive(self, chunk: bytes) -> bytes:
        """Count the next bytes of the body and return them.

        Raises:
            FileTooLarge: the body exceeds the limit.
        """
        self._received += len(chunk)
        if self._received > self._limits.file_bytes:
            _refuse_size(self._limits)
        return chunk

    def finish(self) -> None:
        """Check that the whole body has arrived.

        Raises:
            FormMalformed: the body is shorter than declared.
        """
        if self._received < (self._declared or 0):
            raise FormMalformed("The body ends before its declared length; it was cut short.", cut_short=True)


def _filename(disposition: str) -> str:
    # Servers decode headers as Latin-1; clients encode them in UTF-8.
    with suppress(UnicodeError):
        disposition = disposition.encode("latin-1").decode()
    return read_filename(disposition)


def _media_type(text: str) -> str:
    return text if is_media_type(text) and not text.lower().startswith(_FORM_TYPES) else DEFAULT_CONTENT_TYPE


def _promised(fields: Mapping[str, str]) -> str | None:
    promised = {from_content_digest(fields[name]) for name in _DIGESTS if name in fields} - {None}
    if len(promised) > 1:
        raise DigestMalformed("Content-Digest and Repr-Digest promise different digests for one body.")
    return promised.pop() if promised else None


def _refuse_size(limits: Limits) -> NoReturn:
    raise FileTooLarge(f"The file has more than {limits.file_bytes} bytes.")
