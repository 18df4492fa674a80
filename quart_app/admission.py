"""Waits for a place to upload in.

A task that waits costs little, but the bytes that its client sends meanwhile lie in memory, up to the bound of `Body`:
so those that wait are counted as well.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from filehandoff.admission import WAIT_SECONDS, Places


@asynccontextmanager
async def place(places: Places) -> AsyncIterator[None]:
    """Hold a place for the block.

    Raises:
        Overloaded: none came free in time, or too many requests wait already.
    """
    turn = asyncio.Event()
    own = places.ask(turn.set)
    try:
        if not own.admitted:
            await _wait(turn)
            places.end_wait(own)
        yield
    finally:
        places.leave(own)


async def _wait(turn: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT_SECONDS):
            await turn.wait()
