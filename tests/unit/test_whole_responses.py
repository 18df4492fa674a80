"""A response's head and body as one write, on each server."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import h11
import pytest
from gunicorn.config import Config as GunicornConfig
from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.protocol import events
from hypercorn.protocol.h11 import STREAM_ID
from uvicorn.protocols.http import h11_impl, httptools_impl

from flask_app.gunicorn_protocol import Response
from quart_app.hypercorn_server import Protocol
from quart_app.uvicorn_server import HeldHead, send_heads_with_bodies

#: A response as headers and the chunks of its body.
Sent = Callable[..., list[bytes]]


def connection(method: str) -> h11.Connection:
    """Return h11's connection with a request."""
    made = h11.Connection(h11.SERVER)
    made.receive_data(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    made.next_event()
    return made


def by_hypercorn(headers: dict[str, str], chunks: list[bytes], method: str = "GET") -> list[bytes]:
    """Send a response by hypercorn's protocol; return its writes."""
    writes: list[bytes] = []

    async def send(event: Event) -> None:
        assert isinstance(event, RawData)
        writes.append(event.data)

    async def respond() -> None:
        context: Any = SimpleNamespace(event_class=lambda: None)
        others: list[Any] = [None] * 5
        protocol = Protocol(None, Config(), context, *others, send)
        protocol.connection = connection(method)
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        await protocol.stream_send(events.Response(STREAM_ID, fields, 200))
        for chunk in chunks:
            await protocol.stream_send(events.Body(STREAM_ID, chunk))
        await protocol.stream_send(events.EndBody(STREAM_ID))

    asyncio.run(respond())
    return writes


def by_gunicorn(headers: dict[str, str], chunks: list[bytes], method: str = "GET") -> list[bytes]:
    """Send a response by gunicorn's class; return its writes."""
    writes: list[bytes] = []
    request = SimpleNamespace(version=(1, 1), method=method, should_close=lambda: False)
    response = Response(request, SimpleNamespace(sendall=writes.append), GunicornConfig())
    response.start_response("200 OK", list(headers.items()))
    for chunk in chunks:
        response.write(chunk)
    response.close()
    return writes


class H11Cycle(h11_impl.RequestResponseCycle):
    """uvicorn's request with h11, changed as `install` changes it."""


class HttptoolsCycle(httptools_impl.RequestResponseCycle):
    """The same with httptools."""


for each in (H11Cycle, HttptoolsCycle):
    send_heads_with_bodies(each)


def by_uvicorn(
    cycle: Any, headers: dict[str, str], chunks: list[bytes], method: str = "GET", **more: Any
) -> list[bytes]:
    """Send a response by uvicorn's cycle; return its writes."""
    writes: list[bytes] = []

    async def respond() -> None:
        request = cycle(
            scope={"method": method, "headers": []},
            transport=SimpleNamespace(write=writes.append, is_closing=lambda: False),
            flow=SimpleNamespace(write_paused=False),
            message_event=asyncio.Event(),
            on_response=lambda: None,
            **{name: [] for name in ("logger", "access_logger", "access_log", "default_headers")},
            **more,
        )
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        await request.send({"type": "http.response.start", "status": 200, "headers": fields})
        for chunk in chunks:
            await request.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await request.send({"type": "http.response.body", "body": b"", "more_body": False})

    asyncio.run(respond())
    return [write for write in writes if write]


def by_uvicorn_with_h11(headers: dict[str, str], chunks: list[bytes], method: str = "GET") -> list[bytes]:
    """Send a response by uvicorn with h11."""
    return by_uvicorn(H11Cycle, headers, chunks, method, conn=connection(method))


def by_uvicorn_with_httptools(headers: dict[str, str], chunks: list[bytes], method: str = "GET") -> list[bytes]:
    """Send a response by uvicorn with httptools."""
    return by_uvicorn(HttptoolsCycle, headers, chunks, method, expect_100_continue=False, keep_alive=True)


on_each = pytest.mark.parametrize("sent", [by_hypercorn, by_gunicorn, by_uvicorn_with_h11, by_uvicorn_with_httptools])


@on_each
def test_a_head_and_a_body_are_one_write(sent: Sent) -> None:
    """A connection cannot end between them, which would stop tus-js-client for ever."""
    (whole,) = sent({"Content-Length": "4"}, [b"body"])
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b"\r\n\r\nbody")


@on_each
def test_a_head_without_a_body_is_sent_at_the_end(sent: Sent) -> None:
    """A response without a body is one write."""
    (whole,) = sent({"Content-Length": "0"}, [])
    assert whole.endswith(b"\r\n\r\n")


@on_each
def test_the_head_of_a_head_request_is_sent(sent: Sent) -> None:
    """A response to HEAD is one write, though its length is that of a body."""
    (whole,) = sent({"Content-Length": "4"}, [], "HEAD")
    assert whole.endswith(b"\r\n\r\n")


@on_each
def test_later_chunks_are_sent_as_they_come(sent: Sent) -> None:
    """Only the body's first bytes go with the head."""
    first, *others = sent({"Content-Length": "6"}, [b"on", b"tw", b"th"])
    assert first.endswith(b"\r\n\r\non")
    assert others == [b"tw", b"th"]


def test_a_held_head_knows_whether_its_connection_ends() -> None:
    """The transport of a held head passes the end of the connection on."""
    calls: list[str] = []
    transport = SimpleNamespace(is_closing=lambda: calls != [], close=lambda: calls.append("close"))
    held = HeldHead(SimpleNamespace(transport=transport))
    assert not held.is_closing()
    held.close()
    assert held.is_closing()
