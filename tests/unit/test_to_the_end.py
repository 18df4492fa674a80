"""Work that may not be cut off, in Quart: it ends, whatever happens to the task that waits for it."""

import asyncio

import pytest

from quart_app.uploads import to_the_end


@pytest.mark.parametrize("times", [1, 2])
async def test_work_ends_before_the_cancellation_is_felt(times: int) -> None:
    """A task that is cancelled, once or again, is so only when the work that it waits for has ended."""
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        ended.set()

    waiting = asyncio.create_task(to_the_end(work()))
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
    """Its error is nobody's any more, and is not reported as never retrieved."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError

    waiting = asyncio.create_task(to_the_end(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_answer_and_an_error_are_passed_on() -> None:
    """Without a cancellation it is as if the work had been awaited."""

    async def answer() -> int:
        return 1

    async def fail() -> int:
        raise ValueError

    assert await to_the_end(answer()) == 1
    with pytest.raises(ValueError):  # noqa: PT011 - it has no text
        await to_the_end(fail())
