"""Protected work in Quart: it finishes even if its waiting task is cancelled."""

import asyncio
import time
from typing import Any

import pytest
from patience import PATIENCE

from filehandoff.drain import Drain
from filehandoff.errors import Overloaded
from quart_app.shutdown import Shutdown
from quart_app.tasks import finish_despite_cancel, run_in_background


@pytest.mark.parametrize("times", [1, 2])
async def test_work_ends_before_the_cancellation_is_raised(times: int) -> None:
    """A cancelled task raises CancelledError only after its work has ended."""
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        ended.set()

    waiting = asyncio.create_task(finish_despite_cancel(work()))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


async def test_work_that_fails_after_a_cancellation_is_a_cancellation() -> None:
    """The work's error is dropped, and asyncio does not report it as never retrieved."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError

    waiting = asyncio.create_task(finish_despite_cancel(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_result_and_an_error_are_passed_on() -> None:
    """Without a cancellation, the call behaves like an await of the work."""

    async def answer() -> int:
        return 1

    async def fail() -> int:
        raise ValueError

    assert await finish_despite_cancel(answer()) == 1
    with pytest.raises(ValueError):  # noqa: PT011 - it has no text
        await finish_despite_cancel(fail())


async def test_work_is_abandoned_when_the_process_ends() -> None:
    """Work with a `leave` callback is abandoned at once, also by a cancelled task."""
    shutdown, may_end, left = Shutdown(Drain(), 0, lambda: None), asyncio.Event(), list[asyncio.Task[Any]]()

    async def upload() -> None:
        async with shutdown.upload():
            await finish_despite_cancel(may_end.wait(), left.append)

    waiting, gone = asyncio.create_task(upload()), asyncio.create_task(upload())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.01)
    assert not gone.done()
    shutdown.stop()
    _, running = await asyncio.wait([waiting, gone], timeout=PATIENCE)
    assert not running
    assert [type(task.exception()) for task in (waiting, gone)] == [Overloaded, Overloaded]
    assert [call.done() for call in left] == [False, False]
    may_end.set()
    assert [await call for call in left] == [True, True]


async def test_work_without_an_undo_has_a_bounded_time_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process ends, a task waits `UNDO_SECONDS` for work without a `leave` callback."""
    monkeypatch.setattr("quart_app.tasks.UNDO_SECONDS", 0.2)
    shutdown, never = Shutdown(Drain(), 0, lambda: None), asyncio.Event()

    async def upload() -> None:
        async with shutdown.upload():
            await finish_despite_cancel(never.wait())

    waiting = asyncio.create_task(upload())
    await asyncio.sleep(0)
    began = time.monotonic()
    shutdown.stop()
    _, running = await asyncio.wait([waiting], timeout=PATIENCE)
    assert not running
    assert time.monotonic() - began >= 0.19  # the loop's clock is less precise
    assert isinstance(waiting.exception(), Overloaded)


async def test_the_error_that_ends_a_background_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No code awaits such a task, and its error would be lost."""

    async def work() -> None:
        raise ZeroDivisionError

    task = run_in_background(work(), "a-name")
    with pytest.raises(ZeroDivisionError):
        await task
    (record,) = caplog.records
    assert record.getMessage() == "the task 'a-name' has ended by an error"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_a_background_task_may_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """The end of the process is no error."""
    task = run_in_background(asyncio.sleep(PATIENCE), "a-name")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caplog.records == []
