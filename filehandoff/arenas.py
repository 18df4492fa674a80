"""Limit the heaps of glibc, whose default retains freed memory in a busy process.

glibc gives threads their own heaps, up to eight per processor. One heap cannot reuse memory that a thread has freed in
another, so a process with many threads grows for hours. With one heap, its memory stays level at no measurable cost.
"""

import ctypes
from collections.abc import Mapping
from typing import Any

#: Heaps per process; threads rarely compete for one, because the GIL lets one thread allocate at a time.
ARENAS = 1
#: The number of the parameter in glibc's malloc.h.
_M_ARENA_MAX = -8


def limit_arenas(environ: Mapping[str, str], libc: Any = None) -> bool:
    """Limit this process and its forks to `ARENAS` heaps; return whether that worked.

    Call it before the first thread starts. It does nothing if the environment sets a number, or if the C library is
    not glibc.
    """
    if "MALLOC_ARENA_MAX" in environ or "arena_max" in environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = libc or ctypes.CDLL(None)
    return hasattr(libc, "gnu_get_libc_version") and bool(libc.mallopt(_M_ARENA_MAX, ARENAS))
