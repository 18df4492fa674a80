"""A client that disconnects while Quart closes the request's files ends only its own request."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from contract.api import CONTENT_TYPE, form, part
from hypercorn.typing import ASGIReceiveEvent, HTTPScope
from patience import PATIENCE
from quart import Quart, request
from quart.datastructures import FileStorage

import quart_app.request
from filehandoff.settings import Settings
from filehandoff.web.request import EXTENSION

SCOPE = {
    "type": "http",
    "method": "POST",
    "scheme": "http",
    "http_version": "1.1",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"here"), (b"content-type", CONTENT_TYPE.encode())],
}


async def test_a_disconnect_while_files_are_closed_raises_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request ends and its files are closed; Quart alone would raise an ExceptionGroup."""
    may_close, closed = threading.Event(), list[FileStorage]()
    is_closing, has_closed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def close_all(files: list[FileStorage]) -> None:
        loop.call_soon_threadsafe(is_closing.set)
        may_close.wait(PATIENCE)
        for file in files:
            file.close()
        closed.extend(files)
        loop.call_soon_threadsafe(has_closed.set)

    monkeypatch.setattr(quart_app.request, "_close_all", close_all)
    app = Quart(__name__)
    app.request_class = quart_app.request.Request
    app.extensions[EXTENSION] = SimpleNamespace(settings=Settings())

    @app.post("/")
    async def view() -> str:
        return str(len(await request.files))

    body: ASGIReceiveEvent = cast(
        "ASGIReceiveEvent", {"type": "http.request", "body": form(part("file", b"x", "a")), "more_body": False}
    )
    messages = [body]

    async def receive() -> ASGIReceiveEvent:
        if messages:
            return messages.pop()
        await is_closing.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await quart_app.request.Connection(app, cast("HTTPScope", SCOPE))(receive, send)
    assert sent == []
    may_close.set()
    await asyncio.wait_for(has_closed.wait(), PATIENCE)
    assert [file.filename for file in closed] == ["a"]
