"""The connections of the Quart app."""

import asyncio
import socket
from contextlib import closing
from typing import Any, cast

import pytest

from filehandoff.typing_backports import override
from quart_app import connections
from quart_app.connections import Connections, is_readable

#: More bytes than the sockets of loopback buffer.
UNREAD = bytes(32 * 1024**2)


class Served(asyncio.Protocol):
    """A server's side of a connection."""

    def __init__(self, connected: asyncio.Queue["Served"]) -> None:
        self._connected = connected
        self.lost = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._connected.put_nowait(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def test_a_stalled_connection_ends_although_another_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is closed already does not stop the watch over the others."""
    monkeypatch.setattr(connections, "LOOK_EVERY", 0.01)
    connected = asyncio.Queue[Served]()
    server = await asyncio.get_running_loop().create_server(lambda: Served(connected), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with closing(socket.create_connection(address)), closing(socket.create_connection(address)):
        closed, stalled = await connected.get(), await connected.get()
        watched = Connections(idle_seconds=0.1)
        for each in (closed, stalled):
            watched.add(each.transport)
        closed.transport.close()
        await closed.lost.wait()
        stalled.transport.write(UNREAD)
        watching = asyncio.create_task(watched.watch())
        lost = asyncio.create_task(stalled.lost.wait())
        await asyncio.wait([watching, lost], return_when=asyncio.FIRST_COMPLETED)
        ended = lost.done()
        watching.cancel()
        stalled.transport.abort()  # with an open transport, uvloop does not close
        await stalled.lost.wait()
    server.close()
    await server.wait_closed()
    assert ended


class TlsTransport:
    """Takes no weak reference, as uvloop's transports of TLS."""

    __slots__ = ("aborted", "closing", "seen")

    def __init__(self, *, closing: bool) -> None:
        self.aborted = False
        self.closing = closing
        self.seen = asyncio.Event()

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self.closing

    def get_extra_info(self, _name: str) -> None:
        """Return no socket; the watch has dropped the closed connections before."""
        self.seen.set()

    def abort(self) -> None:
        """Record the end."""
        self.aborted = True


async def test_a_closed_connection_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the process ends only the open connections, also those of TLS."""
    monkeypatch.setattr(connections, "LOOK_EVERY", 0)
    watched, opened, closed = Connections(60), TlsTransport(closing=False), TlsTransport(closing=True)
    for each in (opened, closed):
        watched.add(cast("asyncio.Transport", each))
    watching = asyncio.create_task(watched.watch())
    await opened.seen.wait()
    watching.cancel()
    watched.hang_up()
    assert (opened.aborted, closed.aborted) == (True, False)


async def test_a_connection_is_readable_once_bytes_have_arrived() -> None:
    """Bytes that the transport has not read count; a closed connection has none."""
    connected = asyncio.Queue[Served]()
    server = await asyncio.get_running_loop().create_server(lambda: Served(connected), "127.0.0.1", 0)
    with closing(socket.create_connection(server.sockets[0].getsockname())) as client:
        served = await connected.get()
        served.transport.pause_reading()
        seen = [is_readable(served.transport)]
        client.sendall(b"x")
        seen.append(is_readable(served.transport))
        served.transport.abort()
        await served.lost.wait()
        seen.append(is_readable(served.transport))
    server.close()
    assert seen == [False, True, False]
