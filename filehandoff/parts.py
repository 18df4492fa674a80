"""Cut a file's chunks into S3 parts, and read a part without a copy.

S3's limits (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): 10,000 parts, each 5 MiB to 5 GiB,
except the last, which may be smaller. The largest object is therefore 10,000 parts of 5 GiB (48.8 TiB, announced as
50 TB in December 2025; 5 TB before).

A single put stores a file of at most one part, a multipart upload stores a larger one.

Memory: an upload holds the parts in flight and the part that it fills, so a process's peak above idle is at most

    uploads at once x (parts in flight + 1) x largest part x 1.25 + 32 MiB

by `peak_memory`. The quarter covers the chunks' objects and memory that the allocator returns late. The constant
covers buffers between sockets and parts, and the modules that the SDK loads for the first upload.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, cast

from filehandoff.typing_backports import override

MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * 1024**2
MAX_PART_BYTES = 5 * 1024**3

#: Bytes per read of a file.
CHUNK_BYTES = 1024**2
#: Bytes up to which smaller chunks of a file are joined.
SMALL_CHUNK_BYTES = 16 * 1024

#: Candidates for the number of parts between doublings, tried in order: late doubling keeps parts and memory small.
_DOUBLINGS = (MAX_PARTS, 2000, 1000, 500, 250, 125, 60, 30, 10, 1)


#: Parts' URLs in one response; signing one takes half a millisecond.
PAGE_PARTS = 100


@dataclass(frozen=True, slots=True)
class PartSizes:
    """The sizes of a file's parts 1, 2, 3, …, in bytes.

    The first parts have `first` bytes. The size doubles at intervals, as late as possible for a file of `largest_file`
    bytes to fit into 10,000 parts. With the default 8 MiB, parts of files up to 78 GiB never grow.
    """

    first: int
    largest_file: int

    @property
    def double_every(self) -> int:
        """The number of parts between doublings of the size."""
        return next(every for every in _DOUBLINGS if _reach(self.first, every) >= self.largest_file)

    @property
    def largest(self) -> int:
        """The size of the largest part of a file of `largest_file` bytes."""
        left, every, number = self.largest_file, self.double_every, 0
        while True:
            number += every
            size = _size(self.first, every, number)
            left -= every * size
            if left <= 0:
                return size

    def __iter__(self) -> Iterator[int]:
        every = self.double_every
        return (_size(self.first, every, number) for number in range(1, MAX_PARTS + 1))

    def end(self, count: int) -> int:
        """Return the number of bytes in the first `count` parts, if none is the last."""
        return sum(islice(self, count))

    @staticmethod
    def reach(first: int) -> int:
        """Return the size of the largest file whose first part has `first` bytes."""
        return max(_reach(first, every) for every in _DOUBLINGS)


def peak_memory(uploads: int, in_flight: int, sizes: PartSizes) -> int:
    """Return a process's peak memory above idle, in bytes, with `uploads` concurrent uploads by `stream`."""
    return uploads * (in_flight + 1) * sizes.largest * 5 // 4 + 32 * 1024**2


def _size(first: int, every: int, number: int) -> int:
    return min(first << min((number - 1) // every, 40), MAX_PART_BYTES)


def _reach(first: int, every: int) -> int:
    total, number = 0, 1
    while number <= MAX_PARTS:
        size = _size(first, every, number)
        # If `every` does not divide MAX_PARTS, the size reaches its maximum long before the last run.
        run = MAX_PARTS - number + 1 if size == MAX_PART_BYTES else every
        total += run * size
        number += run
    return total


@dataclass(slots=True)
class Part:
    """One part: its number from 1 on, its chunks, and whether it is the last."""

    number: int
    chunks: tuple[bytes | memoryview, ...]
    last: bool = False

    @property
    def size(self) -> int:
        """The part's size in bytes."""
        return sum(len(chunk) for chunk in self.chunks)

    def release(self) -> None:
        """Free the bytes now, even if an error's traceback keeps this object alive."""
        self.chunks = ()

    def open(self, before_read: Callable[[], None] | None = None) -> IO[bytes]:
        """Return a new reader at the part's first byte; `before_read` may raise to abort."""
        return cast("IO[bytes]", PartReader(self.chunks, before_read))


class ChunkList:
    """Chunks in their order; those below `SMALL_CHUNK_BYTES` are joined.

    A byte in an object of its own takes 42 bytes.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes | memoryview] = []
        self._small = bytearray()

    def append(self, chunk: bytes | memoryview) -> None:
        """Add a chunk; a large one is not copied."""
        if len(chunk) < SMALL_CHUNK_BYTES:
            self._small += chunk
            if len(self._small) >= SMALL_CHUNK_BYTES:
                self._join()
        else:
            self._join()
            self._chunks.append(chunk)

    def take(self) -> tuple[bytes | memoryview, ...]:
        """Return the chunks and forget them."""
        self._join()
        chunks, self._chunks = tuple(self._chunks), []
        return chunks

    def _join(self) -> None:
        if self._small:
            self._chunks.append(bytes(self._small))
            self._small.clear()


class PartCutter:
    """Cuts a file's chunks into parts, sans I/O: call `receive` with each chunk, then `finish`.

    `receive` yields a part only after a byte beyond it has arrived, so `finish` always returns the last part. If that
    is part number 1, the file fits in a single put. Chunks are sliced, neither joined nor copied, except small ones.

    With `after`, the first chunk is the beginning of the part that follows this number of parts.
    """

    def __init__(self, sizes: PartSizes, after: int = 0) -> None:
        self._sizes = islice(sizes, after, None)
        self._room = next(self._sizes)
        self._number = after + 1
        self._chunks = ChunkList()

    def receive(self, chunk: bytes | memoryview) -> Iterator[Part]:
        """Take the next bytes of the file; yield each part that they complete and exceed."""
        rest = memoryview(chunk)
        while len(rest) > self._room:
            if self._room:
                self._chunks.append(rest[: self._room])
                rest = rest[self._room :]
            yield self._cut()
        if len(rest):
            self._chunks.append(chunk if len(rest) == len(chunk) else rest)
            self._room -= len(rest)

    def full(self) -> Iterator[Part]:
        """Yield the part that the bytes fill exactly; call it only if more bytes of the file will follow."""
        if not self._room:
            yield self._cut()

    def finish(self) -> Part:
        """Return the last part; it is empty only if the file is empty."""
        return Part(self._number, self._chunks.take(), last=True)

    def _cut(self) -> Part:
        part = Part(self._number, self._chunks.take())
        self._number += 1
        self._room = next(self._sizes)
        return part


def cut(chunks: Iterable[bytes], sizes: PartSizes) -> Iterator[Part]:
    """Cut a file's chunks into parts."""
    cutter = PartCutter(sizes)
    for chunk in chunks:
        yield from cutter.receive(chunk)
    yield cutter.finish()


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Read the rest of an open file in chunks of at most `CHUNK_BYTES`."""
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def chunks_of(body: Part | IO[bytes]) -> Iterable[bytes | memoryview]:
    """Return the chunks of a part, or read those of a file from its first byte."""
    if isinstance(body, Part):
        return body.chunks
    body.seek(0)
    return read_chunks(body)


class PartReader(io.RawIOBase):
    """A seekable reader over a part's chunks, which never joins or copies all of them.

    Both SDKs send it without a copy: boto3 and, under aiobotocore, aiohttp, which would copy `bytes` and `BytesIO` and
    rejects a `memoryview`. It seeks, since a retry sends the part again.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview], before_read: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._before_read = before_read
        self._chunks = [memoryview(chunk) for chunk in chunks]
        self._size = sum(len(chunk) for chunk in self._chunks)
        self._position = 0
        self._ahead = deque(self._chunks)

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if base is None or (whence == io.SEEK_SET and offset < 0):
            raise ValueError(f"cannot seek to {offset} by whence {whence}")
        self._position = skip = max(0, base + offset)
        self._ahead = deque(self._chunks)
        while self._ahead and skip >= len(self._ahead[0]):
            skip -= len(self._ahead.popleft())
        if self._ahead:
            self._ahead[0] = self._ahead[0][skip:]
        return self._position

    @override
    def close(self) -> None:
        """Free the bytes, like `Part.release`."""
        self._chunks.clear()
        self._ahead.clear()
        super().close()

    def pieces(self) -> Iterator[memoryview]:
        """Yield the unread rest in slices of the chunks, without a copy."""
        while self._ahead:
            piece = self._ahead.popleft()
            self._position += len(piece)
            yield piece

    @override
    def readinto(self, buffer: Any, /) -> int:
        if self._before_read is not None:
            self._before_read()
        room, written = memoryview(buffer).cast("B"), 0
        while self._ahead and written < len(room):
            piece = self._ahead[0][: len(room) - written]
            room[written : written + len(piece)] = piece
            written += len(piece)
            if len(piece) == len(self._ahead[0]):
                self._ahead.popleft()
            else:
                self._ahead[0] = self._ahead[0][len(piece) :]
        self._position += written
        return written


class FileReader(io.RawIOBase):
    """A reader over an open file that hides its `fileno` and never closes it.

    aiohttp calls a body's `fileno`, which makes a `SpooledTemporaryFile` roll over to disk, on the event loop.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._file.tell()

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    @override
    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
