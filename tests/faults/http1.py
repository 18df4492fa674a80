"""HTTP/1.1 heads and bodies that stream through the proxy unchanged (RFC 9112)."""

import asyncio
import math
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

READ_BYTES = 64 * 1024
#: Seconds that a client may still send after an early answer; a reset could cost it the answer.
LINGER_SECONDS = 30.0


@dataclass(frozen=True)
class Head:
    """A first line and headers, raw and parsed."""

    raw: bytes
    start: list[str]
    headers: dict[str, str]

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.start[0]

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start[1])

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return "HTTP/1.1" in self.start and self.headers.get("connection", "").lower() != "close"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the next head; None if the connection ends before it."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Head(raw, start.split(" ", 2), headers)


class Body:
    """An unread body of a known length, up to the end (infinity), or chunked (None)."""

    def __init__(self, reader: asyncio.StreamReader, length: float | None) -> None:
        self._reader = reader
        self._left = length or 0  # of the body, or of its present chunk
        self._more_chunks = length is None
        self._chunk_end = b""

    @property
    def ended(self) -> bool:
        """Whether the whole body was read, so that the next bytes are another head."""
        return not self._left and not self._more_chunks

    async def read(self, at_most: int) -> tuple[bytes, bytes]:
        """Read the next framing and content; content is empty only at the end."""
        frame = await self._read_frame() if self._more_chunks and not self._left else b""
        content = await self._reader.read(int(min(at_most, self._left)))
        if not content and 0 < self._left < math.inf:
            raise EOFError
        self._left -= len(content)
        return frame, content

    async def _read_frame(self) -> bytes:
        """Read the framing between two chunks, or from the last one to the end."""
        frame = await self._reader.readexactly(len(self._chunk_end))
        line = await self._reader.readuntil(b"\r\n")
        self._chunk_end = b"\r\n"
        self._left = int(line.partition(b";")[0], 16)
        self._more_chunks = self._left > 0
        frame += line
        while not self._more_chunks and line != b"\r\n":
            line = await self._reader.readuntil(b"\r\n")
            frame += line
        return frame


def body_of(reader: asyncio.StreamReader, head: Head, answered: str | None = None) -> Body:
    """The body after a request's head or an answer's (RFC 9112, section 6.3)."""
    bodiless = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    if answered is not None and (answered == "HEAD" or head.status in bodiless):
        return Body(reader, 0)
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        return Body(reader, None)
    return Body(reader, float(head.headers.get("content-length", 0 if answered is None else math.inf)))


@dataclass(frozen=True)
class Terms:
    """Conditions for a body: bytes per second, a byte to flip, a last byte."""

    rate: float | None = None
    flip_at: int | None = None
    flip_after: bytes = b""
    stop_at: int | None = None

    def met(self, passed: int, *, flipped: bool) -> bool:
        """Whether the passed body was long enough, and had the byte to flip."""
        return passed >= (self.stop_at or 0) and flipped is (self.flip_at is not None)

    def change(self, content: bytes, passed: int) -> bytes:
        """Apply the conditions to the next bytes."""
        if self.stop_at is not None:
            content = content[: self.stop_at - passed]
        at = -1 if self.flip_at is None else self.flip_at - passed
        if self.flip_after and self.flip_at is not None:
            before, found, _ = content.partition(self.flip_after)
            at = len(before + found) + self.flip_at if found else -1
        if 0 <= at < len(content):
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        return content


async def pass_on(body: Body, sink: asyncio.StreamWriter | None, terms: Terms) -> bool:
    """Pass a body on, or read and discard it.

    Return whether all of it was passed.

    Raises:
        ValueError: it is too short for the conditions.
    """
    clock = asyncio.get_running_loop().time
    started, passed, flipped, ends = clock(), 0, False, body.ended
    at_most = READ_BYTES if terms.rate is None else max(1, min(READ_BYTES, int(terms.rate / 10)))
    while not ends:
        frame, content = await body.read(at_most)
        ends = body.ended or not content
        changed = terms.change(content, passed)
        flipped |= not content.startswith(changed)
        content = changed
        passed += len(content)
        if terms.rate is not None:
            await asyncio.sleep(started + passed / terms.rate - clock())
        if sink is not None:
            sink.write(frame)
            sink.write(content)
            try:
                await sink.drain()
            except ConnectionError:
                return False  # the other side takes no more; a store may have answered already
        if passed == terms.stop_at:
            return False
    if not terms.met(passed, flipped=flipped):
        raise ValueError(f"a body of {passed} bytes is too short for {terms}, or lacks the byte to change")
    return True


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a client's connection so that its answer arrives.

    If bytes of the client were unread, the kernel would send a reset, and the client could lose the answer.
    """
    try:
        writer.write_eof()
    except OSError:
        return  # the client reset it
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(READ_BYTES):
                pass
    writer.close()
    await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection (RST), unless it has ended."""
    if not writer.is_closing():
        # closing with a linger time of 0 sends a reset: socket(7), SO_LINGER
        no_linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    writer.transport.abort()
