"""Chunks of upload libraries: the order of a form's fields decides nothing, and one documented error."""

from fuzz.inputs import fields, texts

from filehandoff.chunked import Chunking, check_whole
from filehandoff.errors import ChunkedForm

WORDS = (
    b"dzchunkindex",
    b"dztotalchunkcount",
    b"resumableChunkNumber",
    b"resumableTotalChunks",
    b"chunkNumber",
    b"totalChunks",
    b"chunk",
    b"chunks",
    b"qqpartindex",
    b"qqtotalparts",
    b"bytes 0-4/5",
    b"bytes 0-*/5",
    b"000000000000000001",
)


def check(data: bytes) -> None:
    """Read pairs of name and value as fields and as a query, and the rest as a Content-Range."""
    header, *lines = fields(data, 9, b"\n")
    pairs = {name.lower(): value for name, value in (texts(line, 2, b"=") for line in lines)}
    forward, backward = is_chunk(list(pairs.items())), is_chunk(list(pairs.items())[::-1])
    assert forward == backward, "the order of the fields decides"
    assert forward == raises(None, list(pairs.items())), "a query is read like no form"
    text = header.decode("latin-1")
    if not raises(text, []):
        assert not text or whole_length(text) is not None, "a part of a file counts as a whole file"


def is_chunk(pairs: list[tuple[str, str]]) -> bool:
    """Return whether a form with these fields is a chunk."""
    chunking = Chunking()
    try:
        for name, value in pairs:
            chunking.take(name, value)
    except ChunkedForm:
        return True
    return False


def raises(content_range: str | None, query: list[tuple[str, str]]) -> bool:
    """Return whether the head of a request describes a chunk."""
    try:
        check_whole(content_range, query)
    except ChunkedForm:
        return True
    return False


def whole_length(content_range: str) -> int | None:
    """Return the length of a file whose range is the whole file."""
    span, _, length = content_range.strip().partition("/")
    unit, first, last = [*span.replace("-", " ").split(), "", "", ""][:3]
    whole = unit.lower() == "bytes" and int(first) == 0 and int(last) + 1 >= int(length)
    return int(length) if whole else None
