"""`byte_queue`: the view fills a bounded queue with bytes, and a task uploads them.

Choose it when the upload must run in another task: it gets bytes, never the request's file.
Cost: 512 KiB of memory for the queue, and a task.
Trap: the file must stay open until the view has read it. A hook in a copied context closes the file at the first call
to S3. The view has read a file of one part by then, but not a larger file.
`upload` gets a file that cannot seek: `upload_fileobj` accepts it, `put_object` does not. It must read the
file before it returns.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from quart.datastructures import FileStorage

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 8


class QueueReader:
    """The uploader's end of the queue, as a file with an async `read`.

    It ends when the view has read the whole file.
    """

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_CHUNKS)  #: an empty chunk is the last
        self.closed = False
        self._ahead = bytearray()
        self._at_end = False

    async def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end: S3 takes no short parts."""
        while len(self._ahead) < size and not self._at_end:
            chunk = await self.chunks.get()
            self._ahead += chunk
            self._at_end = not chunk
        if self.closed:
            raise ValueError("read after the hand-off has ended")
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def close(self) -> None:
        """Stop the view's reading, and raise an error in late reads instead of returning an empty file."""
        self.closed = True
        while not self.chunks.empty():
            self.chunks.get_nowait()
        self.chunks.put_nowait(b"")


async def hand_off(file: FileStorage, upload: Callable[[QueueReader], Awaitable[T]]) -> T:
    """Run `upload` in a task and feed it the file through the queue."""
    reader = QueueReader()
    uploading = asyncio.create_task(_upload(upload, reader))
    try:
        # An uploader that ends before the file does closes its reader; its result raises the error.
        while not reader.closed and (chunk := await asyncio.to_thread(file.stream.read, CHUNK_BYTES)):
            await reader.chunks.put(chunk)
        await reader.chunks.put(b"")
    except BaseException:
        uploading.cancel()
        await asyncio.wait([uploading])
        raise
    return await uploading


async def _upload(upload: Callable[[QueueReader], Awaitable[T]], reader: QueueReader) -> T:
    try:
        return await upload(reader)
    finally:
        reader.close()
