"""Make an app of the suite unable to start threads while a file exists.

A limit of processes or address space has this effect; here it is certain to occur.
"""

import os
import threading
from pathlib import Path
from typing import Any

NO_THREADS = Path(os.environ["NO_THREADS"])
#: The only way to a new thread, which Python 3.13 has renamed.
NAME = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
start_thread = getattr(threading, NAME)


def start_or_fail(*args: Any, **options: Any) -> Any:
    """Start a thread, or raise as CPython does when the system has none."""
    if NO_THREADS.exists():
        raise RuntimeError("can't start new thread")
    return start_thread(*args, **options)


setattr(threading, NAME, start_or_fail)
