"""The limit of many waits: each wait has the whole time, and only waits count."""

import asyncio
import time

import pytest
from patience import PATIENCE

from quart_app.idle_limit import STALL_SECONDS, IdleLimit

SECONDS = 0.5


async def test_a_wait_without_an_end_times_out() -> None:
    """A wait that others came before ends, too."""
    with IdleLimit(SECONDS / 10) as waiting:
        async with waiting:
            pass
        with pytest.raises(TimeoutError):
            async with waiting:
                await asyncio.Event().wait()


async def test_a_limit_below_the_resolution_of_the_clock_ends_a_wait() -> None:
    """The limit of such a wait is not lost: uvloop counts whole milliseconds, and returns another handle for less."""

    async def wait() -> None:
        with IdleLimit(0.0004) as waiting:
            async with waiting:
                await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.wait([task], timeout=PATIENCE)
    assert isinstance(task.exception(), TimeoutError)


async def test_a_wait_that_ends_slowly_does_not_end_the_limit() -> None:
    """The next wait times out, although the first one took more than the limit to undo its work."""

    async def wait_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(SECONDS / 4)

    async def wait_twice() -> None:
        with IdleLimit(SECONDS / 10) as waiting:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with waiting:
                        await wait_slowly()

    task = asyncio.create_task(wait_twice())
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.result() is None


async def test_short_waits_have_no_limit_together() -> None:
    """They may last longer than the limit of each."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 1.5 * SECONDS
    with IdleLimit(SECONDS) as waiting:
        while loop.time() < end:
            async with waiting:
                await asyncio.sleep(0)


async def test_time_between_waits_does_not_count() -> None:
    """After a long pause of the task, a wait is as long as any, and ends."""
    with IdleLimit(SECONDS / 10) as waiting:
        await asyncio.sleep(SECONDS / 4)
        async with waiting:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with waiting:
                await asyncio.Event().wait()


async def test_a_loop_that_stood_still_passes_on_what_arrived_meanwhile() -> None:
    """The wait does not end although its time is over; one that nothing arrives for ends a little later."""
    loop = asyncio.get_running_loop()
    arrived, answer = asyncio.Event(), asyncio.Event()
    with IdleLimit(SECONDS / 10) as waiting:
        loop.call_soon(time.sleep, STALL_SECONDS + SECONDS)
        loop.call_later(SECONDS / 20, arrived.set)
        relay = asyncio.create_task(pass_on(arrived, answer))
        async with waiting:
            await answer.wait()
        loop.call_soon(time.sleep, STALL_SECONDS + SECONDS)
        with pytest.raises(TimeoutError):
            async with waiting:
                await asyncio.Event().wait()
    await relay


async def pass_on(arrived: asyncio.Event, answer: asyncio.Event) -> None:
    """Set the answer some steps of the loop after the arrival."""
    await arrived.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    answer.set()


async def test_a_cancelled_wait_is_no_timeout() -> None:
    """The task ends as cancelled."""

    async def wait() -> None:
        with IdleLimit(SECONDS * 100) as waiting:
            async with waiting:
                await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
