"""Make an app of the suite unable to start threads while a file exists.

A limit of processes or address space has this effect; here it is certain to occur.
"""

import os
import threading
from pathlib import Path
from typing import Any

NO_THREADS = Path(os.environ["NO_THREADS"])
start_thread = threading._start_joinable_thread  # type: ignore[attr-defined] # noqa: SLF001 - the only way to a new thread


def start_or_fail(*args: Any, **options: Any) -> Any:
    """Start a thread, or raise as CPython does when the system has none."""
    if NO_THREADS.exists():
        raise RuntimeError("can't start new thread")
    return start_thread(*args, **options)


threading._start_joinable_thread = start_or_fail  # type: ignore[attr-defined] # noqa: SLF001 - as above
