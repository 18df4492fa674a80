"""Loaded by each app that the suite starts: tells what it holds, when a signal asks, without a line in the product.

SIGRTMIN asks for the names of its tasks and threads, SIGRTMIN + 1 also for the bytes that Python holds which it took
since it was first asked for them. The answer is JSON in a file that is named by the process.
"""

import asyncio
import gc
import json
import os
import signal
import threading
import tracemalloc
from pathlib import Path


def tell(number: int, _frame: object) -> None:
    """Write the answer; the file is there when all of it is."""
    told: dict[str, object] = {"tasks": tasks(), "threads": [thread.name for thread in threading.enumerate()]}
    if number != signal.SIGRTMIN:
        gc.collect()
        tracemalloc.start()
        told["bytes"] = tracemalloc.get_traced_memory()[0]
    path = Path(os.environ["WATCH_FOLDER"]) / f"{os.getpid()}.json"
    path.with_suffix(".part").write_text(json.dumps(told))
    path.with_suffix(".part").replace(path)


def tasks() -> list[str]:
    """What the main thread's event loop runs, if it has one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(loop)]


if "WATCH_FOLDER" in os.environ:
    for asked in (signal.SIGRTMIN, signal.SIGRTMIN + 1):
        signal.signal(asked, tell)
