"""Ends the work of a request early: the process ends, a time limit passes, or a part of the work has failed.

A thread cannot be cancelled, and a task that must finish a call to S3 may not be. Both ask here, by a context variable
that follows the work into other threads and tasks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancellation:
    """One reason to end early; `outer` is another one that holds for the same work.

    `clock` returns seconds and never goes back.
    """

    def __init__(self, outer: "Cancellation | None" = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._outer = outer
        self._clock = clock
        self._at = float("inf")
        self._error: Callable[[], BaseException] = RuntimeError

    def cancel(self, error: Callable[[], BaseException], at: float | None = None) -> None:
        """End the work by this error, from now on or from a time of the clock on; the first call counts."""
        if self._at == float("inf"):
            self._error = error  # before the time, which another thread may compare at once
            self._at = self._clock() if at is None else at

    def check(self) -> None:
        """Raise the error of the first reason that holds, the outer one before this one."""
        if self._outer is not None:
            self._outer.check()
        if self._clock() >= self._at:
            raise self._error()

    def stopped_for(self) -> float:
        """Return for how many seconds the work should have ended; below 0 it may go on."""
        outer = self._outer.stopped_for() if self._outer is not None else float("-inf")
        return max(outer, self._clock() - self._at)


_NEVER = Cancellation()
_current: ContextVar[Cancellation] = ContextVar("cancellation", default=_NEVER)


def current() -> Cancellation:
    """Return the cancellation of the work that this thread or task does; outside of any, one that never comes."""
    return _current.get()


def check() -> None:
    """Raise the error that ends the current work early, if there is one."""
    _current.get().check()


def stopped_for() -> float:
    """Return for how many seconds the current work should have ended; below 0 it may go on."""
    return _current.get().stopped_for()


@contextmanager
def cancelled_by(cancellation: Cancellation) -> Iterator[Cancellation]:
    """Have this cancellation hold for the work in the block, and for the threads and tasks that it starts."""
    token = _current.set(cancellation)
    try:
        yield cancellation
    finally:
        _current.reset(token)
