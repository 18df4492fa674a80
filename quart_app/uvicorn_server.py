"""uvicorn 0.54, made safe: checked requests, joined reads, and more time limits.

uvicorn chooses its protocol class before it loads the app, so this module changes the classes of both parsers in place.
Stock, they accept heads that a proxy may read differently, and httptools stops reading at a request for an upgrade. The
changed classes also parse one request at a time, refuse with the status that hypercorn and gunicorn use, and httptools
copies no content of a known length. A response's head is sent with its body's first bytes. Stock uvicorn logs an error
if the app breaks an answer off; the app has logged the reason.

uvicorn limits only the time between an answer and the next request: a connection that sends nothing, or half a head,
stays open for ever. And `--limit-max-requests` ends uvicorn without the signal that `Shutdown.watch` needs.
"""

import asyncio
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from socket import socket
from typing import Any

from filehandoff.framing import READ_AHEAD_BYTES, SMALL_READ_PAUSE, FramingError, RequestReader
from filehandoff.stall_detection import LOOK_EVERY, StallDetector
from quart_app.connections import is_readable
from quart_app.servers import is_known
from quart_app.shutdown import Shutdown
from quart_app.tasks import run_in_background

#: The version whose internals this module knows.
VERSION = "0.54."


def run(config: Path, listeners: Sequence[socket], arguments: Sequence[str]) -> int:
    """Serve on open sockets by uvicorn; return the exit status.

    `arguments` are further arguments of uvicorn's command.
    """
    from uvicorn import Config, Server  # noqa: PLC0415 - hypercorn does not need uvicorn

    options = {"log_config": None, **tomllib.loads(config.read_text()), **given_options(arguments)}
    options.pop("workers", None)
    # At its end uvicorn raises the signal again that ended it: the exit status would be that of a killed process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):  # uvicorn raises SIGINT again, too
        Server(Config(**options)).run(list(listeners))
    return 0


def given_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command line and UVICORN_*, by their names in `Config`."""
    from click import ClickException  # noqa: PLC0415 - as above
    from click.core import ParameterSource  # noqa: PLC0415
    from uvicorn.main import main  # noqa: PLC0415

    try:
        given = main.make_context("uvicorn", list(arguments), auto_envvar_prefix="UVICORN")
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sources = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
    return {name: value for name, value in given.params.items() if given.get_parameter_source(name) in sources}


def install(uploads: Shutdown) -> None:
    """Make uvicorn safe in this process; exit if it runs another version."""
    if not is_known("uvicorn", VERSION, "uvicorn.importer"):
        return
    for module, name in (("httptools_impl", "HttpToolsProtocol"), ("h11_impl", "H11Protocol")):
        with suppress(ImportError):  # uvicorn runs with either parser
            implementation: Any = import_module(f"uvicorn.protocols.http.{module}")
            httptools = getattr(implementation, "httptools", None)
            check_requests(getattr(implementation, name), httptools and httptools.HttpRequestParser)
            keep_arrived_requests(getattr(implementation, name))
            end_incomplete_answers(implementation.RequestResponseCycle)
            send_heads_with_bodies(implementation.RequestResponseCycle)
    limit_times(uploads)


def limit_times(uploads: Shutdown) -> None:
    """Give uvicorn a time limit for heads, and uploads one for uvicorn's end."""
    from uvicorn import Server  # noqa: PLC0415 - as above

    serve, stop = Server.main_loop, Server.shutdown

    async def main_loop(self: Server) -> None:
        limit = run_in_background(end_late_heads(self), "heads")
        await serve(self)
        limit.cancel()

    async def shutdown(self: Server, sockets: list[socket] | None = None) -> None:
        uploads.begin_end()
        await stop(self, sockets)

    Server.main_loop = main_loop  # type: ignore[method-assign] # uvicorn takes no class of ours
    Server.shutdown = shutdown  # type: ignore[method-assign]


async def end_late_heads(server: Any) -> None:
    """End the connections whose next request takes too long to arrive, until cancelled."""
    detector = StallDetector[Any]()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        # with its last request as its state, so that the time starts again for the next request
        waiting = [(each, (each.cycle,)) for each in server.server_state.connections if waits_for_head(each)]
        for protocol in detector.stalled(waiting, server.config.timeout_keep_alive):
            protocol.transport.abort()


def waits_for_head(protocol: Any) -> bool:
    """Return whether a connection has no request in progress and no timer of uvicorn's."""
    if not hasattr(protocol, "cycle"):
        return False  # a WebSocket
    answered = protocol.cycle is None or protocol.cycle.response_complete
    return answered and protocol.timeout_keep_alive_task is None


def keep_arrived_requests(protocol: Any) -> None:
    """Make a protocol class end an idle connection only if its next request has not arrived.

    `end_late_heads` limits the time for the head of that request.
    """
    end = protocol.timeout_keep_alive_handler

    def timeout_keep_alive_handler(self: Any) -> None:
        if is_readable(self.transport):
            self.timeout_keep_alive_task = None
        else:
            end(self)

    protocol.timeout_keep_alive_handler = timeout_keep_alive_handler


class Requests:
    """One connection's requests, given to uvicorn's parser one at a time.

    Reading pauses until the current request is answered.
    """

    def __init__(
        self, protocol: Any, parse: Callable[[Any, bytes], None], new_parser: Callable[[Any], Any] | None
    ) -> None:
        self._protocol = protocol
        self._parse = parse
        self._new_parser = new_parser
        self._reader = RequestReader()
        self._pause: asyncio.TimerHandle | None = None
        protocol.flow.resume_reading = self._resume_reading

    def receive(self, data: bytes) -> None:
        """Take the connection's next bytes."""
        self._reader.receive(data)
        self.proceed()
        if self._pause is None and self._reader.wants_pause:
            self._proceed_in(SMALL_READ_PAUSE)

    def proceed(self) -> None:
        """Parse the next bytes, if the connection is ready for them."""
        if self._pause is None and self._reader.pending and self._is_answered() and not self._is_closing():
            is_head = not self._reader.in_body
            try:
                piece = self._reader.step()
            except FramingError as error:
                self._refuse(error)
                return
            if piece:
                self._pass_on(piece)
                if is_head:
                    self.proceed()  # with the content: a pause here would take two system calls
                    return
                if self._reader.pending:
                    self._proceed_in(0)  # other connections run between the small chunks of a read
        self._set_reading()

    def _pass_on(self, piece: bytes) -> None:
        """Parse bytes; add content of a known length to the request directly, which saves three copies."""
        left = self._reader.content_left
        if left is None or self._new_parser is None:
            self._parse(self._protocol, piece)
            return
        self._add_content(piece, left)
        if not left:
            self._protocol.on_message_complete()
            self._protocol.parser = self._new_parser(self._protocol)  # the old one still expects the content

    def _add_content(self, content: bytes, left: int) -> None:
        cycle = self._protocol.cycle
        if cycle.response_complete:
            return
        cycle.body = cycle.body + content if cycle.body else content
        if left and len(cycle.body) > READ_AHEAD_BYTES:
            self._protocol.flow.pause_reading()
        cycle.message_event.set()

    def _is_answered(self) -> bool:
        """Return whether the parser can take the next request, or is in a body."""
        cycle = self._protocol.cycle
        return self._reader.in_body or cycle is None or cycle.response_complete

    def _is_closing(self) -> bool:
        return bool(self._protocol.transport.is_closing())

    def _refuse(self, error: FramingError) -> None:
        cycle = self._protocol.cycle
        # an answer in progress would take a second one for its own bytes
        if cycle is None or not cycle.response_started or cycle.response_complete:
            self._protocol.transport.write(refusal(error, self._protocol.server_state.default_headers))
        self._protocol.transport.close()

    def _proceed_in(self, seconds: float) -> None:
        self._pause = asyncio.get_running_loop().call_later(seconds, self._end_pause)
        self._set_reading()

    def _end_pause(self) -> None:
        self._pause = None
        self.proceed()

    def _resume_reading(self) -> None:
        self._protocol.flow.read_paused = False
        self._set_reading()

    def _set_reading(self) -> None:
        if self._is_closing():
            return
        if self._pause is not None or (self._reader.pending and not self._is_answered()):
            self._protocol.transport.pause_reading()
        elif not self._protocol.flow.read_paused:
            self._protocol.transport.resume_reading()


def refusal(error: FramingError, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return uvicorn's answer to an invalid request, with the error's status in the place of 400."""
    text = f"Invalid HTTP request received: {error}."
    status = HTTPStatus(error.status)
    lines = [
        b"HTTP/1.1 %d %s" % (status, status.phrase.encode()),
        *(b"%s: %s" % header for header in headers),
        b"content-type: text/plain; charset=utf-8",
        b"content-length: %d" % len(text),
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", text.encode("ascii")])


def end_incomplete_answers(cycle: Any) -> None:
    """Make a request's cycle close the connection of an incomplete answer without an error line.

    The app breaks a download off, and logs the reason, if S3 fails.
    """
    run = cycle.run_asgi

    async def run_asgi(self: Any, app: Callable[..., Awaitable[None]]) -> None:
        async def run_app(*request: Any) -> None:
            await app(*request)
            if self.response_started and not self.response_complete:
                self.disconnected = True
                self.transport.close()

        await run(self, run_app)

    cycle.run_asgi = run_asgi


def send_heads_with_bodies(cycle: Any) -> None:
    """Make a request's cycle send a response's head together with the body's first bytes."""
    send = cycle.send

    async def send_whole(self: Any, message: Any) -> None:
        if message["type"] == "http.response.start" and self.scope["method"] != "HEAD":
            self.transport = HeldHead(self)
        await send(self, message)

    cycle.send = send_whole


class HeldHead:
    """The transport of a cycle that holds the first bytes until the next."""

    def __init__(self, cycle: Any) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Hold a head; send it with the bytes behind it, and end the hold."""
        if not self._head:
            self._head = data
            return
        self._cycle.transport = self._transport
        self._transport.write(self._head + data)

    def is_closing(self) -> bool:
        """Return whether the connection ends."""
        return bool(self._transport.is_closing())

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


def check_requests(protocol: Any, new_parser: Callable[[Any], Any] | None) -> None:
    """Make a protocol class read its connections by `Requests`.

    `new_parser` makes httptools' parser of a connection; None stands for h11.
    """
    parse, complete = protocol.data_received, protocol.on_response_complete

    def requests(self: Any) -> Requests:
        if self.checked_requests is None:
            self.checked_requests = Requests(self, parse, new_parser)
        checked: Requests = self.checked_requests
        return checked

    def data_received(self: Any, data: bytes) -> None:
        requests(self).receive(data)

    def on_response_complete(self: Any) -> None:
        complete(self)
        requests(self).proceed()

    protocol.checked_requests = None
    protocol.data_received, protocol.on_response_complete = data_received, on_response_complete
