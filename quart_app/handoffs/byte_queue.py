"""`byte_queue`: the view feeds a bounded queue of bytes, and a task uploads what comes out of it.

Choose it when the upload must run in another task: the task gets bytes, never the request's file. Costs the queue
in memory, and a task. The trap: as long as the view reads, the file must stay open; a hook in a copied context closes
it at the first call to S3, which for a file of one part comes after the last byte was read, for a larger one before.
`upload` gets what cannot seek: `upload_fileobj` takes it, `put_object` does not. It must have read it when it returns.
"""

import asyncio
from collections.abc import Awaitable, Callable

from quart.datastructures import FileStorage

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 8


class QueueReader:
    """The uploader's end of the queue, as a file with an async `read`; it ends as the reading of the upload does."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_CHUNKS)
        self.complete = False
        self._ahead = bytearray()

    async def read(self, size: int) -> bytes:
        """As many bytes as were asked for, fewer only at the end: S3 takes no short parts."""
        while len(self._ahead) < size:
            try:
                self._ahead += await self.chunks.get()
            except asyncio.QueueShutDown:
                if self.complete:
                    break
                raise ValueError("read after the hand-off has ended") from None
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data


async def hand_off[T](file: FileStorage, upload: Callable[[QueueReader], Awaitable[T]]) -> T:
    """Read the file into the queue while `upload`, which puts what it can read into S3, runs in a task."""
    reader = QueueReader()
    uploading = asyncio.create_task(_upload(upload, reader))
    try:
        while chunk := await asyncio.to_thread(file.stream.read, CHUNK_BYTES):
            await reader.chunks.put(chunk)
        reader.complete = True
    except asyncio.QueueShutDown:
        pass  # the uploader has ended before the file: its error comes with its result
    except BaseException:
        uploading.cancel()
        await asyncio.wait([uploading])
        raise
    reader.chunks.shutdown()
    return await uploading


async def _upload[T](upload: Callable[[QueueReader], Awaitable[T]], reader: QueueReader) -> T:
    try:
        return await upload(reader)
    finally:
        reader.complete = False  # whoever still reads it later gets an error, not an empty file
        reader.chunks.shutdown(immediate=True)
