"""Report an app's resources on a signal, without code in the product.

SIGRTMIN requests the names of its tasks and threads; SIGRTMIN + 1 also requests the bytes that Python allocated since
the first such request. The answer is JSON in a file named by the process id.
"""

import asyncio
import gc
import json
import os
import signal
import threading
import tracemalloc
from pathlib import Path


def report(number: int, _frame: object) -> None:
    """Write the answer atomically."""
    answer: dict[str, object] = {"tasks": tasks(), "threads": [thread.name for thread in threading.enumerate()]}
    if number != signal.SIGRTMIN:
        gc.collect()
        tracemalloc.start()
        answer["bytes"] = tracemalloc.get_traced_memory()[0]
    path = Path(os.environ["WATCH_FOLDER"]) / f"{os.getpid()}.json"
    path.with_suffix(".part").write_text(json.dumps(answer))
    path.with_suffix(".part").replace(path)


def tasks() -> list[str]:
    """The names of the tasks on the main thread's event loop, if it has one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(loop)]


if "WATCH_FOLDER" in os.environ:
    for asked in (signal.SIGRTMIN, signal.SIGRTMIN + 1):
        signal.signal(asked, report)
