"""The bodies that gunicorn gives to the app, read from a socket."""

import os
import socket
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.unreader import IterUnreader, SocketUnreader
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE

from flask_app.gunicorn_protocol import Body, Request

NEXT = b"GET / HTTP/1.1\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"


def with_length(content: bytes) -> bytes:
    """A request with a Content-Length."""
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content


def in_chunks(content: bytes) -> bytes:
    """A request of one chunk, or of none."""
    chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut the bytes at these positions."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places) if begin < end]


@given(
    st.binary(max_size=40_000),
    st.sampled_from([with_length, in_chunks]),
    st.lists(st.integers(0, 50_000), max_size=6),
    st.lists(st.integers(1, 20_000), max_size=6),
)
def test_reads_return_what_they_ask_for(content: bytes, framed: Any, cuts: list[int], sizes: list[int]) -> None:
    """However the bytes arrive, each read returns its size, the last the rest, and the next request stays unread."""
    unreader = IterUnreader(split(framed(content) + NEXT, cuts))
    body = Request(Config(), unreader, ("127.0.0.1", 1)).body
    at = 0
    for size in [*sizes, len(content) + 1, 1]:
        assert body.read(size) == content[at : at + size]
        at += size
    assert b"".join(iter(unreader.read, b"")) == NEXT


@pytest.mark.parametrize("framed", [with_length, in_chunks])
def test_lines_and_reads_alternate(framed: Any) -> None:
    """A read continues where `readline` stopped, and without a size reads to the end."""
    body = Request(Config(), IterUnreader([framed(b"one\ntwo\nthree")]), ("127.0.0.1", 1)).body
    assert [body.readline(), body.read(2), body.read(0), body.read()] == [b"one\n", b"tw", b"", b"o\nthree"]


def test_a_read_is_no_copy() -> None:
    """A read returns the bytes that its reader made; copies of them fragment the heap beside many uploads."""
    made = bytes(1000)
    assert Body(SimpleNamespace(read=lambda _size: made)).read(1000) is made


def test_small_pieces_take_no_memory_of_their_own() -> None:
    """A body that arrives in pieces of two bytes is not kept in an object for each piece."""
    content = os.urandom(256 * 1024)
    head = with_length(content)[: -len(content)]
    pieces = (content[at : at + 2] for at in range(0, len(content), 2))
    body = Request(Config(), IterUnreader(chain([head], pieces)), ("127.0.0.1", 1)).body
    tracemalloc.start()
    try:
        assert body.read(len(content)) == content
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(content)


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair of sockets, the server's and the client's."""
    server, client = socket.socketpair()
    with closing(server), closing(client):
        server.settimeout(PATIENCE)
        yield server, client


def test_a_body_cut_short_is_short(connection: tuple[socket.socket, socket.socket]) -> None:
    """If the client disconnects, a read returns the bytes that arrived, and the next one none."""
    server, client = connection
    client.sendall(with_length(b"12345")[:-2])
    client.shutdown(socket.SHUT_WR)
    body = Request(Config(), SocketUnreader(server), ("127.0.0.1", 1)).body
    assert [body.read(10), body.read(10)] == [b"123", b""]


def test_a_read_that_fails_marks_the_body(connection: tuple[socket.socket, socket.socket]) -> None:
    """After a failed read, gunicorn knows that no request can follow on the connection."""
    server, client = connection
    client.sendall(with_length(b"12345")[:-2])
    body = Request(Config(), SocketUnreader(server), ("127.0.0.1", 1)).body
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        body.read(10)
    assert body.failed
