"""Loaded by each app that the suite starts: while a file exists, the process can start no thread.

So it is where a limit of processes, or of the address space, is reached; here it is sure to be reached.
"""

import os
import threading
from pathlib import Path
from typing import Any

NO_THREADS = Path(os.environ["NO_THREADS"])
start_thread = threading._start_joinable_thread  # type: ignore[attr-defined] # noqa: SLF001 - the one way to a new thread


def start_or_fail(*args: Any, **options: Any) -> Any:
    """Start a thread, or raise as CPython does where the system has none."""
    if NO_THREADS.exists():
        raise RuntimeError("can't start new thread")
    return start_thread(*args, **options)


threading._start_joinable_thread = start_or_fail  # type: ignore[attr-defined] # noqa: SLF001 - as above
