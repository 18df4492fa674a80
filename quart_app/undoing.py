"""What could not be undone, because S3 was away, is undone when it is back: it would stay there, and cost storage."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass

from handoff import logs
from handoff.errors import BucketMissing, UploadError
from handoff.undoing import FIRST_PAUSE, LONGEST_PAUSE, MOST, until

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """An upload that is still to be undone, and when it is given up, by the monotonic clock."""

    undo: Callable[[], Awaitable[object]]
    request_id: str
    until: float


class Undoing:
    """One process's uploads that are still to be undone, and the task that does it, while there are any."""

    def __init__(self) -> None:
        self._left: deque[Left] = deque(maxlen=MOST)
        self._task: asyncio.Task[None] | None = None

    def later(self, undo: Callable[[], Awaitable[object]], request_id: str) -> None:
        """Undo this upload as soon as S3 lets us; `undo` may have done a part of it already."""
        self._left.append(Left(undo, request_id, until(time.monotonic())))
        if self._task is None or self._task.done():
            # In a context of its own: the request's would keep the request.
            self._task = asyncio.create_task(self._run(), name="undoing", context=Context())

    async def close(self) -> None:
        """Undo nothing more: the process ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._left:
            await asyncio.sleep(pause)
            pause = FIRST_PAUSE if await self._try_all() else min(2 * pause, LONGEST_PAUSE)

    async def _try_all(self) -> bool:
        """Undo one after the other, up to the first that fails; whether any was."""
        undone = False
        while self._left:
            left = self._left.popleft()
            with logs.bound(left.request_id):
                try:
                    await left.undo()
                except (UploadError, BucketMissing) as error:
                    if time.monotonic() < left.until:
                        self._left.append(left)
                    else:
                        logger.error("an upload is given up, and stays in S3: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback
                    return undone
                undone = True
                logger.info("an upload is undone, S3 is back")
        return undone
