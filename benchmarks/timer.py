"""A Linux timer that an epoll waits for, exact to microseconds; `os.timerfd_create` exists only from Python 3.13 on."""

import ctypes
import os
import time
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE_TIME: Final = 1


class _Times(ctypes.Structure):
    """The `itimerspec` of timerfd_settime(2): interval and moment, each in seconds and nanoseconds."""

    _fields_ = (("interval", ctypes.c_long * 2), ("moment", ctypes.c_long * 2))


class Timer:
    """A timer whose file descriptor `fd` becomes readable at the moment that was set last."""

    def __init__(self) -> None:
        self.fd = _checked(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def set(self, moment: float) -> None:
        """Set the moment, in seconds of `time.monotonic`; a moment in the past is due at once."""
        nanoseconds = max(int(moment * 1e9), 1)  # 0 would disarm the timer
        times = _Times((0, 0), divmod(nanoseconds, 10**9))
        _checked(_LIBC.timerfd_settime(self.fd, _ABSOLUTE_TIME, ctypes.byref(times), None))


def _checked(result: int) -> int:
    """Raise the error of a failed system call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
