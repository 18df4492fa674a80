"""A worker of hypercorn's own `--workers`: it drains on every way to its end, and warns that they are not supervised.

hypercorn 0.18 ends the whole service with status 0 when one worker is lost. It then sends SIGTERM to the others, which
do not handle it; and without their parent, workers serve on for ever. A worker cannot mend its parent: what can is
`python -m quart_app --workers`.
"""

import logging
import multiprocessing
import signal
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Event
from typing import Any

from hypercorn.asyncio import run

#: Seconds between two checks whether the worker must end; hypercorn's own.
LOOK_EVERY = 0.1

logger = logging.getLogger(__name__)


def install() -> None:
    """Have this process end in order if it is such a worker; otherwise do nothing."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if multiprocessing.current_process().name.endswith("-1"):
        logger.warning(
            "hypercorn ends the whole service when one of its workers is lost; "
            "start several by: python -m quart_app --workers NUMBER"
        )
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))

    async def until_told(event: Event, sleep: Callable[[float], Awaitable[Any]]) -> None:
        while not (told or event.is_set()) and parent.is_alive():
            await sleep(LOOK_EVERY)

    run.check_multiprocess_shutdown_event = until_told  # type: ignore[attr-defined, assignment] # no seam for it
