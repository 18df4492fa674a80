"""Recognizes a request that sends one chunk of a file as if it were the file.

Upload libraries cut a large file and send each chunk as a form of its own, for a server that joins them. Stored one by
one, they would be a success and no file.
"""

import re
from collections.abc import Iterable

from filehandoff.errors import ChunkedForm

#: The fields that number a chunk and that count the chunks, in lower case, and the number of the first chunk.
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
#: Fields whose names are so common that they say something only together.
_COMMON = frozenset({"chunk", "chunknumber"})
_TOTALS = {total: index for index, total, _ in _COUNTED}
_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Chunking:
    """Takes the fields of one form, in any order, and raises ChunkedForm as soon as they say that it is a chunk."""

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
            raise chunked_form(f"Its field {(total if total in self._numbers else index)!r}")


def check_whole(content_range: str | None, query: Iterable[tuple[str, str]]) -> None:
    """Check that the head of a request does not call the body one chunk of several (`Content-Range`, or the query).

    Raises:
        ChunkedForm: it does.
    """
    if content_range:
        match = _CONTENT_RANGE.fullmatch(content_range.strip())
        first, last, length = map(int, match.groups()) if match else (0, 0, 0)
        if match is None or first > 0 or last + 1 < length:
            raise chunked_form("Its Content-Range")
    chunking = Chunking()
    for name, value in query:
        chunking.take(name, value)


def chunked_form(says: str) -> ChunkedForm:
    """The error for a chunk; `says` names the field or header that calls it one."""
    return ChunkedForm(
        f"{says} says that this is one chunk of a file, and chunks are not joined here. Nothing was stored. "
        "Send the file in one request, or a large file by 'presigned'."
    )
