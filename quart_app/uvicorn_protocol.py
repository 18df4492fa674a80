"""uvicorn's HTTP/1.1 protocols, made safe: checked requests, one at a time, small pieces joined.

uvicorn has chosen its protocol class before it loads the app, so the classes of both its parsers are changed in place.
Stock, they take heads that a proxy may read differently, and httptools stops reading at a request for an upgrade.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from filehandoff.framing import FramingError, RequestReader
from quart_app.server_version import is_known

#: The version whose internals this module knows.
VERSION = "0.54."
#: A read of a body below this size in bytes is followed by a pause, in seconds, so that the next one is larger.
SMALL_READ_BYTES = 1024
SMALL_READ_PAUSE = 0.005


class Requests:
    """One connection's requests, given to uvicorn's parser one at a time; reading pauses while one is answered."""

    def __init__(self, protocol: Any, parse: Callable[[Any, bytes], None]) -> None:
        self._protocol = protocol
        self._parse = parse
        self._reader = RequestReader()
        self._pause: asyncio.TimerHandle | None = None
        protocol.flow.resume_reading = self._resume_reading

    def receive(self, data: bytes) -> None:
        """Take the connection's next bytes."""
        self._reader.receive(data)
        self.proceed()
        if self._pause is None and self._reader.in_body and len(data) < SMALL_READ_BYTES:
            self._proceed_in(SMALL_READ_PAUSE)

    def proceed(self) -> None:
        """Have the next bytes parsed, if it is their turn."""
        if self._pause is None and self._reader.pending and self._is_answered() and not self._is_closing():
            try:
                piece = self._reader.step()
            except FramingError as error:
                self._refuse(error)
                return
            if piece:
                self._parse(self._protocol, piece)
                if self._reader.pending:
                    self._proceed_in(0)  # other connections take turns with a read of many small chunks
        self._set_reading()

    def _is_answered(self) -> bool:
        """Whether the parser can take the next request, or is in the body of one."""
        cycle = self._protocol.cycle
        return self._reader.in_body or cycle is None or cycle.response_complete

    def _is_closing(self) -> bool:
        return bool(self._protocol.transport.is_closing())

    def _refuse(self, error: FramingError) -> None:
        cycle = self._protocol.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self._protocol.transport.close()  # an answer is under way: a second one would become part of it
        else:
            self._protocol.send_400_response(f"Invalid HTTP request received: {error}.")

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


def install() -> None:
    """Have uvicorn read requests by this module; end the start if the running uvicorn is another version."""
    if "uvicorn" in sys.modules and is_known("uvicorn", VERSION, "uvicorn.importer"):
        for module, name in (("httptools_impl", "HttpToolsProtocol"), ("h11_impl", "H11Protocol")):
            with suppress(ImportError):  # uvicorn runs with either parser
                check_requests(getattr(import_module(f"uvicorn.protocols.http.{module}"), name))


def check_requests(protocol: Any) -> None:
    """Change a protocol class so that its connections read by `Requests`; once."""
    if hasattr(protocol, "checked_requests"):
        return
    parse, complete = protocol.data_received, protocol.on_response_complete

    def requests(self: Any) -> Requests:
        if self.checked_requests is None:
            self.checked_requests = Requests(self, parse)
        checked: Requests = self.checked_requests
        return checked

    def data_received(self: Any, data: bytes) -> None:
        requests(self).receive(data)

    def on_response_complete(self: Any) -> None:
        complete(self)
        requests(self).proceed()

    protocol.checked_requests = None
    protocol.data_received, protocol.on_response_complete = data_received, on_response_complete
