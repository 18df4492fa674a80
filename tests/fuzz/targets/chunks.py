"""Chunked bodies: the content is that of an independent reading, and every own chunk returns."""

import re
from collections.abc import Iterable

from fuzz.inputs import expanded, fields, pieces

from filehandoff.framing import MAX_CHUNK_LINE, MAX_TRAILER_BYTES, ChunkedDecoder, FramingError

WORDS = (
    b"0\r\n\r\n",
    b"\r\n5\r\nhello",
    b"1;a=b\r\n",
    b';a="\\""',
    b"0\r\nX-A: b\r\n\r\n",
    b"\xff\xffa",
    b"\xff\x0d0",
    b"\r\n",
)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[^\r\n]*)?\r\n")


def check(data: bytes) -> None:
    """Decode chunks whole and in pieces, and encode the input as chunks."""
    sizes, sent = fields(data, 2)
    sent = expanded(sent)
    whole = decode([sent])
    assert decode(pieces(sent, sizes)) == whole, "another split causes another content"
    if whole:
        content, ended, rest = whole
        expected, after = read_whole(sent)
        assert content == expected, "the content is not that of the chunks"
        assert ended == (after is not None), "the end is not that of the chunks"
        assert not ended or rest == after, "the rest is not that of the chunks"
    check_round_trip(sent, sizes)


def decode(split: Iterable[bytes]) -> tuple[bytes, bool, bytes] | None:
    """Return the content, whether it has ended, the bytes after it; None after an error."""
    decoder, content, rest = ChunkedDecoder(), b"", b""
    try:
        for piece in split:
            if decoder.ended:
                rest += piece
            else:
                content += decoder.receive(piece)
                rest = decoder.rest if decoder.ended else b""
                assert len(decoder.rest) <= MAX_CHUNK_LINE + MAX_TRAILER_BYTES or decoder.ended, "too much is held back"
    except FramingError as error:
        assert 400 <= error.status < 600, "the error has no status"
        return None
    return content, decoder.ended, rest


def read_whole(sent: bytes) -> tuple[bytes, bytes | None]:
    """Return the content of accepted chunks, and the bytes after them if they have ended."""
    content, at = b"", 0
    while match := _SIZE.match(sent, at):
        at, size = match.end(), int(match[1], 16)
        if size == 0:
            _, end, rest = (b"\r\n" + sent[at:]).partition(b"\r\n\r\n")
            return content, rest if end else None
        content += sent[at : at + size]
        at += size + 2
    return content, None


def check_round_trip(content: bytes, sizes: bytes) -> None:
    """Check that the input returns from chunks of its own."""
    split = pieces(content, sizes)
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in split)
    assert decode([sent + b"0\r\n\r\nGET"]) == (content, True, b"GET"), "a content changes in chunks"
