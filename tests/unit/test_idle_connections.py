"""Connections of hypercorn and uvicorn whose next request arrives as their idle time ends.

On a busy machine, a loop may handle the time limit before the request.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Literal

import pytest
from patience import PATIENCE

from filehandoff.typing_backports import override
from quart_app import hypercorn_server
from quart_app.hypercorn_server import Reads, Server
from quart_app.uvicorn_server import keep_arrived_requests


class Transport(asyncio.Transport):
    """The server's side of an idle connection, which has read nothing."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__({"socket": connection})
        self.closed = asyncio.Event()

    @override
    def is_closing(self) -> bool:
        return self.closed.is_set()

    @override
    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    """An idle connection, and its client's end."""
    with ExitStack() as exits:
        ours, theirs = (exits.enter_context(closing(one)) for one in socket.socketpair())
        yield Transport(ours), theirs


class Terminated(asyncio.Event):
    """hypercorn's event of its end; `again` is set when a second wait for it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.again = asyncio.Event()
        self._waits = 0

    @override
    async def wait(self) -> Literal[True]:
        self._waits += 1
        if self._waits > 1:
            self.again.set()
        return await super().wait()


def idle(transport: Transport, terminated: asyncio.Event, *read: bytes) -> asyncio.Task[None]:
    """Let hypercorn's limit for an idle connection run, which is over at once; the loop has `read` some bytes."""
    server = Server.__new__(Server)
    server.reader = Reads.__new__(Reads)  # type: ignore[assignment] # as hypercorn's own field
    server.reader._reads = deque(read)  # type: ignore[attr-defined] # noqa: SLF001 - as the loop fills it
    server.config = SimpleNamespace(keep_alive_timeout=0.0)  # type: ignore[assignment]
    server.context = SimpleNamespace(terminated=terminated)  # type: ignore[assignment]

    async def handle(_event: object) -> None:
        pass

    server.protocol = SimpleNamespace(handle=handle)  # type: ignore[assignment]
    server.writer = SimpleNamespace(transport=transport, close=transport.close)  # type: ignore[assignment]
    return asyncio.create_task(server._idle_timeout())  # noqa: SLF001 - hypercorn starts it


@pytest.mark.parametrize("read", [(), (b"GET",)], ids=["in the system", "in the process"])
async def test_hypercorn_waits_for_a_request_that_has_arrived(
    pair: tuple[Transport, socket.socket], monkeypatch: pytest.MonkeyPatch, read: tuple[bytes, ...]
) -> None:
    """It does not end the connection before the request can stop the limit."""
    monkeypatch.setattr(hypercorn_server, "ARRIVED_SECONDS", PATIENCE)
    transport, client = pair
    client.sendall(b"" if read else b"GET")
    terminated = Terminated()
    limit, waits = idle(transport, terminated, *read), asyncio.create_task(terminated.again.wait())
    await asyncio.wait([limit, waits], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert waits.done()
    assert not transport.closed.is_set()
    limit.cancel()


@pytest.mark.parametrize("sent", [b"", b"G"], ids=["nothing", "the beginning of a head"])
async def test_hypercorn_ends_a_connection_without_a_request(
    pair: tuple[Transport, socket.socket], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A client that sends a byte in the last moment gets little more time."""
    monkeypatch.setattr(hypercorn_server, "ARRIVED_SECONDS", 0.01)
    transport, client = pair
    client.sendall(sent)
    await asyncio.wait_for(idle(transport, asyncio.Event()), PATIENCE)
    assert transport.closed.is_set()


@pytest.mark.parametrize("has_arrived", [True, False])
async def test_uvicorn_keeps_a_connection_whose_request_has_arrived(
    pair: tuple[Transport, socket.socket], *, has_arrived: bool
) -> None:
    """Without uvicorn's timer it is one that waits for a head, whose time is limited too."""
    transport, client = pair
    timer: object = object()

    class Protocol:
        """A protocol class of uvicorn, without the rest."""

        timeout_keep_alive_task: object = timer
        transport = pair[0]

        def timeout_keep_alive_handler(self) -> None:
            """End the connection."""
            self.transport.close()

    keep_arrived_requests(Protocol)
    protocol = Protocol()
    client.sendall(b"GET / HTTP/1.1\r\n" if has_arrived else b"")
    protocol.timeout_keep_alive_handler()
    assert transport.closed.is_set() != has_arrived
    assert (protocol.timeout_keep_alive_task is None) == has_arrived
