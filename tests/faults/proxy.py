"""A proxy in front of a real S3 server that breaks calls by a script.

    with Proxy(store.endpoint_url) as proxy:
        proxy.on("upload_part", Reset(after=1024), part_number=2)
        ...  # upload by way of proxy.url
        assert [call.operation for call in proxy.calls] == [...]

It forwards request by request: heads byte for byte, so that signatures stay valid; bodies as they arrive, so that slow
readers slow the sender. HTTP/1.1 without upgrades, and no TLS.
"""

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from faults.http1 import READ_BYTES, Body, Head, Terms, body_of, hang_up, pass_on, read_head, reset
from faults.script import (
    Answer,
    Call,
    CutAnswer,
    Drip,
    Fault,
    FlipAnswerByte,
    FlipAnswerHeader,
    FlipRequestByte,
    Hold,
    Latency,
    LostAnswer,
    Refuse,
    Reset,
    RewriteAnswerHeader,
    Script,
    Stall,
    When,
    name_call,
)
from patience import PATIENCE


class Broken(ConnectionError):
    """The script demands a reset of this connection."""


class Proxy:
    """Listens at `url` in its own thread until it is closed.

    Attributes:
        on: scripts a fault.
        forget: removes the faults for keys with this end.
        calls: every request in order of arrival; may be cleared.
        latency: seconds that each call waits before it is handled.
        up, down: bytes per second of each request's body and each answer's body; None for no limit.
    """

    def __init__(self, store_url: str) -> None:
        store = urlsplit(store_url)
        if store.scheme != "http" or store.hostname is None:
            raise ValueError(f"the proxy speaks plain HTTP, not to '{store_url}'")
        self._store = (store.hostname, store.port or 80)
        self._script = Script()
        self.on = self._script.on
        self.forget = self._script.forget
        self.calls: list[Call] = []
        self.latency = 0.0
        self.up: float | None = None
        self.down: float | None = None
        self._errors: list[Exception] = []
        self._serving: set[asyncio.Task[Any] | None] = set()
        self._cleared = asyncio.Event()
        self._closing = asyncio.Event()
        self._refusing = asyncio.Event()
        self._refuse_seconds = 0.0
        self._listening = threading.Event()
        self._listening.set()
        listener = listen(0)
        self._port = listener.getsockname()[1]
        self.url = "http://{}:{}".format(*listener.getsockname())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="fault proxy", daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Break nothing more and listen again; script, latency and limits are reset.

        Stalled connections are reset and held calls continue; other running calls keep their faults.
        """
        self._script.clear()
        self.latency, self.up, self.down = 0.0, None, None
        self._loop.call_soon_threadsafe(self._end_stalls)
        assert self._listening.wait(PATIENCE), "the proxy does not listen again"

    def close(self) -> None:
        """End every connection and the thread.

        Raises:
            ExceptionGroup: a fault could not happen, for example because a body was too short, or the proxy failed.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        if self._errors:
            raise ExceptionGroup("the proxy could not carry out its script", self._errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen(listener))

    async def _listen(self, listener: socket.socket | None) -> None:
        self._loop.set_exception_handler(self._note_error)
        while not self._closing.is_set():
            server = await asyncio.start_server(self._serve, sock=listener or listen(self._port))
            self._listening.set()
            await first_of(self._closing, self._refusing)
            server.close()
            await end(asyncio.all_tasks() - {asyncio.current_task()})
            await server.wait_closed()
            listener = None
            if self._refusing.is_set():
                self._refusing.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._refuse_seconds):
                        await first_of(self._closing, self._cleared)

    def _note_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep an error outside the connections, which asyncio would only log."""
        error = context.get("exception") or RuntimeError(context["message"])
        if isinstance(error, Exception):  # Python 3.12.1 reports the cancellation of each connection
            self._errors.append(error)

    def _end_stalls(self) -> None:
        self._cleared.set()
        self._cleared = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client's connection, request by request."""
        keep = True
        task = asyncio.current_task()
        self._serving.add(task)  # asyncio drops its reference when the client disconnects
        try:
            while keep and (head := await read_head(reader)) is not None:
                call = name_call(*head.start[:2])
                call.cleared = self._cleared
                call.fault = self._script.fault_for(call)
                self.calls.append(call)
                await asyncio.sleep(self.latency)
                if call.fault == Hold(When.BEFORE_BODY):
                    await call.cleared.wait()
                keep = await self._answer(call, head, reader, writer) and head.keeps_alive
            await hang_up(reader, writer)
        except* (ConnectionError, EOFError):
            pass  # one side has disconnected, so both are reset
        except* Exception as failed:  # noqa: BLE001 - asyncio of Python 3.11 drops it
            self._errors.append(failed)
        finally:
            self._serving.discard(task)
            reset(writer)

    async def _answer(self, call: Call, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request by the store or in its place.

        Return whether the connection can serve another.
        """
        body = body_of(reader, head)
        match call.fault:
            case Reset(after=0):
                raise Broken
            case Refuse(seconds):
                self._refuse_seconds = seconds
                self._listening.clear()
                self._refusing.set()
                raise Broken
            case Stall(after=0):
                await stall(call)
            case Answer(when=When.BEFORE_BODY | When.AFTER_BODY) as fault:
                if fault.when is When.AFTER_BODY:
                    if "expect" in head.headers:
                        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    await pass_on(body, None, Terms(self.up))
                return answer_in_place(call, fault, head.method, writer)
        async with connection(*self._store) as (store_reader, store_writer), asyncio.TaskGroup() as tasks:
            store_writer.write(head.raw)
            sending = tasks.create_task(self._pass_request(call, body, store_writer))
            keep = await self._pass_answer(call, head.method, store_reader, writer)
            sending.cancel()  # after an early answer of the store, the rest of the body is dropped
        return keep and body.ended

    async def _pass_request(self, call: Call, body: Body, store: asyncio.StreamWriter) -> None:
        """Pass a request's body to the store, up to its fault."""
        await pass_on(body, store, self._terms_up(call.fault))
        if isinstance(call.fault, Stall):
            await stall(call)
        if isinstance(call.fault, Reset):
            raise Broken

    async def _pass_answer(
        self, call: Call, method: str, store: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> bool:
        """Pass the store's answer to the client with its fault; return the result for `_answer`."""
        while (head := await read_head(store)) is not None and head.status < HTTPStatus.OK:
            client.write(head.raw)  # 100 Continue
        if head is None:
            raise EOFError
        body = body_of(store, head, method)
        if isinstance(call.fault, LostAnswer | Answer):
            await pass_on(body, None, Terms())
            if isinstance(call.fault, LostAnswer):
                raise Broken
            return answer_in_place(call, call.fault, method, client)
        if isinstance(call.fault, Latency):
            await asyncio.sleep(call.fault.seconds)
        if call.fault == Hold(When.DONE):
            await call.cleared.wait()
        call.status = head.status
        if isinstance(call.fault, FlipAnswerHeader):
            client.write(flip_header(head, call.fault))
        elif isinstance(call.fault, RewriteAnswerHeader):
            client.write(rewrite_header(head, call.fault))
        else:
            client.write(head.raw)
        whole = await pass_on(body, client, self._terms_down(call.fault))
        if isinstance(call.fault, CutAnswer) and call.fault.reset:
            raise Broken
        return whole and body.ended and head.keeps_alive

    def _terms_up(self, fault: Fault | None) -> Terms:
        match fault:
            case Reset(after) | Stall(after):
                return Terms(self.up, stop_at=after)
            case FlipRequestByte(offset):
                return Terms(self.up, flip_at=offset)
            case Drip(up=rate) if rate is not None:
                return Terms(rate)
        return Terms(self.up)

    def _terms_down(self, fault: Fault | None) -> Terms:
        match fault:
            case CutAnswer(after):
                return Terms(self.down, stop_at=after)
            case FlipAnswerByte(offset, after):
                return Terms(self.down, flip_at=offset, flip_after=after)
            case Drip(down=rate) if rate is not None:
                return Terms(rate)
        return Terms(self.down)


async def stall(call: Call) -> None:
    """Wait until the script is cleared, then have the connection reset."""
    await call.cleared.wait()
    raise Broken


def listen(port: int) -> socket.socket:
    """Open a listening socket on loopback; port 0 means any free one."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    # without this, the kernel reads megabytes ahead, and a stall does not stop the client
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
    return listener


async def first_of(*events: asyncio.Event) -> None:
    """Wait for any of the events."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(waiting)


async def end(tasks: Collection[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks and wait for their end."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def flip_header(head: Head, fault: FlipAnswerHeader) -> bytes:
    """Flip one character of one header in a head."""
    value = head.headers[fault.name].encode("latin-1")
    at = range(len(value))[fault.offset]
    flipped = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    return re.sub(
        rb"(?im)^(%s:\s*)%s" % (re.escape(fault.name).encode(), re.escape(value)),
        lambda match: match[1] + flipped,
        head.raw,
    )


def rewrite_header(head: Head, fault: RewriteAnswerHeader) -> bytes:
    """Replace or remove one header in a head."""
    start, *lines = head.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() != fault.name.encode()]
    value = fault.value(head.headers.get(fault.name, ""))
    if value is not None:
        kept.append(f"{fault.name}: {value}".encode("latin-1"))
    return b"\r\n".join([start, *kept, b"", b""])


def answer_in_place(call: Call, fault: Answer, method: str, client: asyncio.StreamWriter) -> bool:
    """Answer in the store's place; the connection can serve no other request."""
    text = f'<?xml version="1.0"?>\n<Error><Code>{fault.code}</Code><Message>As scripted.</Message></Error>'
    text = text if fault.code else ""
    call.status = fault.status
    client.write(
        f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{'' if method == 'HEAD' else text}".encode()
    )
    return False


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to the store for one call, reset on failure.

    A kept one could have just ended.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
        writer.transport.abort()  # instead of a reset
    finally:
        reset(writer)
