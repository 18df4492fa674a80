"""How many heaps the C library keeps: with glibc's own number, memory that a process has freed stays with it.

glibc gives threads heaps of their own, up to eight for each processor. A part that one thread has freed is of no use to
the heap of another, so a process with many threads grows for hours. Two heaps keep it level, for no measurable time.
"""

import ctypes
from collections.abc import Mapping
from typing import Any

#: As many as keep threads from waiting for each other: Python's own lock lets one thread at a time allocate.
ARENAS = 2
#: The parameter's number in glibc's malloc.h.
_M_ARENA_MAX = -8


def limit_arenas(environ: Mapping[str, str], libc: Any = None) -> bool:
    """Keep to `ARENAS` heaps from here on, in this process and those that it forks; whether that is so now.

    Call it before the first thread starts. It does nothing where the environment has set a number already, or where
    another C library than glibc is used.
    """
    if "MALLOC_ARENA_MAX" in environ or "arena_max" in environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = libc or ctypes.CDLL(None)
    return hasattr(libc, "gnu_get_libc_version") and bool(libc.mallopt(_M_ARENA_MAX, ARENAS))
