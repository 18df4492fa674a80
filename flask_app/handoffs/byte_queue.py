"""`byte_queue`: the view feeds a bounded queue of bytes, and a worker thread uploads what comes out of it.

Choose it when the upload must run in another thread: the thread gets bytes, never the request's file. Costs the queue
in memory, and a thread. The trap: as long as the view reads, the file must stay open; a hook in a copied context closes
it at the first call to S3, which for a file of one part comes after the last byte was read, for a larger one before.
`upload` gets what cannot seek: `upload_fileobj` takes it, `put_object` does not. It must have read it when it returns.
"""

import io
from collections.abc import Buffer, Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue, ShutDown
from typing import IO, cast, override

from werkzeug.datastructures import FileStorage

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 8


class QueueReader(io.RawIOBase):
    """The uploader's end of the queue, as a readable file; it ends, or fails, as the reading of the upload does."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: Queue[bytes] = Queue(QUEUE_CHUNKS)
        self.complete = False
        self.failure: BaseException | None = None
        self._ahead = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        if not self._ahead:
            try:
                self._ahead = memoryview(self.chunks.get())
            except ShutDown:
                if self.complete:
                    return 0
                raise self.failure or ValueError("read after the hand-off has ended") from None
        room = memoryview(buffer)
        size = min(len(room), len(self._ahead))
        room[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size


def hand_off[T](file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Read the file into the queue while `upload`, which puts a readable file into S3, runs in a thread."""
    reader = QueueReader()
    with ThreadPoolExecutor(1, thread_name_prefix="byte-queue") as worker:
        uploading = worker.submit(_upload, upload, reader)
        try:
            while chunk := file.stream.read(CHUNK_BYTES):
                reader.chunks.put(chunk)
            reader.complete = True
        except ShutDown:
            pass  # the uploader has ended before the file: its error comes with its result
        except BaseException as error:
            reader.failure = error
            raise
        finally:
            reader.chunks.shutdown()
        return uploading.result()


def _upload[T](upload: Callable[[IO[bytes]], T], reader: QueueReader) -> T:
    try:
        # Buffered, so that a read gives as much as was asked for: S3 takes no short parts. Closed at the end, so that
        # whoever still reads it later gets an error, not an empty file.
        with io.BufferedReader(reader, CHUNK_BYTES) as body:
            return upload(cast("IO[bytes]", body))
    finally:
        reader.chunks.shutdown(immediate=True)
