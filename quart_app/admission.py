"""Places for uploads: a request waits here until one is free.

A waiting task costs little, but its client's bytes fill memory up to the bound of `Body`. So waiting requests are
limited, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from filehandoff.admission import WAIT_SECONDS, Places


@asynccontextmanager
async def place(places: Places) -> AsyncIterator[None]:
    """Hold a place for the block.

    Raises:
        Overloaded: no place came free in time, or too many requests already wait.
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
