"""The hand-off byte_queue alone: errors pass both ways, no thread or task remains."""

import asyncio
import io
import threading
from typing import IO, Any

import pytest
from quart.datastructures import FileStorage as QuartFileStorage
from werkzeug.datastructures import FileStorage

from filehandoff.typing_backports import override
from flask_app.handoffs import byte_queue as threaded
from quart_app.handoffs import byte_queue as tasked

#: Far more than the queue holds.
DATA = bytes(range(256)) * 4096 * 4


class BreakingFile(io.BytesIO):
    """A file that closes after the first chunks."""

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 3 * threaded.CHUNK_BYTES:
            self.close()
        return super().read(size)


class UploadError(Exception):
    """The store's error."""


def threads() -> list[str]:
    """Return the names of the hand-off's running threads."""
    return [thread.name for thread in threading.enumerate() if "byte-queue" in thread.name]


def test_the_thread_gets_every_byte() -> None:
    """The uploader reads the whole file in chunks of the requested size."""

    def upload(body: IO[bytes]) -> list[int]:
        chunks = list(iter(lambda: body.read(100_000), b""))
        assert b"".join(chunks) == DATA
        return [len(chunk) for chunk in chunks[:-1]]

    sizes = threaded.hand_off(FileStorage(io.BytesIO(DATA)), upload)
    assert set(sizes) == {100_000}
    assert threads() == []


def test_a_failing_uploader_stops_the_reading_thread() -> None:
    """An uploader that fails after one chunk stops the thread, and its error is raised."""
    file = io.BytesIO(DATA)

    def upload(body: IO[bytes]) -> None:
        body.read(1)
        raise UploadError

    with pytest.raises(UploadError):
        threaded.hand_off(FileStorage(file), upload)
    assert file.tell() < len(DATA)
    assert threads() == []


def test_a_failing_file_ends_the_threads_upload() -> None:
    """A file that closes early raises an error in the uploader."""
    ended: list[BaseException] = []

    def upload(body: IO[bytes]) -> Any:
        try:
            return body.read()
        except BaseException as error:
            ended.append(error)
            raise

    with pytest.raises(ValueError, match="closed file"):
        threaded.hand_off(FileStorage(BreakingFile(DATA)), upload)
    assert [type(error) for error in ended] == [ValueError]
    assert threads() == []


def test_a_thread_that_reads_too_late_gets_an_error() -> None:
    """An uploader that reads after its return gets an error, not an empty file."""
    (body,) = [threaded.hand_off(FileStorage(io.BytesIO(DATA)), lambda body: body)]
    with pytest.raises(ValueError, match="closed file"):
        body.read(1)
    assert threads() == []


async def test_a_task_that_reads_too_late_gets_an_error() -> None:
    """A coroutine that reads after its return gets an error, not an empty file."""

    async def upload(body: tasked.QueueReader) -> tasked.QueueReader:
        return body

    body = await tasked.hand_off(QuartFileStorage(io.BytesIO(DATA)), upload)
    with pytest.raises(ValueError, match="ended"):
        await body.read(1)


async def test_the_task_gets_every_byte() -> None:
    """The uploader reads the whole file in chunks of the requested size."""

    async def upload(body: tasked.QueueReader) -> list[int]:
        chunks = []
        while chunk := await body.read(100_000):
            chunks.append(chunk)
        assert b"".join(chunks) == DATA
        return [len(chunk) for chunk in chunks[:-1]]

    sizes = await tasked.hand_off(QuartFileStorage(io.BytesIO(DATA)), upload)
    assert set(sizes) == {100_000}
    assert len(asyncio.all_tasks()) == 1


async def test_a_failing_uploader_stops_the_reading_task() -> None:
    """An uploader that fails after one chunk stops the task, and its error is raised."""
    file = io.BytesIO(DATA)

    async def upload(body: tasked.QueueReader) -> None:
        await body.read(1)
        raise UploadError

    with pytest.raises(UploadError):
        await tasked.hand_off(QuartFileStorage(file), upload)
    assert file.tell() < len(DATA)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("kind", ["a closed file", "a cancelled request"])
async def test_the_end_of_the_reading_ends_the_uploader(kind: str) -> None:
    """A closed file or a cancelled request cancels the uploader, never shortens its file."""
    ended: list[BaseException] = []
    reading = asyncio.Event()

    async def upload(body: tasked.QueueReader) -> Any:
        try:
            await body.read(1)
            reading.set()
            return await (body.read(len(DATA)) if kind == "a closed file" else asyncio.Event().wait())
        except BaseException as error:
            await asyncio.sleep(0.01)  # undoing takes a moment
            ended.append(error)
            raise

    file = BreakingFile(DATA) if kind == "a closed file" else io.BytesIO(DATA)
    request = asyncio.create_task(tasked.hand_off(QuartFileStorage(file), upload))
    if kind == "a cancelled request":
        await reading.wait()
        request.cancel()
    with pytest.raises((ValueError, asyncio.CancelledError)):
        await request
    assert [type(error) for error in ended] == [asyncio.CancelledError]
    assert len(asyncio.all_tasks()) == 1
