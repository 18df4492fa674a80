"""How aiohttp sends a body to S3.

What it does by itself has two flaws here. It reads every file in a thread, 64 KiB at a time, also one that is in
memory: 16,384 hand-overs for each GiB. And its read timeout begins when the body was sent, so that a store which stops
taking bytes holds a call for ever, where boto3's timeout holds for every send.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import IO, Any, override

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import PAYLOAD_REGISTRY, Order, Payload

from filehandoff.parts import FileReader, Part, PartReader

READ_BYTES = 256 * 1024


class PartBody(PartReader):
    """A part, sent as it lies; S3 may take no byte of it for `timeout` seconds."""

    def __init__(self, part: Part, timeout: float) -> None:
        super().__init__(part.chunks)
        self.timeout = timeout

    async def pieces_to_send(self) -> AsyncIterator[memoryview]:
        """Its chunks, or what is left of them."""
        for piece in self.pieces():
            yield piece


class FileBody(FileReader):
    """An open file, read in a thread; S3 may take no byte of it for `timeout` seconds."""

    def __init__(self, file: IO[bytes], timeout: float) -> None:
        super().__init__(file)
        self.timeout = timeout

    async def pieces_to_send(self) -> AsyncIterator[memoryview]:
        """What is left of it, in pieces.

        The last one is known for the last: if there were another read to find that out, S3's answer might come before
        it, and aiohttp closes a connection on which it has an answer and still something to send.
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
    """One of these bodies, from where it stands, again from there if aiohttp or botocore tries once more."""

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
        async for piece in self._value.pieces_to_send():
            async with asyncio.timeout(self._value.timeout):
                await writer.write(piece)

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)  # the length that S3 was told is the body's own


for body in (PartBody, FileBody):
    PAYLOAD_REGISTRY.register(SteadyPayload, body, order=Order.try_first)
