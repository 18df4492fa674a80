"""The proxy frames bodies correctly, tested against a store with canned answers."""

import socket

import pytest
from faults.proxy import Proxy
from faults.script import (
    CutAnswer,
    FlipRequestByte,
)
from faults.tools.talk import SIZE, canned, connect, receive, send_until_blocked
from patience import PATIENCE

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n.\r\n0\r\n"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\ncontent-length:  3 \r\n\r\nabc", id="a length"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n", id="chunks"),
        pytest.param(b"GET", b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"A: b\r\n\r\n", id="chunks and a trailer"),
        pytest.param(
            b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", id="the length of the body that HEAD leaves out"
        ),
        pytest.param(b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", id="no content"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", id="not modified"),
        pytest.param(
            b"PUT", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="an interim answer"
        ),
    ],
)
def test_an_answer_passes_byte_for_byte_and_its_end_is_known(method: bytes, answer: bytes) -> None:
    """An answer passes at once with any framing, and the connection serves the next request."""
    with canned(answer) as (url, received), Proxy(url) as proxy, connect(proxy) as connection:
        request = method + b" /b/k HTTP/1.1\r\nhost:  Odd\r\nX-A: b\r\n\r\n"
        for _ in range(2):
            connection.sendall(request)
            assert receive(connection, len(answer)) == answer
    assert received == [request, request]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", id="the store's wish"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", id="HTTP/1.0"),
    ],
)
def test_an_answer_that_ends_the_connection_does(answer: bytes) -> None:
    """If the store closes the connection after an answer, the proxy closes too."""
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        assert receive(connection, 10_000) == answer


def test_a_chunked_request_passes_byte_for_byte() -> None:
    """A chunked body reaches the store in the same chunks; an offset counts content only."""
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    request = b"PUT /b/k HTTP/1.1\r\n" + CHUNKED + b"\r\n"
    with canned(answer, b"\r\n0\r\n\r\n") as (url, received), Proxy(url) as proxy, connect(proxy) as connection:
        proxy.on("put_object", FlipRequestByte(5), nth=2)
        for _ in range(2):
            connection.sendall(request)
            assert receive(connection, len(answer)) == answer
    assert received == [request, request.replace(b"\r\n.\r\n", b"\r\n/\r\n")]


def test_a_store_that_reads_nothing_is_felt_by_the_client() -> None:
    """A store that does not read stops the client, apart from the kernel's buffers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Proxy("http://{}:{}".format(*silent.getsockname())) as proxy,
        connect(proxy) as connection,
    ):
        assert send_until_blocked(connection) < SIZE / 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc", id="half of the chunks"),
    ],
)
def test_a_store_that_goes_away_resets_the_client(answer: bytes) -> None:
    """If the store breaks off an answer, the client's connection is reset."""
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            receive(connection, 10_000)


def test_a_store_that_is_not_there_resets_the_client() -> None:
    """If the store does not listen, the client's connection is reset."""
    with canned(b"") as (url, _):
        pass
    with Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            receive(connection, 1)


def test_a_client_that_goes_away_resets_the_store() -> None:
    """If a body ends early, the store's connection is reset."""
    with (
        socket.create_server(("127.0.0.1", 0)) as store,
        Proxy("http://{}:{}".format(*store.getsockname())) as proxy,
    ):
        with connect(proxy) as connection:
            connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc")
        store.settimeout(PATIENCE)
        with store.accept()[0] as accepted, pytest.raises(ConnectionResetError):
            receive(accepted, 10_000)


def test_a_stores_early_answer_ends_the_connection() -> None:
    """Bytes that a client sends after an early answer are not read as another request."""
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        assert receive(connection, 10_000) == answer
        connection.sendall(b"abc")
        assert len(proxy.calls) == 1


def test_a_cut_answer_ends_the_connection() -> None:
    """A truncated answer ends the connection, even if the store would keep it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    with canned(answer) as (url, _), Proxy(url) as proxy, connect(proxy) as connection:
        proxy.on("get_object", CutAnswer(2))
        connection.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        assert receive(connection, 10_000) == answer[:-1]
