"""Request bodies that aiohttp sends to S3.

aiohttp's own payloads have three flaws here. They read every file in a thread, 64 KiB at a time, even a file in memory:
16,384 thread switches for each GiB. aiohttp's read timeout begins after the body, so a store that stops taking bytes
holds a call for ever. boto3's timeout covers every send. And aiohttp closes the connection of a failed call only after
its last bytes: a store that takes none holds the connection and the bytes for ever.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import IO, Any

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import PAYLOAD_REGISTRY, Order, Payload

from filehandoff.parts import FileReader, Part, PartReader
from filehandoff.typing_backports import override
from quart_app.idle_limit import IdleLimit

READ_BYTES = 256 * 1024


class PartBody(PartReader):
    """A part, sent without a copy; fails when S3 takes no byte for `timeout` seconds."""

    def __init__(self, part: Part, timeout: float) -> None:
        super().__init__(part.chunks)
        self.timeout = timeout

    async def pieces_to_send(self) -> AsyncIterator[memoryview]:
        """Yield the rest of the part's chunks."""
        for piece in self.pieces():
            yield piece


class FileBody(FileReader):
    """A file, read in a thread; fails when S3 takes no byte for `timeout` seconds."""

    def __init__(self, file: IO[bytes], timeout: float) -> None:
        super().__init__(file)
        self.timeout = timeout

    async def pieces_to_send(self) -> AsyncIterator[memoryview]:
        """Yield the rest of the file in pieces.

        No read after the last piece looks for the end. S3 may respond during such a read, and aiohttp closes a
        connection that has a response before its body ends.
        """
        last = False
        while not last:
            piece, last = await asyncio.to_thread(self._next_piece)
            if piece:
                yield memoryview(piece)

    def _next_piece(self) -> tuple[bytes, bool]:
        position = self.tell()
        end = self.seek(0, io.SEEK_END)
        self.seek(position)
        piece = self.read(READ_BYTES)
        return piece, not piece or position + len(piece) >= end


class SteadyPayload(Payload):
    """A body from its current position on; a retry sends it from there again."""

    _value: PartBody | FileBody

    def __init__(self, value: PartBody | FileBody, *args: Any, **kwargs: Any) -> None:
        super().__init__(value, *args, **kwargs)
        self._start = value.tell()

    @override
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise io.UnsupportedOperation("a body is sent, not shown")

    @override
    async def write(self, writer: AbstractStreamWriter) -> None:
        self._value.seek(self._start)
        transport = writer.transport  # the writer forgets it when a cancelled call closes the connection
        try:
            with IdleLimit(self._value.timeout) as waiting:
                async for piece in self._value.pieces_to_send():
                    async with waiting:
                        await writer.write(piece)
        except BaseException:
            if transport is not None:
                transport.abort()
            raise

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)  # Content-Length is the body's own length


for body in (PartBody, FileBody):
    PAYLOAD_REGISTRY.register(SteadyPayload, body, order=Order.try_first)
