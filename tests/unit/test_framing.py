"""Framing: a connection's bytes have one meaning, independent of their split."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.framing import (
    MAX_CHUNK_LINE,
    MAX_HEAD_BYTES,
    MAX_HEADER_LINE,
    MAX_HEADERS,
    MAX_REQUEST_LINE,
    MAX_TRAILER_BYTES,
    SMALL_READ_BYTES,
    SMALL_STEP_BYTES,
    ChunkedDecoder,
    FramingError,
    RequestReader,
    is_decided,
    parse_head,
)

HOST = b"Host: here\r\n"


def post(*lines: bytes, target: bytes = b"/", minor: int = 1) -> bytes:
    """Return a head with a Host and these header lines."""
    return b"\r\n".join((b"POST %s HTTP/1.%d" % (target, minor), b"Host: here", *lines, b"", b""))


def read(*pieces: bytes) -> bytes:
    """Return all output of a connection with these pieces."""
    reader, out = RequestReader(), b""
    for piece in pieces:
        reader.receive(piece)
        while reader.pending and (data := reader.step()):
            out += data
    return out


def decode(*pieces: bytes) -> tuple[bytes, bool, bytes]:
    """Return the content of these chunks, whether they ended, and the bytes after them."""
    decoder = ChunkedDecoder()
    content = b"".join([decoder.receive(piece) for piece in pieces])
    return content, decoder.ended, decoder.rest if decoder.ended else b""


# Heads.


@pytest.mark.parametrize(
    ("raw", "canonical", "length", "closes"),
    [
        pytest.param(post(), post(), 0, False, id="plain"),
        pytest.param(post(b"Content-Length:007"), post(b"Content-Length: 007"), 7, False, id="a length"),
        pytest.param(post(b"X-A: \t b\t c \t"), post(b"X-A: b\t c"), 0, False, id="blanks around a value"),
        pytest.param(post(b"X-A:"), post(b"X-A: "), 0, False, id="an empty value"),
        pytest.param(post(b"X-A: \xe9"), post(b"X-A: \xe9"), 0, False, id="obs-text"),
        pytest.param(post(b"X-A: 1", b"x-a: 2"), post(b"X-A: 1", b"x-a: 2"), 0, False, id="a header twice"),
        pytest.param(
            post(b"Transfer-Encoding: Chunked"), post(b"Transfer-Encoding: Chunked"), None, False, id="chunked"
        ),
        pytest.param(post(b"CONNECTION: x,CLOSE"), post(b"Connection: close"), 0, True, id="close among others"),
        pytest.param(post(b"Connection: keep-alive"), post(), 0, False, id="keep-alive"),
        pytest.param(
            post(b"Connection: keep-alive", minor=0), post(b"Connection: close", minor=0), 0, True, id="HTTP/1.0"
        ),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", 0, True, id="no Host"),
        pytest.param(post(b"Upgrade: h2c", b"HTTP2-Settings: x"), post(), 0, False, id="an upgrade"),
        pytest.param(post(b"Content_Length: 5"), post(), 0, False, id="an underscore"),
        pytest.param(post(b"Expect: 100-Continue"), post(b"Expect: 100-Continue"), 0, False, id="an expectation"),
        pytest.param(post(target=b"http://HERE/a?b"), post(target=b"/a?b"), 0, False, id="a URL"),
        pytest.param(post(target=b"HTTPS://here"), post(), 0, False, id="a URL without a path"),
        pytest.param(post(target=b"http://here?a"), post(target=b"/?a"), 0, False, id="a URL with a query alone"),
    ],
)
def test_a_head_with_one_meaning_is_taken(raw: bytes, canonical: bytes, length: int | None, closes: bool) -> None:  # noqa: FBT001 - parametrised
    """The canonical form of a head leaves a server no choice of its meaning."""
    head = parse_head(raw)
    assert (head.data, head.length, head.closes) == (canonical, length, closes)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"POST /\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"POST / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
        (b"post / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT /here HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 400),
        (post(HOST.strip()), 400),
        (post().replace(b"here", b"here, there"), 400),
        (post(target=b"*"), 400),
        (post(target=b"/a#b"), 400),
        (post(target=b"/\x7f"), 400),
        (post(target=b"/\xe9"), 400),
        (post(target=b"here:80"), 400),
        (post(target=b"http://there/"), 400),
        (post(target=b"http:///"), 400),
        (post(target=b"/" + MAX_REQUEST_LINE * b"a"), 414),
        (post(b" X-A: b"), 400),
        (post(b"X-A: a", b" b"), 400),
        (post(b"X-A : a"), 400),
        (post(b": a"), 400),
        (post(b"X-A"), 400),
        (post(b"X-A: a\nb: c"), 400),
        (post(b"X-A: a\rb: c"), 400),
        (post(b"X-A: a\0"), 400),
        (post(b"X-A: \x01"), 400),
        (post(b"X-A: " + MAX_HEADER_LINE * b"a"), 431),
        (post(*MAX_HEADERS * [b"X-A: a"]), 431),
        (post(b"Content-Length: 1", b"Content-Length: 1"), 400),
        (post(b"Content-Length: 5,5"), 400),
        (post(b"Content-Length: +5"), 400),
        (post(b"Content-Length: 0x5"), 400),
        (post(b"Content-Length: "), 400),
        (post(b"Content-Length: " + 20 * b"1"), 400),
        (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
        (post(b"Transfer-Encoding: chunked", minor=0), 400),
        (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (post(b"Transfer-Encoding: chunked, chunked"), 501),
        (post(b"Transfer-Encoding: gzip, chunked"), 501),
        (post(b"Transfer-Encoding: xchunked"), 501),
        (post(b"Transfer-Encoding: "), 501),
        (post(b"Content-Type: a/b", b"Content-Type: c/d"), 400),
        (post(b"Expect: tea"), 417),
    ],
)
def test_a_head_without_one_meaning_is_refused(raw: bytes, status: int) -> None:
    """A rejected head ends the connection, so its rest is no request."""
    reader = RequestReader()
    reader.receive(raw + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    with pytest.raises(FramingError) as refused:
        reader.step()
    assert refused.value.status == status
    assert not reader.pending
    reader.receive(post())
    assert not reader.pending


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"GET / HTTP/1.1\nHost", 400),
        (b"G" * (MAX_REQUEST_LINE + 2), 414),
        (b"GET / HTTP/1.1\r\nX: " + MAX_HEAD_BYTES * b"a", 431),
        (b"GET / HTTP/1.1\r\nX: " + MAX_HEAD_BYTES * b"a" + b"\r\n\r\n", 431),
    ],
)
def test_a_head_that_cannot_become_one_is_refused_before_its_end(begun: bytes, status: int) -> None:
    """A head that cannot end is rejected before it exceeds the longest head."""
    with pytest.raises(FramingError) as refused:
        read(begun)
    assert refused.value.status == status
    assert is_decided(begun)


@pytest.mark.parametrize("blank", [b"", b"\r\n"], ids=["", "behind a blank line"])
def test_a_request_is_decided_with_the_last_byte_of_its_head(blank: bytes) -> None:
    """Nothing shorter is enough to answer, and the bytes behind the head do not matter."""
    head = blank + post(b"X-A: b\nc")
    assert [size for size in range(len(head)) if is_decided(head[:size])] == []
    assert is_decided(head)
    assert is_decided(head + b"body")


# Chunks.


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"000\r\n\r\n", b""),
        (b'3;a;b=c;d="e;\\""\r\nabc\r\nA\r\n0123456789\r\n00;x\r\n\r\n', b"abc0123456789"),
        (b"1\r\n\r\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"\r\n"),
    ],
)
def test_chunks_are_decoded_however_they_are_split(wire: bytes, content: bytes) -> None:
    """Chunks split at any byte have the same content and the same rest."""
    for at in range(len(wire)):
        assert decode(wire[:at], wire[at:] + b"more") == (content, True, b"more")
    assert decode(*(wire[at : at + 1] for at in range(len(wire)))) == (content, True, b"")


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"zz\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5\t;a\r\n",
        b"5; a\r\n",
        b"5;\r\n",
        b"5;a=\r\n",
        b'5;a="\r\n',
        b"5;a\rb\r\n",
        b"5\n",
        b"5\r0",
        16 * b"f",
        b"5;" + MAX_CHUNK_LINE * b"a",
        b"5;" + (MAX_CHUNK_LINE - 1) * b"a" + b"\r\nhello",
        b"3\r\nabcd",
        b"3\r\nabc\n",
        b"3\r\nabc0\r\n",
        b"0\r\nX: a\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nContent-Length: 50\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nX: " + MAX_TRAILER_BYTES * b"a",
    ],
)
def test_malformed_chunks_are_refused(wire: bytes) -> None:
    """Malformed chunks are rejected in any split, as early as possible."""
    for pieces in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        with pytest.raises(FramingError):
            decode(*pieces)


def test_the_longest_lines_pass_in_any_split() -> None:
    """A limit counts the same bytes of a line that is whole and of one whose end is still to come."""
    trailer = b"X: " + (MAX_TRAILER_BYTES - 5) * b"a"
    wire = b"5;" + (MAX_CHUNK_LINE - 2) * b"a" + b"\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"
    assert decode(wire) == decode(*(wire[at : at + 1] for at in range(len(wire)))) == (b"hello", True, b"")
    head = b"GET / HTTP/1.1\r\nHost: here\r\n" + 8 * (b"X: " + 8000 * b"a" + b"\r\n") + b"Y: "
    head += (MAX_HEAD_BYTES - len(head)) * b"a" + b"\r\n\r\n"
    assert read(head) == read(head[:-1], head[-1:]) == head


def test_a_long_request_line_is_refused_before_the_head_ends() -> None:
    """The end of the line makes no difference."""
    reader = RequestReader()
    reader.receive(b"GET /" + MAX_REQUEST_LINE * b"a" + b" HTTP/1.1\r\nHost: here\r\n")
    with pytest.raises(FramingError) as caught:
        reader.step()
    assert caught.value.status == 414


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=200), st.sets(st.integers(1, 2000)))
def test_any_chunks_split_anyhow_give_their_content(chunks: list[bytes], cuts: set[int]) -> None:
    """Any chunks give their content, their end and the next request."""
    wire = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire))]
    pieces = [wire[start:end] for start, end in pairwise(edges)]
    assert decode(*pieces, wire[edges[-1] :] + b"GET") == (b"".join(chunks), True, b"GET")


@given(st.binary(max_size=60))
def test_no_bytes_make_the_decoder_fail_in_another_way(wire: bytes) -> None:
    """The decoder returns content or raises FramingError."""
    with suppress(FramingError):
        decode(wire)


# Connections.

CHUNKED = post(b"Transfer-Encoding: chunked")
CONVERSATION = (
    b"\r\n"
    + post(b"Content-Length: 3")
    + b"abc"
    + post(b"Upgrade: h2c")
    + b"\r\n"
    + CHUNKED
    + b"1;x\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"
    + post(b"Content-Length: 2", b"Connection: close")
    + b"de\r\n"
    + post()
)
WITHOUT_CHUNKS = post(b"Content-Length: 3") + b"abc" + post() + CHUNKED
LAST = post(b"Content-Length: 2", b"Connection: close") + b"de"


@pytest.mark.parametrize("size", [*range(1, 30), len(CONVERSATION)])
def test_a_conversation_is_read_however_it_is_split(size: int) -> None:
    """Requests follow one another, and bytes after the last one are dropped."""
    out = read(*(CONVERSATION[at : at + size] for at in range(0, len(CONVERSATION), size)))
    assert out.startswith(WITHOUT_CHUNKS)
    chunks = out.removeprefix(WITHOUT_CHUNKS)
    content, ended, rest = decode(chunks)
    assert (content, ended, rest) == (b"abc", True, LAST)


def test_a_second_blank_line_is_refused() -> None:
    """Old clients send one blank line by mistake, but never more."""
    with pytest.raises(FramingError):
        read(post(b"Content-Length: 1") + b"a\r\n\r\n" + post())


def test_a_malformed_chunk_ends_the_connection() -> None:
    """No byte after a malformed chunk is taken for a request."""
    reader = RequestReader()
    reader.receive(CHUNKED + b"zz\r\n" + post())
    assert reader.step() == CHUNKED
    assert reader.in_body
    with pytest.raises(FramingError):
        reader.step()
    assert (reader.in_body, reader.pending) == (False, False)


def test_a_small_read_in_a_body_wants_a_pause() -> None:
    """Not a large one, and none once the body has ended."""
    reader = RequestReader()
    reader.receive(post(b"Content-Length: %d" % (SMALL_READ_BYTES + 2)))
    reader.step()
    assert reader.wants_pause
    for size, wanted in ((SMALL_READ_BYTES, False), (1, True), (1, False)):
        reader.receive(bytes(size))
        reader.step()
        assert reader.wants_pause is wanted


def test_content_of_a_known_length_counts_down() -> None:
    """After a head the count is None; after the last byte it is 0."""
    reader = RequestReader()
    for piece, left in ((post(b"Content-Length: 5"), None), (b"ab", 3), (b"cde", 0), (post(), None)):
        reader.receive(piece)
        assert (reader.step(), reader.content_left) == (piece, left)


def test_chunks_have_no_known_length() -> None:
    """The canonical chunks are for the server's parser."""
    reader = RequestReader()
    reader.receive(CHUNKED + b"1\r\na\r\n0\r\n\r\n")
    while reader.pending:
        assert reader.step()
        assert reader.content_left is None


def test_many_small_chunks_are_joined_in_small_steps() -> None:
    """A step reads a bounded number of small chunks, and returns them as one chunk."""
    reader = RequestReader()
    reader.receive(CHUNKED + 50_000 * b"1\r\na\r\n")
    reader.step()
    sizes = []
    while reader.pending:
        size, _, content = reader.step().partition(b"\r\n")
        assert len(content) == int(size, 16) + 2
        sizes.append(int(size, 16))
    assert sum(sizes) == 50_000
    assert all(size <= SMALL_STEP_BYTES / len(b"1\r\na\r\n") + 1 for size in sizes[1:])
