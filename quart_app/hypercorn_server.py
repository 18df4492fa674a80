"""hypercorn 0.18, made safe: checked requests, no h2c, joined reads, draining workers.

hypercorn has no setting for its protocol class. `ProtocolWrapper` looks the class up by name, so `install` replaces it
before the first connection. Stock h11 accepts heads that a proxy may read differently, keeps a connection whose request
had both a Content-Length and a Transfer-Encoding, and cancels a complete upload if a blank line follows it. `Upgrade:
h2c` switches to HTTP/2. Stock hypercorn sends 100 Continue before the app reads the request; here, as in uvicorn, the
app's first `receive` sends it. Content of a known length reaches the app without a copy. A response's head is sent with
its body's first bytes.

hypercorn's own `--workers` ends the whole service with status 0 when one worker is lost. It then sends SIGTERM to the
other workers, which do not handle it. If the parent is lost, its workers serve on for ever. With this module, a worker
drains at each of these ends. The parent cannot be repaired: `python -m quart_app --workers` is the command for several
processes.
"""

import asyncio
import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as SharedEvent
from pathlib import Path
from socket import socket
from typing import Any, cast

import h11
import hypercorn.protocol
from hypercorn.__main__ import main
from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol

from filehandoff.framing import READ_AHEAD_BYTES, SMALL_READ_BYTES, SMALL_READ_PAUSE, FramingError, RequestReader
from filehandoff.typing_backports import override
from quart_app.connections import is_readable
from quart_app.idle_limit import IdleLimit
from quart_app.servers import is_known

#: The version whose internals this module knows.
VERSION = "0.18."
#: Seconds for the head of a request whose first bytes arrived as the connection's idle time ended.
ARRIVED_SECONDS = 1.0
#: Seconds between two checks whether a worker must end; hypercorn's own number.
POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


def run(config: Path, listeners: Sequence[socket], arguments: Sequence[str]) -> int:
    """Serve on open sockets by hypercorn's own command; return the exit status.

    `arguments` are further arguments of that command.
    """
    binds = [f"--bind=fd://{listener.detach()}" for listener in listeners]
    return main(["--config", str(config), "--workers", "0", *binds, *arguments])


def install() -> None:
    """Make hypercorn safe in this process; exit if it runs another version."""
    if is_known("hypercorn", VERSION, "hypercorn.utils"):
        hypercorn.protocol.H11Protocol = Protocol  # type: ignore[attr-defined]
        hypercorn_run.TCPServer = Server  # type: ignore[attr-defined]
    parent = multiprocessing.parent_process()
    if parent is not None:
        drain(parent)


def drain(parent: BaseProcess) -> None:
    """Make a worker of hypercorn's own drain on SIGTERM and without its parent."""
    if multiprocessing.current_process().name.endswith("-1"):
        logger.warning(
            "hypercorn ends the whole service when one of its workers is lost; "
            "start several with: python -m quart_app --workers NUMBER"
        )
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))

    async def wait_for_end(event: SharedEvent, sleep: Callable[[float], Awaitable[Any]]) -> None:
        while not (signals or event.is_set()) and parent.is_alive():
            await sleep(POLL_SECONDS)

    hypercorn_run.check_multiprocess_shutdown_event = wait_for_end  # type: ignore[attr-defined, assignment] # no seam


class Server(TCPServer):
    """A connection that `Reads` reads, whose failed writes block no app, and whose idle time is that of `IdleLimit`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = cast("asyncio.StreamReader", Reads(self.reader, self.writer.transport))

    @override
    async def protocol_send(self, event: Event) -> None:
        """Send an event; if that fails, report the disconnect to the app in another task.

        Stock hypercorn reports it in the app's own task, by a bounded queue. If that is full of a body that the app
        does not read any more, the task waits for itself, and the process does not end.
        """
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                self.writer.write(event.data)
                await self.writer.drain()
            except (ConnectionError, RuntimeError):
                self._task_group.spawn(self.protocol.handle, Closed())

    @override
    async def _idle_timeout(self) -> None:
        with suppress(TimeoutError), IdleLimit(self.config.keep_alive_timeout) as waiting:
            async with waiting:
                await self.context.terminated.wait()
        # a request stops this task when it is read
        if cast("Reads", self.reader).has_bytes or is_readable(self.writer.transport):
            with suppress(TimeoutError):
                async with asyncio.timeout(ARRIVED_SECONDS):
                    await self.context.terminated.wait()
        await asyncio.shield(self._initiate_server_close())


class Reads(asyncio.Protocol):
    """A connection's reads, in the place of asyncio's stream, which copies all bytes three times.

    The stream's protocol still gets the other events. Bytes that arrived before the first `read` are in the stream.
    """

    def __init__(self, stream: asyncio.StreamReader, transport: asyncio.WriteTransport) -> None:
        self._stream: asyncio.StreamReader | None = stream
        self._transport = cast("asyncio.Transport", transport)
        self._streams = cast("asyncio.StreamReaderProtocol", transport.get_protocol())
        self._reads = deque[bytes]()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def at_eof(self) -> bool:
        """Return whether `read` has returned the client's last byte."""
        return self._stream.at_eof() if self._stream is not None else self._ended and not self._reads

    @property
    def has_bytes(self) -> bool:
        """Whether bytes of the client wait for `read`; those in the stream are not known."""
        return bool(self._reads)

    async def read(self, size: int) -> bytes:
        """Return the bytes of one read from the socket, or of several if the first is small; empty at the end.

        Only the stream respects `size`.

        Raises:
            OSError: the connection is broken.
        """
        if self._stream is not None:
            data = await self._stream.read(size)
            if len(data) < size and not self._stream.at_eof():
                self._stream = None  # it is empty
                self._transport.set_protocol(self)
            return data
        while not self._reads and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return self._next()

    def _next(self) -> bytes:
        if not self._reads:
            if self._error is not None:
                raise self._error
            return b""
        data = self._reads.popleft()
        if self._reads and len(data) < SMALL_READ_BYTES:
            data = b"".join([data, *self._reads])
            self._reads.clear()
        self._size -= len(data)
        if self._size <= READ_AHEAD_BYTES:
            self._transport.resume_reading()
        return data

    @override
    def data_received(self, data: bytes) -> None:
        self._reads.append(data)
        self._size += len(data)
        if self._size > READ_AHEAD_BYTES:
            self._transport.pause_reading()
        self._changed.set()

    @override
    def eof_received(self) -> bool | None:
        self._end()
        return self._streams.eof_received()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)
        self._streams.connection_lost(error)

    def _end(self, error: Exception | None = None) -> None:
        self._ended, self._error = True, error
        self._changed.set()

    @override
    def pause_writing(self) -> None:
        self._streams.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._streams.resume_writing()


class Protocol(H11Protocol):
    """An h11 connection that sees only the canonical requests of `RequestReader`."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast("Any", self._run_app), *args, **kwargs)
        self._stock_app = app
        self._reader = RequestReader()
        self._head = b""

    @override
    async def handle(self, event: Event) -> None:
        """Handle the connection's next bytes, or its end."""
        if not isinstance(event, RawData) or not event.data:
            await super().handle(event)
            return
        self._reader.receive(event.data)
        while self._reader.pending and await self._answered():
            try:
                piece = self._reader.step()
            except FramingError as error:
                await self._refuse(error)
                return
            if not piece:
                break
            await self._pass_on(piece)
            if self._reader.pending:
                await asyncio.sleep(0)  # other connections run between the small chunks of a read
        if self._reader.wants_pause:
            await asyncio.sleep(SMALL_READ_PAUSE)

    async def _pass_on(self, piece: bytes) -> None:
        """Give bytes to h11; give content before a body's last bytes to the app directly, which saves two copies."""
        if not self._reader.content_left or self.connection.they_are_waiting_for_100_continue:
            await super().handle(RawData(piece))
        elif self.stream is not None:
            cast("Any", self.connection)._reader._remaining -= len(piece)  # noqa: SLF001 - h11 cannot skip bytes
            await self.stream.handle(Body(STREAM_ID, piece))

    async def _run_app(self, scope: Any, receive: Any, *more: Any) -> None:
        await self._stock_app(scope, partial(self._receive, receive), *more)

    async def _receive(self, receive: Callable[[], Awaitable[Any]]) -> Any:
        if self.connection.they_are_waiting_for_100_continue:
            headers = self.config.response_headers("h11")
            await super()._send_h11_event(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=headers))
        return await receive()

    @override
    async def _send_h11_event(self, event: Any) -> None:
        """Send a response's head together with the body's first bytes.

        If a connection ends behind the head, tus-js-client waits for ever.
        """
        if isinstance(event, h11.InformationalResponse) and event.status_code == HTTPStatus.CONTINUE:
            return
        try:
            self._head += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
        else:
            if self._head and not isinstance(event, h11.Response):
                data, self._head = self._head, b""
                await self.send(RawData(data))

    async def _answered(self) -> bool:
        """Wait for the current request's answer; return whether the connection serves another."""
        while self.connection.their_state is h11.DONE:
            if self.stream is None:
                return False
            await self.can_read.clear()
            await self.can_read.wait()
        return True

    async def _refuse(self, error: FramingError) -> None:
        if self.stream is not None:
            await super().handle(RawData(b"!\r\n"))  # no valid chunk size: h11 ends the body and the connection
            return
        await self._send_error_response(error.status)
        await self.send(Closed())
