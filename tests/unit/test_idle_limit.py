"""The limit of many waits: each wait has the whole time, and only waits count."""

import asyncio

import pytest

from quart_app.idle_limit import IdleLimit

SECONDS = 0.5


async def test_a_wait_without_an_end_times_out() -> None:
    """A wait that others came before ends, too."""
    with IdleLimit(SECONDS / 10) as waiting:
        async with waiting:
            pass
        with pytest.raises(TimeoutError):
            async with waiting:
                await asyncio.Event().wait()


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
