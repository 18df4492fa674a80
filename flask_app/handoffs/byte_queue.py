"""`byte_queue`: the view fills a bounded queue with bytes, and a thread uploads them.

Choose it when the upload must run in another thread: it gets bytes, never the request's file.
Cost: 512 KiB of memory for the queue, and a thread.
Trap: the file must stay open until the view has read it. A hook in a copied context closes the file at the first call
to S3. The view has read a file of one part by then, but not a larger file.
`upload` gets a file that cannot seek: `upload_fileobj` accepts it, `put_object` does not. It must read the
file before it returns.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from typing import IO, Any, TypeVar, cast

from werkzeug.datastructures import FileStorage

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS = 8


class QueueReader(io.RawIOBase):
    """The uploader's end of the queue, as a readable file.

    It ends when the view has read the whole file, and raises the view's error otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chunks: Queue[bytes] = Queue(QUEUE_CHUNKS)  #: an empty chunk is the last
        self.failure: BaseException | None = None
        self._ahead = memoryview(b"")
        self._at_end = False

    def readable(self) -> bool:
        """Return True, as a file that can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Copy bytes of the queue into the buffer; return their number, 0 at the end."""
        if not self._ahead and not self._at_end:
            self._ahead = memoryview(self.chunks.get())
            self._at_end = not self._ahead
        if self._at_end and self.failure is not None:
            raise self.failure
        room = memoryview(buffer)
        size = min(len(room), len(self._ahead))
        room[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size


def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Run `upload` in a thread and feed it the file through the queue."""
    reader = QueueReader()
    with ThreadPoolExecutor(1, thread_name_prefix="byte-queue") as worker:
        uploading = worker.submit(_upload, upload, reader)
        try:
            # An uploader that ends before the file does closes its reader; its result raises the error.
            while not reader.closed and (chunk := file.stream.read(CHUNK_BYTES)):
                reader.chunks.put(chunk)
        except BaseException as error:
            reader.failure = error
            raise
        finally:
            reader.chunks.put(b"")
        return uploading.result()


def _upload(upload: Callable[[IO[bytes]], T], reader: QueueReader) -> T:
    try:
        # Buffered: each read returns its full size, because S3 takes no short parts. Closed at the end: a late read
        # raises an error instead of returning an empty file.
        with io.BufferedReader(reader, CHUNK_BYTES) as body:
            return upload(cast("IO[bytes]", body))
    finally:
        with suppress(Empty):  # makes room for a chunk that the view is about to put, and for the last
            while True:
                reader.chunks.get_nowait()
