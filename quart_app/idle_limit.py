"""A time limit for each of many waits of one task.

`asyncio.timeout` sets and cancels a timer for each wait, which costs more than the wait for a chunk of a fast upload.
"""

import asyncio
from types import TracebackType
from typing import Self

#: A timer that runs so many seconds late shows that the loop stood still, as on a paused or starved machine. A wait
#: then gets as many seconds more, because the bytes that arrived meanwhile have not reached it yet.
STALL_SECONDS = 1.0


class IdleLimit:
    """A limit whose one timer serves all waits; each `async with waiting` raises TimeoutError after `seconds`.

    with IdleLimit(seconds) as waiting:
        async with waiting:
            chunk = await read()
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._wait: asyncio.Timeout | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        self._look_at(self._loop.time() + self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    async def __aenter__(self) -> None:
        self._began = self._loop.time()
        self._wait = await asyncio.timeout(None).__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._wait is not None
        wait, self._wait = self._wait, None
        await wait.__aexit__(kind, error, traceback)

    def _look_at(self, due: float) -> None:
        # For less than half a millisecond, uvloop returns a handle without `when`.
        self._due = due
        self._timer = self._loop.call_at(due, self._check)

    def _check(self) -> None:
        """End a wait that is overdue; look again when the current wait, or a later one, can be."""
        now = self._loop.time()
        due = now + self._seconds
        if self._wait is not None and not self._wait.expired():
            ends = self._began + self._seconds
            if ends > now:
                due = ends
            elif now - self._due > STALL_SECONDS:
                due = now + STALL_SECONDS
            else:
                self._wait.reschedule(now)
        self._look_at(due)
