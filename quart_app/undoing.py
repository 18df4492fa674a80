"""What could not be undone, because S3 was away, is undone when it is back: it would stay there, and cost storage."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from filehandoff import logs
from filehandoff.undoing import FIRST_PAUSE, LAST_TRY_AT_ONCE, LAST_TRY_SECONDS, LONGEST_PAUSE, MOST, until

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """An upload that is still to be undone, and when it is given up, by the monotonic clock."""

    undo: Callable[[], Awaitable[object]]
    request_id: str
    key: str
    until: float


class Undoing:
    """One process's uploads that are still to be undone, and the task that does it, while there are any."""

    def __init__(self) -> None:
        self._left: deque[Left] = deque(maxlen=MOST)
        self._calls: dict[asyncio.Task[Any], Left] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def later(self, undo: Callable[[], Awaitable[object]], request_id: str, key: str) -> None:
        """Undo the upload of this object as soon as S3 lets us; `undo` may have done a part of it already."""
        self._add(Left(undo, request_id, key, until(time.monotonic())))

    def after(self, call: asyncio.Task[Any], undo: Callable[[], Awaitable[object]], request_id: str, key: str) -> None:
        """Undo the upload of this object, perhaps once more, when a call for it has ended that nobody waits for."""
        self._calls[call] = Left(undo, request_id, key, until(time.monotonic()))
        call.add_done_callback(lambda _: self._add(self._calls.pop(call)))

    def _add(self, left: Left) -> None:
        self._left.append(left)
        if not self._closing and (self._task is None or self._task.done()):
            # In a context of its own: the request's would keep the request.
            self._task = asyncio.create_task(self._run(), name="undoing", context=Context())

    async def close(self) -> None:
        """Try all that is left once more, within bounds: the process ends. What stays in S3 is told by its key."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_TRY_SECONDS):
                await asyncio.gather(*(self._try_last() for _ in range(LAST_TRY_AT_ONCE)))
        for left in (*self._calls.values(), *self._left):
            give_up(left, "the process ends")

    async def _try_last(self) -> None:
        while self._left or self._calls:
            if not self._left:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
                continue
            left = self._left.popleft()
            with logs.bound(left.request_id):
                try:
                    await left.undo()
                except Exception as error:  # noqa: BLE001 - no error may end the other tries
                    give_up(left, error.__cause__ or error)
                except asyncio.CancelledError:
                    self._left.append(left)
                    raise

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
                except Exception as error:  # noqa: BLE001 - also a want of memory ends, and must lose no upload
                    if time.monotonic() < left.until:
                        self._left.append(left)
                    else:
                        give_up(left, error.__cause__ or error)
                    return undone
                except asyncio.CancelledError:
                    self._left.append(left)
                    raise
                undone = True
                logger.info("an upload is undone, S3 is back")
        return undone


def give_up(left: Left, reason: object) -> None:
    """Say what is left for whoever looks after the bucket."""
    with logs.bound(left.request_id):
        logger.error("the upload of '%s' is given up, and may stay in S3: %s", left.key, reason)
