"""Who may upload now: so many at once, so many more that wait a moment, and the rest is told to come back.

A task that waits costs little, but what its client has sent meanwhile lies in memory, up to the bound of `Body`: so
those are counted as well.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from filehandoff.admission import WAIT_SECONDS, busy, busy_reading


class Admission:
    """The places of one process: `at_once` to upload in, and as many again to wait in."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._places = asyncio.BoundedSemaphore(at_once)
        self._waiting_places = asyncio.BoundedSemaphore(at_once)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for as long as the block takes.

        Raises:
            Overloaded: none came free in time, or too many wait for one already.
        """
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()  # which does not wait here
        try:
            yield
        finally:
            self._places.release()

    async def _wait(self) -> None:
        if self._waiting_places.locked():
            raise busy(self._at_once)
        async with self._waiting_places:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._places.acquire()
            except TimeoutError:
                raise busy(self._at_once) from None


class Reading:
    """The places of one process to answer requests for objects in: `at_once`, and nobody waits for one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block takes.

        Raises:
            Overloaded: none is free.
        """
        if self._taken == self._at_once:
            raise busy_reading(self._at_once)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
