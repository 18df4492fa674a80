"""The task that removes pending uploads from S3, and ends when none is left."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from filehandoff.s3.calls import Flow
from filehandoff.s3.cleanup import FIRST_PAUSE, LAST_TRY_AT_ONCE, LAST_TRY_SECONDS, Cleanup, next_pause
from quart_app.tasks import run_in_background

#: Seconds between two checks for the end of the last tries.
POLL_SECONDS = 0.02


class Cleaner:
    """The cleanup of one process; `run` runs a flow."""

    def __init__(self, cleanup: Cleanup, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._cleanup = cleanup
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        cleanup.wake = self.resume

    def resume(self) -> None:
        """Start the task if uploads are pending."""
        if self._cleanup.waits and not self._closing and (self._task is None or self._task.done()):
            self._task = run_in_background(self._work(), "cleanup")

    async def close(self) -> None:
        """Try all pending uploads again, for a bounded time; log the keys that are left."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_TRY_SECONDS):
                await asyncio.gather(*(self._try_last() for _ in range(LAST_TRY_AT_ONCE)))
        self._cleanup.give_up_all()

    async def _try_last(self) -> None:
        while self._cleanup:
            await self._run(self._cleanup.try_last())
            await asyncio.sleep(POLL_SECONDS)

    async def _work(self) -> None:
        pause = FIRST_PAUSE
        while self._cleanup.waits:
            await asyncio.sleep(pause)
            pause = next_pause(pause, removed=await self._run(self._cleanup.try_all()))
