"""The request class: our form parser behind Quart's `request.form` and `request.files`; a bounded body."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing, suppress
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast

import quart
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope, WebsocketScope
from quart.datastructures import FileStorage
from quart.formparser import FormDataParser as QuartFormDataParser
from werkzeug.datastructures import Headers, MultiDict, iter_multi_items

from filehandoff.digest import to_content_digest
from filehandoff.errors import FormMalformed, RequestTimedOut
from filehandoff.form import DIGEST_HEADER, Event, Field, FileChunk, FileEnd, FileStart, FormParser
from filehandoff.settings import Settings
from filehandoff.typing_backports import override
from filehandoff.web.request import EXTENSION, RequestValues
from quart_app.connections import transport_of
from quart_app.idle_limit import IdleLimit

if sys.version_info >= (3, 13):
    from asyncio import Queue

    from quart.asgi import ASGIHTTPConnection
    from quart.wrappers.base import ClientDisconnectedError
    from quart.wrappers.request import Body as QuartBody
else:
    from quart_app.older_quart import ASGIHTTPConnection, ClientDisconnectedError, Queue
    from quart_app.older_quart import Body as QuartBody

if TYPE_CHECKING:
    from quart_app.quotas import Limiter
    from quart_app.service import Service

#: Bytes of a file that stay in memory; a larger file rolls over to disk.
SPOOL_BYTES = 500_000
#: Bytes per write to disk, in a thread: a body's messages of 64 KiB would need more writes.
WRITE_BYTES = 512 * 1024
#: Seconds for which an unwanted body is read after the answer, and seconds without a byte after which this ends.
DISCARD_SECONDS = 10.0
DISCARD_IDLE_SECONDS = 2.0
#: The key of the connection's transport in a request's scope.
TRANSPORT = "filehandoff.transport"
#: Messages of a body, of up to 256 KiB each, that wait in memory before the client must wait.
BODY_MESSAGES = 8
#: Bytes of a message; smaller messages are joined.
JOINED_BYTES = 16 * 1024


class FormFiller:
    """Fields and ordinary FileStorage objects, filled from a form parser's events."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []
        self._spool: IO[bytes] | None = None
        self._size = 0
        self._waiting = bytearray()

    async def take(self, event: Event) -> None:
        """Take the next event; write a file's bytes to memory, or by thread to disk."""
        match event:
            case Field(name, value):
                self.fields.append((name, value))
            case FileStart():
                self._spool = cast("IO[bytes]", SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115 - close() closes it
                self._size = 0
                self.files.append((event.name, self._storage(event, self._spool)))
            case FileChunk(data):
                self._size += len(data)
                self._waiting += data
                if len(self._waiting) >= WRITE_BYTES:
                    await self._write()
            case FileEnd():
                await self._write()

    async def _write(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        if self._size <= SPOOL_BYTES:
            self._write_data(data)
        else:
            await asyncio.to_thread(self._write_data, data)

    def _write_data(self, data: bytearray) -> None:
        assert self._spool is not None
        self._spool.seek(0, 2)
        self._spool.write(data)
        self._spool.seek(0)

    async def close(self) -> None:
        """Close every file of a form that is not used."""
        await close_files([file for _, file in self.files])

    @staticmethod
    def _storage(start: FileStart, stream: IO[bytes]) -> FileStorage:
        headers = Headers({"Content-Type": start.content_type})
        if start.promised is not None:
            headers[DIGEST_HEADER] = to_content_digest(start.promised)
        return FileStorage(stream, start.filename, start.name, headers=headers)


class Body(QuartBody):
    """A body with a bounded queue; the rest waits in the client (pallets/quart#152).

    Quart's own queue is unbounded: if a handler pauses, the whole upload fills memory. A bounded queue needs two things
    more, or connections outlive their requests. The end of a request must `discard` the bytes that still arrive, and a
    reader of the whole body must empty the queue meanwhile.
    """

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._queue = Queue(BODY_MESSAGES)
        self._discarding = False
        self._received = 0
        #: Whether the server may send 100 Continue; unset only while a client expects that.
        self.may_arrive = asyncio.Event()
        self.may_arrive.set()
        self._wanted = True
        #: Whether the client has disconnected.
        self.disconnected = False

    @override
    async def put(self, data: bytes) -> None:
        self._received += len(data)
        if data and not self._discarding:
            await self._queue.put(data)

    @override
    async def get(self) -> bytes:
        """Return the next messages, small ones joined: each chunk costs time later."""
        self._wanted = True
        self.may_arrive.set()
        data = await super().get()
        if len(data) >= JOINED_BYTES or self._queue.empty():
            return data
        joined = bytearray(data)
        while len(joined) < JOINED_BYTES and not self._queue.empty():
            joined += self._queue.get_nowait()
        return bytes(joined)

    @override
    def disconnect(self) -> None:
        self.disconnected = True
        super().disconnect()

    def expect(self) -> None:
        """Hold back 100 Continue until the body is first read or the answer begins."""
        self._wanted = False
        self.may_arrive.clear()

    def discard(self) -> None:
        """Discard the received bytes of the body, and those that still arrive."""
        self._discarding = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def has_ended(self) -> bool:
        """Return whether the whole body has arrived, without waiting for more."""
        if not self._complete.is_set():
            await asyncio.sleep(0)  # the end may be in messages that the server has read
        return self._complete.is_set()

    async def discard_to_the_end(self) -> None:
        """Discard the body until its end, for a bounded time.

        A client that expects 100 Continue and has sent no byte will send none.
        """
        self.discard()
        if self._complete.is_set():
            return
        if not self._wanted:
            await asyncio.sleep(0)  # the client may have sent bytes without 100 Continue
            if not self._received:
                return
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._complete.is_set() and await self._moves():
                    pass

    async def _moves(self) -> bool:
        """Wait `DISCARD_IDLE_SECONDS` for the end; return whether it or a byte has arrived."""
        before = self._received
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_IDLE_SECONDS):
                await self._complete.wait()
        return self._complete.is_set() or self._received > before

    @override
    def __await__(self) -> Generator[Any, None, Any]:
        return self._whole().__await__()

    async def _whole(self) -> bytes:
        if self._data is None:
            self._data = b"".join([chunk async for chunk in self])
        return self._data


class Connection(ASGIHTTPConnection):
    """One request and its answer, whose end discards the rest of the body.

    Many clients read an early answer only after they have sent the whole body. hypercorn closes the connection if the
    answer ends before the request. The close resets the connection, and the client may lose the answer. So the end of
    the answer waits for the end of the body, for a bounded time. The answer also announces `Connection: close`, because
    the client's next request would get no answer.
    """

    @override
    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer the request; without a complete answer, the server ends the connection."""
        # The client has disconnected, or S3 failed during a download, which the log reports.
        try:
            await super().__call__(receive, send)
        except* (ClientDisconnectedError, BrokenPipeError):
            pass

    @override
    async def handle_request(self, request: quart.Request, send: ASGISendCallable) -> None:
        body = cast("Body", request.body)

        async def send_and_discard(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start" and self.scope["http_version"].startswith("1"):
                if not await body.has_ended():
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            elif message["type"] == "http.response.body" and not message["more_body"]:
                await body.discard_to_the_end()
            await send(message)
            body.may_arrive.set()  # once an answer has begun, the server sends no 100 Continue

        try:
            await super().handle_request(request, send_and_discard)
        finally:
            # Not in Request.close: each copied context calls that during the request.
            body.discard()
            body.may_arrive.set()

    @override
    async def handle_messages(
        self, request: quart.Request, receive: ASGIReceiveCallable, request_task: asyncio.Task[Any]
    ) -> None:
        """Receive the body once it may arrive: the first `receive` sends 100 Continue."""
        await cast("Body", request.body).may_arrive.wait()
        await super().handle_messages(request, receive, request_task)


class ServiceConnection(Connection):
    """A connection that the end of the process waits for, and can end."""

    @override
    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        service: Service = self.app.extensions[EXTENSION]
        service.shutdown.follow(send)
        cast("dict[str, Any]", self.scope)[TRANSPORT] = transport = transport_of(send)
        service.connections.add(transport)
        await super().__call__(receive, send)

    @override
    async def handle_request(self, request: quart.Request, send: ASGISendCallable) -> None:
        try:
            await super().handle_request(request, send)
        finally:
            cast("Request", request).until_answered.close()


class Handshake:
    """A WebSocket handshake, answered as an ordinary GET (RFC 9110, section 7.8).

    Quart would look for a WebSocket route and for an error handler that needs no request, and answer 500.
    """

    def __init__(self, app: quart.Quart, scope: WebsocketScope) -> None:
        self._connection = ServiceConnection(app, cast("HTTPScope", {**scope, "type": "http", "method": "GET"}))
        self._answers = "websocket.http.response" in (scope.get("extensions") or {})

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer by ASGI's WebSocket Denial Response, if the server supports it."""
        if not self._answers:
            await send({"type": "websocket.close", "code": 1000, "reason": None})  # the server answers 403
            return

        async def receive_as_http() -> Any:
            connects = (await receive())["type"] == "websocket.connect"
            return {"type": "http.request", "body": b""} if connects else {"type": "http.disconnect"}

        async def send_as_websocket(message: Any) -> None:
            await send(cast("ASGISendEvent", {**message, "type": f"websocket.{message['type']}"}))
            if message["type"] == "http.response.body" and not message["more_body"]:
                answering.cancel()  # it waits for the client's disconnect, and the server waits for its end

        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self._connection(receive_as_http, send_as_websocket))


class FormDataParser(QuartFormDataParser):
    """Form parsing by `filehandoff.form`, in the place of Quart's parser."""

    def __init__(self, request: "Request") -> None:
        super().__init__(cls=request.parameter_storage_class, silent=False)
        self._request = request

    @override
    async def parse(
        self,
        body: Any,
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        """Read the whole body into fields and files.

        Raises:
            FormError: the form cannot be accepted.
        """
        parser = self._request.form_parser()
        form = FormFiller()
        try:
            async with aclosing(self._request.chunks()) as chunks:
                async for chunk in chunks:
                    for event in parser.receive(chunk):
                        await form.take(event)
            parser.finish()
        except BaseException:
            await form.close()
            raise
        self._request.files_in_order = form.files
        assert self.cls is not None
        return self.cls(form.fields), self.cls(form.files)


class Request(RequestValues, quart.Request):
    """A request with an id and a bounded body, whose form our parser reads."""

    body_class = Body

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.has_body and self.field("expect").lower() == "100-continue":
            cast("Body", self.body).expect()

    @property
    def has_disconnected(self) -> bool:
        """Whether the client has disconnected."""
        return cast("Body", self.body).disconnected

    def form_parser(self) -> FormParser:
        """Return a parser for this request's form."""
        return self.parser_for(self._settings)

    async def sent_files(self) -> list[FileStorage]:
        """Return the files of the form that are stored."""
        await self._load_form_data()
        return self.files_to_store(self._settings)

    def chunks(self) -> AsyncGenerator[bytes]:
        """Return the body's chunks as they arrive, by `read_body`; count them against the sender's quotas."""
        body = read_body(self.body, self._settings.idle_timeout)
        return body if self.account is None else self._limiter.metered(self.account, self.content_length, body)

    def hang_up(self) -> None:
        """End the connection and drop unsent bytes; a sending task sees a disconnected client."""
        transport = cast("Any", self.scope).get(TRANSPORT)
        if transport is not None:
            transport.abort()

    @property
    @override
    def _settings(self) -> Settings:
        return cast("Settings", quart.current_app.extensions[EXTENSION].settings)

    @property
    def _limiter(self) -> "Limiter":
        return cast("Limiter", quart.current_app.extensions[EXTENSION].limiter)

    @override
    def make_form_data_parser(self) -> FormDataParser:
        return FormDataParser(self)

    @override
    async def close(self) -> None:
        """Close the files in a thread, because large ones are on disk.

        Quart wraps an error of this method in an exception group. A cancellation in a group ends no task, and hypercorn
        logs it with a traceback. So this method cancels the task again, which ends it where it next waits.
        """
        try:
            await close_files([file for _, file in iter_multi_items(self._files or MultiDict())])
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.cancel()


async def read_body(body: AsyncIterator[bytes], idle_seconds: float) -> AsyncGenerator[bytes]:
    """Yield the body's chunks as they arrive, none of them empty.

    Raises:
        RequestTimedOut: no byte arrived for `idle_seconds`.
        FormMalformed: the client disconnected.
    """
    try:
        with IdleLimit(idle_seconds) as waiting:
            while True:
                async with waiting:
                    chunk = await anext(body, None)
                if chunk is None:
                    return
                if chunk:
                    yield chunk
    except TimeoutError as error:
        raise RequestTimedOut(f"Nothing of the body arrived for {idle_seconds:g} seconds.") from error
    except ClientDisconnectedError as error:
        raise FormMalformed(
            "The body ended before it was complete, or its chunks are broken.", cut_short=True
        ) from error


async def close_files(files: list[FileStorage]) -> None:
    """Close all files in a thread, even if this task is cancelled."""
    if files:
        await asyncio.shield(asyncio.to_thread(_close_all, files))


def _close_all(files: list[FileStorage]) -> None:
    for file in files:
        with suppress(OSError):  # a full disk: closing writes the file's last bytes
            file.close()
