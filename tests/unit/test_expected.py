"""`Expect: 100-continue`: the moment at which each shell sends 100 Continue."""

import asyncio
import io
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.unreader import SocketUnreader
from patience import PATIENCE

import quart_app.request
from flask_app.gunicorn_protocol import CONTINUE, ExpectedReader, Request
from quart_app.request import Body


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair of sockets, the server's and the client's."""
    server, client = socket.socketpair()
    with closing(server), closing(client):
        server.settimeout(PATIENCE)
        client.settimeout(PATIENCE)
        yield server, client


def is_silent(client: socket.socket) -> bool:
    """Whether no byte has arrived; a socket pair delivers at once."""
    client.settimeout(0)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    client.settimeout(PATIENCE)
    return True


def test_flask_asks_once_at_the_first_read(connection: tuple[socket.socket, socket.socket]) -> None:
    """Only the first read sends 100 Continue."""
    server, client = connection
    reader = ExpectedReader(io.BytesIO(b"body"), server)
    assert is_silent(client)
    assert reader.read(2) + reader.read(2) == b"body"
    assert client.recv(4096) == CONTINUE


def test_flask_does_not_ask_by_a_read_that_cannot_wait(connection: tuple[socket.socket, socket.socket]) -> None:
    """A read that must not wait sends nothing, since the response may precede it."""
    server, client = connection
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        ExpectedReader(io.BytesIO(b"body"), server).read(4)
    assert is_silent(client)


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        pytest.param("X-A: b", False, id="no body"),
        pytest.param("Content-Length: 0", False, id="an empty body"),
        pytest.param("Content-Length: 3", True, id="a length"),
        pytest.param("Transfer-Encoding: chunked", True, id="chunks"),
    ],
)
def test_flask_asks_for_a_body_alone(
    connection: tuple[socket.socket, socket.socket], framing: str, *, expected: bool
) -> None:
    """A read of a request without a body sends nothing."""
    server, client = connection
    client.sendall(f"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\n{framing}\r\n\r\n".encode())
    request: Any = Request(Config(), SocketUnreader(server), ("127.0.0.1", 1))
    assert isinstance(request.body.reader, ExpectedReader) is expected


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set Quart's wait for an unwanted body longer than a test lasts."""
    for name in ("DISCARD_SECONDS", "DISCARD_IDLE_SECONDS"):
        monkeypatch.setattr(quart_app.request, name, 2 * PATIENCE)


def expected_body() -> Body:
    """A body whose client waits for 100 Continue."""
    body = Body(None, None)
    body.expect()
    return body


@pytest.mark.usefixtures("patient")
async def test_quart_waits_for_no_body_that_was_not_asked_for() -> None:
    """Without a 100 the client sends no body, so the connection ends with the response."""
    await asyncio.wait_for(expected_body().discard_to_the_end(), PATIENCE)


@pytest.mark.usefixtures("patient")
async def test_quart_reads_a_body_to_its_end_that_comes_without_being_asked_for() -> None:
    """A client that never waits for a 100 reads the response after sending everything."""
    body = expected_body()
    await body.put(b"x")
    discarding = asyncio.create_task(body.discard_to_the_end())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not discarding.done()
    body.set_complete()
    await asyncio.wait_for(discarding, PATIENCE)


async def test_quart_asks_at_the_first_read() -> None:
    """The first read of an expected body sends 100 Continue, and no earlier event does."""
    body = expected_body()
    assert not body.may_arrive.is_set()
    reading = asyncio.create_task(anext(body))
    await asyncio.wait_for(body.may_arrive.wait(), PATIENCE)
    await body.put(b"x")
    assert await asyncio.wait_for(reading, PATIENCE) == b"x"
