"""The reads of a hypercorn connection: complete, in order, and paused while the app reads none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from patience import wait_until

from filehandoff.framing import READ_AHEAD_BYTES, SMALL_READ_BYTES
from quart_app.hypercorn_server import Reads

#: More than the buffers of two sockets on loopback.
LARGE = 64 * 1024 * 1024
SIZE = 4096


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Reads, asyncio.StreamWriter, asyncio.StreamWriter]]:
    """Yield the reads of a connection, its writer, and its client's writer."""
    accepted = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader, writer = await accepted.get()
        try:
            yield Reads(reader, writer.transport), writer, client
        finally:
            client.close()
            writer.close()


async def read_all(reads: Reads) -> bytes:
    """Return all bytes up to the end."""
    pieces = []
    while not reads.at_eof():
        pieces.append(await reads.read(SIZE))
    return b"".join(pieces)


async def test_bytes_arrive_in_order_whenever_they_are_sent() -> None:
    """Those before the first read come first, even more than its size; then others up to the client's end."""
    before, after = bytes(range(256)) * 33, b"later" * 1000
    async with connected() as (reads, _, client):
        client.write(before)
        await client.drain()
        received = b""
        while len(received) < len(before):
            received += await reads.read(SIZE)
        client.write(after)
        client.write_eof()
        assert received + await read_all(reads) == before + after


async def test_small_pieces_that_wait_are_one_read() -> None:
    """A client of small packets is not slowed to one packet for each pause after a small read."""
    async with connected() as (reads, _, client):
        client.write(b"a")
        assert await reads.read(SIZE) == b"a"
        for piece in (b"b", b"c", bytes(SMALL_READ_BYTES), b"d"):
            reads.data_received(piece)
        assert await reads.read(SIZE) == b"bc" + bytes(SMALL_READ_BYTES) + b"d"


async def test_a_large_piece_is_a_read_of_its_own() -> None:
    """Joining it to others would copy it."""
    async with connected() as (reads, _, client):
        client.write(b"a")
        assert await reads.read(SIZE) == b"a"
        large = bytes(SMALL_READ_BYTES)
        reads.data_received(large)
        reads.data_received(b"b")
        assert await reads.read(SIZE) is large
        assert await reads.read(SIZE) == b"b"


async def test_an_end_before_the_first_read_is_the_end() -> None:
    """A connection without a byte has no more reads."""
    async with connected() as (reads, _, client):
        client.write_eof()
        assert await read_all(reads) == b""


async def test_an_end_ends_a_waiting_read() -> None:
    """The read returns no byte, and the connection is at its end."""
    async with connected() as (reads, _, client):
        client.write(b"a")
        assert await reads.read(SIZE) == b"a"
        waiting = asyncio.create_task(reads.read(SIZE))
        client.write_eof()
        assert await waiting == b""
        assert reads.at_eof()


async def test_reading_pauses_while_the_app_reads_nothing() -> None:
    """A client can send only a bounded number of bytes ahead; all of them arrive later."""
    async with connected() as (reads, writer, client):
        client.write(b"a")
        assert await reads.read(SIZE) == b"a"
        client.write(bytes(LARGE))
        transport = cast("asyncio.Transport", writer.transport)
        await asyncio.to_thread(wait_until, lambda: not transport.is_reading(), lambda: "reading goes on")
        size = len(await reads.read(SIZE))
        assert size > 0
        client.write_eof()
        assert size + len(await read_all(reads)) == LARGE


async def test_a_broken_connection_raises_after_its_last_bytes() -> None:
    """The bytes before the break are read; then the read raises, as a stream's does."""
    async with connected() as (reads, writer, client):
        client.write(b"a")
        assert await reads.read(SIZE) == b"a"
        reads.data_received(bytes(READ_AHEAD_BYTES))
        reads.connection_lost(ConnectionResetError())
        assert await reads.read(SIZE) == bytes(READ_AHEAD_BYTES)
        with pytest.raises(ConnectionResetError):
            await reads.read(SIZE)
        with pytest.raises(ConnectionResetError):
            await writer.drain()


async def test_a_writer_waits_for_room() -> None:
    """A writer of the connection drains only when its buffer has room."""
    async with connected() as (reads, writer, client):
        client.write(b"a")
        await reads.read(SIZE)
        reads.pause_writing()
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        reads.resume_writing()
        await draining
