"""The body and the connection of Quart 0.23, for Quart 0.22, the newest on Python 3.11 and 3.12.

Quart 0.22 collects a whole body in memory, knows no `ClientDisconnectedError`, and ends a connection without its task's
error. `quart_app.request` imports these names from here or from Quart, and is the same for both.
"""

import asyncio
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

from quart import asgi
from quart.wrappers import request as wrappers

_Body: Any = wrappers.Body
_Connection: Any = asgi.ASGIHTTPConnection


class ClientDisconnectedError(Exception):
    """The client has disconnected."""


class QueueShutDown(Exception):
    """The queue is empty, and gets no more items."""


class Queue(asyncio.Queue[bytes]):
    """A queue with the `shutdown` that asyncio has from Python 3.13 on, for one reader."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._shut_down = False
        self._reader: asyncio.Future[None] | None = None

    def shutdown(self) -> None:
        """Let the reader read the rest, and then raise QueueShutDown in it."""
        self._shut_down = True
        self._wake()

    def put_nowait(self, item: bytes) -> None:
        """Add an item and wake the reader."""
        super().put_nowait(item)
        self._wake()

    async def get(self) -> bytes:
        """Return the next item once there is one.

        Raises:
            QueueShutDown: there will be none.
        """
        while self.empty():
            if self._shut_down:
                raise QueueShutDown
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self.get_nowait()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Body(_Body):  # type: ignore[misc] # it differs between the versions
    """A body in a queue."""

    _complete: asyncio.Event

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._data: bytes | None = None
        self._queue = Queue()

    async def __anext__(self) -> bytes:
        if self._must_raise is not None:
            raise self._must_raise
        if self._queue.empty() and self._complete.is_set():
            raise StopAsyncIteration
        return await self.get()

    async def put(self, data: bytes) -> None:
        """Add a message of the body, once there is room."""
        await self._queue.put(data)

    async def get(self) -> bytes:
        """Return the next message.

        Raises:
            ClientDisconnectedError: the client disconnected before the body was complete.
        """
        try:
            return await self._queue.get()
        except QueueShutDown:
            if self._complete.is_set():
                return b""
            raise ClientDisconnectedError from None

    def disconnect(self) -> None:
        """End the body before it is complete."""
        self._queue.shutdown()

    def set_complete(self) -> None:
        """End the body."""
        self._complete.set()
        self._queue.shutdown()

    def set_result(self, data: bytes) -> None:
        """Set the whole body; Quart's test client does."""
        self._queue.put_nowait(data)
        self.set_complete()

    def clear(self) -> None:
        """Drop the body that was read."""
        self._data = b""

    def __await__(self) -> Generator[Any, None, bytes]:
        raise NotImplementedError  # `quart_app.request.Body` reads the whole body


class ASGIHTTPConnection(_Connection):  # type: ignore[misc] # it differs between the versions
    """A connection whose request is cancelled when its client disconnects."""

    def __init__(self, app: Any, scope: Any) -> None:
        super().__init__(app, scope)
        self._disconnected = False

    async def __call__(self, receive: Any, send: Any) -> None:
        """Answer the request."""
        send = _convert_os_error(send)
        request = self._create_request_from_scope(send)
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self.handle_request(request, send))
            receiving = tasks.create_task(self.handle_messages(request, receive, answering))
            answering.add_done_callback(lambda _: receiving.cancel())  # Quart 0.22's test client never disconnects

    async def handle_messages(self, request: Any, receive: Any, request_task: asyncio.Task[Any]) -> None:
        """Receive the body, and cancel the request when the client disconnects."""
        while (message := await receive())["type"] != "http.disconnect":
            if message["type"] == "http.request":
                await request.body.put(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
        self._disconnected = True
        request.body.disconnect()
        request_task.cancel()

    async def _send_response(self, send: Any, response: Any) -> None:
        if self._disconnected:
            raise ClientDisconnectedError
        await super()._send_response(send, response)


def _convert_os_error(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Raise the server's errors about a lost connection as ClientDisconnectedError."""

    @wraps(send)
    async def converting(message: Any) -> None:
        try:
            await send(message)
        except OSError:
            raise ClientDisconnectedError from None

    return converting
