"""Recognize a request that sends one chunk of a file instead of the whole file.

Upload libraries cut a large file and send each chunk as a form of its own, for a server that joins them. A server that
stored each chunk would report success and lose the file.
"""

import re
from collections.abc import Iterable

from filehandoff.errors import ChunkedForm

#: For each library: the field with the chunk's number, the field with their count, and the first chunk's number.
_COUNTED = (
    ("dzchunkindex", "dztotalchunkcount", 0),  # Dropzone
    ("resumablechunknumber", "resumabletotalchunks", 1),  # Resumable.js
    ("flowchunknumber", "flowtotalchunks", 1),  # Flow.js
    ("chunknumber", "totalchunks", 1),  # simple-uploader.js
    ("qqpartindex", "qqtotalparts", 0),  # Fine Uploader
    ("chunk", "chunks", 0),  # Plupload, WebUploader
    ("chunk-index", "total-chunk", 0),  # Syncfusion
)
_NUMBERING = {index: (total, first) for index, total, first in _COUNTED}
#: Fields with such common names that they count only together with their partner.
_COMMON = frozenset({"chunk", "chunknumber"})
_TOTALS = {total: index for index, total, _ in _COUNTED}
_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Chunking:
    """Reads one form's fields in any order, and raises ChunkedForm once they describe a chunk."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def take(self, name: str, value: str) -> None:
        """Take the next field."""
        name = name.lower()
        if (name in _NUMBERING or name in _TOTALS) and _NUMBER.fullmatch(value):
            self._numbers[name] = int(value)
            self._check(_TOTALS.get(name, name))

    def _check(self, index: str) -> None:
        total, first = _NUMBERING[index]
        if index in _COMMON and not {index, total} <= self._numbers.keys():
            return
        if self._numbers.get(total, 1) > 1 or self._numbers.get(index, first) > first:
            raise chunked_form(f"The field {(total if total in self._numbers else index)!r}")


def check_whole(content_range: str | None, query: Iterable[tuple[str, str]]) -> None:
    """Check that neither the `Content-Range` nor the query describes one chunk of several.

    Raises:
        ChunkedForm: one of them does.
    """
    if content_range:
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        first, last, length = map(int, match.groups()) if match else (0, 0, 0)
        if match is None or first > 0 or last + 1 < length:
            raise chunked_form("The Content-Range")
    chunking = Chunking()
    for name, value in query:
        chunking.take(name, value)


def chunked_form(source: str) -> ChunkedForm:
    """Return the error for a chunk; `source` names the field or header that describes it."""
    return ChunkedForm(
        f"{source} describes one chunk of a file, and this service joins no chunks. Nothing was stored. "
        "Send the whole file in one request, or a large file by 'presigned'."
    )
