"""File chunks in, S3 parts out: where a part ends, how large it is, and how it is read without a copy.

S3's limits (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): 10,000 parts, each 5 MiB to 5 GiB
but the last, which may be smaller. The largest object is therefore 10,000 parts of 5 GiB (48.8 TiB, announced as
50 TB in December 2025; 5 TB before).

A file of at most one part is stored by a single put, a larger one by a multipart upload.

Memory: an upload holds the parts that are being sent and the one that is being filled, so a process's peak above idle
is at most

    uploads at once x (parts in flight + 1) x largest part x 1.25 + 32 MiB

by `peak_memory`. The quarter is for what lies around the bytes (the chunks' objects, what the allocator cannot give
back at once), the constant for buffers between sockets and parts and for what the first upload makes the SDK load.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast, override

MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * 1024**2
MAX_PART_BYTES = 5 * 1024**3

#: How much is read from a file at once.
CHUNK_BYTES = 1024**2
#: Smaller chunks of a file are joined up to this size, in bytes.
SMALL_CHUNK_BYTES = 16 * 1024

#: After how many parts the size doubles, tried in this order: late doubling keeps parts, and memory, small.
_DOUBLINGS = (MAX_PARTS, 2000, 1000, 500, 250, 125, 60, 30, 10, 1)


#: How many parts' URLs one answer to a client has: each takes half a millisecond to sign.
PAGE_PARTS = 100


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large part 1, 2, 3, … of a file is, in bytes.

    Parts start at `first` and double every so often, as late as the largest file (`largest_file`) permits within
    10,000 parts; with the default 8 MiB no part grows for files up to 78 GiB.
    """

    first: int
    largest_file: int

    @property
    def double_every(self) -> int:
        """The number of parts after which the size doubles."""
        return next(every for every in _DOUBLINGS if _reach(self.first, every) >= self.largest_file)

    @property
    def largest(self) -> int:
        """The size of the largest part that a file of `largest_file` bytes has."""
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

    @staticmethod
    def reach(first: int) -> int:
        """The largest file that 10,000 parts can hold when the first has `first` bytes."""
        return max(_reach(first, every) for every in _DOUBLINGS)


def peak_memory(uploads: int, in_flight: int, sizes: PartSizes) -> int:
    """The most bytes that a process holds above its idle self while so many uploads are streamed at once."""
    return uploads * (in_flight + 1) * sizes.largest * 5 // 4 + 32 * 1024**2


def _size(first: int, every: int, number: int) -> int:
    return min(first << min((number - 1) // every, 40), MAX_PART_BYTES)


def _reach(first: int, every: int) -> int:
    total, number = 0, 1
    while number <= MAX_PARTS:
        size = _size(first, every, number)
        # Where `every` does not divide MAX_PARTS, the largest size comes long before the last run.
        run = MAX_PARTS - number + 1 if size == MAX_PART_BYTES else every
        total += run * size
        number += run
    return total


@dataclass(slots=True)
class Part:
    """One part: its number, counted from 1, its bytes as the chunks they came in, and whether it is the last."""

    number: int
    chunks: tuple[bytes | memoryview, ...]
    last: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(chunk) for chunk in self.chunks)

    def release(self) -> None:
        """Let go of the bytes, now: what fails is held for a while by the frames of its own traceback."""
        self.chunks = ()

    def open(self, before_read: Callable[[], None] | None = None) -> IO[bytes]:
        """A new `PartReader` at the part's first byte; `before_read` may raise to break off the sending."""
        return cast("IO[bytes]", PartReader(self.chunks, before_read))


class PartCutter:
    """Cuts a file's chunks into parts: a sans-I/O object, `receive` chunks, then `finish`.

    A part is given out only when a byte beyond it has arrived, so the last one always comes from `finish`; if that
    is part number 1, the file fits in a single put. Chunks are sliced, neither joined nor copied, but for those below
    `SMALL_CHUNK_BYTES`: a byte that is kept as an object of its own takes 42.
    """

    def __init__(self, sizes: PartSizes) -> None:
        self._sizes = iter(sizes)
        self._room = next(self._sizes)
        self._number = 1
        self._chunks: list[bytes | memoryview] = []
        self._small = bytearray()

    def receive(self, chunk: bytes | memoryview) -> Iterator[Part]:
        """Take the next bytes of the file; gives every part that they complete and exceed."""
        rest = memoryview(chunk)
        while len(rest) > self._room:
            if self._room:
                self._keep(rest[: self._room])
                rest = rest[self._room :]
            yield self._cut()
        if len(rest):
            self._keep(chunk if len(rest) == len(chunk) else rest)
            self._room -= len(rest)

    def finish(self) -> Part:
        """The last part; empty only if the whole file is."""
        self._join()
        return Part(self._number, tuple(self._chunks), last=True)

    def _keep(self, chunk: bytes | memoryview) -> None:
        if len(chunk) < SMALL_CHUNK_BYTES:
            self._small += chunk
            if len(self._small) >= SMALL_CHUNK_BYTES:
                self._join()
        else:
            self._join()
            self._chunks.append(chunk)

    def _join(self) -> None:
        if self._small:
            self._chunks.append(bytes(self._small))
            self._small.clear()

    def _cut(self) -> Part:
        self._join()
        part = Part(self._number, tuple(self._chunks))
        self._chunks = []
        self._number += 1
        self._room = next(self._sizes)
        return part


def cut(chunks: Iterable[bytes], sizes: PartSizes) -> Iterator[Part]:
    """The parts of a file from its chunks."""
    cutter = PartCutter(sizes)
    for chunk in chunks:
        yield from cutter.receive(chunk)
    yield cutter.finish()


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of an open file in chunks of at most `CHUNK_BYTES`."""
    return iter(lambda: file.read(CHUNK_BYTES), b"")


class PartReader(io.RawIOBase):
    """A seekable reader over a part's chunks, which neither joins nor copies them as a whole.

    Both SDKs send it as it is: boto3 and, through aiobotocore, aiohttp, which would copy `bytes` and `BytesIO` and
    refuses a `memoryview`. Sending is a retry away from sending again, so it seeks.
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
        """Let go of the bytes, as `Part.release` does."""
        self._chunks.clear()
        self._ahead.clear()
        super().close()

    def pieces(self) -> Iterator[memoryview]:
        """What is left to read, as it lies."""
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
    """An open file, read and sought as it is, but without a `fileno` and never closed by whoever it is given to.

    aiohttp asks a body for its `fileno`, and that makes a `SpooledTemporaryFile` roll over to disk, on the event
    loop at that.
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
