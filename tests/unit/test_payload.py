"""Bodies for S3: their connections stay reusable, and a sent part is freed."""

import asyncio
import io
import os
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from types import SimpleNamespace
from typing import IO, Any, cast

import pytest
from aiohttp.abc import AbstractStreamWriter
from patience import PATIENCE

import flask_app.store
import quart_app.store
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.settings import Settings
from quart_app.payload import READ_BYTES, FileBody, SteadyPayload

INCOMING = Incoming("a/key", "name", "text/plain")
PUTS = 20


class HastyStore:
    """An S3 server that counts connections, and responds with a body's last byte."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to every put on one connection."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
                length = next(int(value) for name, _, value in lines if name == b"content-length")
                await reader.readexactly(length)
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "e"\r\n\r\n')
        except asyncio.IncompleteReadError:
            writer.close()


def spooled(data: bytes) -> IO[bytes]:
    """Return a file that has rolled over to disk."""
    file = SpooledTemporaryFile(1)  # noqa: SIM115 - the test closes it
    file.write(data)
    file.seek(0)
    return file


async def ignore(**_event: Any) -> None:
    """Do nothing, as a hook."""


@pytest.mark.parametrize("size", [1, READ_BYTES, READ_BYTES + 1])
@pytest.mark.parametrize(
    "as_body",
    [
        pytest.param(io.BytesIO, id="in memory"),
        pytest.param(spooled, id="on disk"),
        pytest.param(lambda data: Part(1, (data,)), id="as chunks"),
    ],
)
async def test_a_connection_is_used_again(
    monkeypatch: pytest.MonkeyPatch, as_body: Callable[[bytes], Any], size: int
) -> None:
    """Consecutive puts reuse one connection, however soon S3 responds."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "none")
    hasty = HastyStore()
    server = await asyncio.start_server(hasty.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = quart_app.store.Store(Settings(s3_endpoint_url=f"http://127.0.0.1:{port}"), Metrics())
    await store.open()
    try:
        for _ in range(PUTS):
            body = as_body(os.urandom(size))
            assert await store.perform(calls.put_object(INCOMING, body, 1, ignore)) == calls.Put("e", checked=False)
            if not isinstance(body, Part):
                body.close()
    finally:
        await store.close()
        server.close()
    assert hasty.connections == 1


async def test_a_file_is_sent_from_where_it_stands() -> None:
    """The unread rest of a file is sent in pieces, none of them empty."""
    data = os.urandom(2 * READ_BYTES + 1)
    file = io.BytesIO(data)
    file.seek(3)
    pieces = [bytes(piece) async for piece in FileBody(file, 1).pieces_to_send()]
    assert (b"".join(pieces), len(pieces)) == (data[3:], 2 + (len(data) - 3 > 2 * READ_BYTES))
    assert [piece async for piece in FileBody(io.BytesIO(), 1).pieces_to_send()] == []


class StalledWriter:
    """aiohttp's writer to a store that takes no byte; the end of the call makes it forget its transport."""

    def __init__(self) -> None:
        self.transport: StalledWriter | None = self
        self.stalls = asyncio.Event()
        self.aborted = False

    async def write(self, _piece: memoryview) -> None:
        """Wait for the store for ever."""
        self.stalls.set()
        await asyncio.Event().wait()

    def abort(self) -> None:
        """End the connection, as its transport."""
        self.aborted = True


async def test_a_cancelled_body_ends_its_connection() -> None:
    """The connection would stay open until the store takes the bytes that wait in it."""
    writer = StalledWriter()
    body = SteadyPayload(FileBody(io.BytesIO(b"bytes"), PATIENCE))
    sending = asyncio.create_task(body.write(cast("AbstractStreamWriter", writer)))
    await writer.stalls.wait()
    writer.transport = None
    sending.cancel()
    await asyncio.wait([sending])
    assert writer.aborted


class Recorder:
    """A client that keeps the body of each call."""

    def __init__(self) -> None:
        self.body: Any = None

    def upload_part(self, **parameters: Any) -> dict[str, str]:
        """Keep the body of boto3's call."""
        self.body = parameters["Body"]
        return {"ETag": '"e"'}

    async def upload_part_async(self, **parameters: Any) -> dict[str, str]:
        """Keep the body of aioboto3's call."""
        return self.upload_part(**parameters)


async def test_a_sent_part_is_freed_though_boto_holds_its_reader() -> None:
    """Both shells close a part's reader after the call, because boto's own objects form cycles."""
    part = Part(1, (b"some bytes",))
    call = calls.upload_part("key", "id", part, 1)
    kept = Recorder(), Recorder()
    flask = flask_app.store.Store(Settings(), Metrics())
    flask._clients["uploads"] = cast("Any", kept[0])  # noqa: SLF001 - no other seam
    flask.perform(call)
    quart = quart_app.store.Store(Settings(), Metrics())
    quart._clients["uploads"] = cast("Any", SimpleNamespace(upload_part=kept[1].upload_part_async))  # noqa: SLF001 - private too
    await quart.perform(call)
    assert [recorder.body.closed for recorder in kept] == [True, True]
    assert [list(recorder.body.pieces()) for recorder in kept] == [[], []]
