"""A response that cannot be sent, on hypercorn."""

import asyncio

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.events import Closed, Event, RawData
from patience import PATIENCE

from quart_app.hypercorn_server import Server


class Busy:
    """An app's side of a connection that takes an event only later."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.taken: list[Event] = []

    async def handle(self, event: Event) -> None:
        """Take an event."""
        await self.goes_on.wait()
        self.taken.append(event)


class Broken:
    """The stream of a connection that its client has reset."""

    def write(self, data: bytes) -> None:
        """Take bytes, as a transport does."""

    async def drain(self) -> None:
        """Fail."""
        raise ConnectionResetError


async def test_a_failed_send_does_not_wait_for_the_app() -> None:
    """A send that fails returns before the app takes the disconnect, because the app may wait for the send."""
    server, busy = Server.__new__(Server), Busy()
    server.send_lock, server.writer, server.protocol = asyncio.Lock(), Broken(), busy  # type: ignore[assignment]
    async with TaskGroup(asyncio.get_running_loop()) as tasks:
        server._task_group = tasks  # noqa: SLF001 - hypercorn sets it when it serves a connection
        await asyncio.wait_for(server.protocol_send(RawData(b"HTTP/1.1 503 \r\n\r\n")), PATIENCE)
        assert busy.taken == []
        busy.goes_on.set()
    assert busy.taken == [Closed()]
