"""Cooperative cancellation of a request's work: by shutdown, timeout, or another part's failure.

A thread cannot be cancelled, and a task must not be cancelled during a call to S3. Both poll a context variable, which
follows the work into other threads and tasks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancellation:
    """One reason to cancel; `outer` is a second reason for the same work.

    `clock` returns seconds and never goes back.
    """

    def __init__(self, outer: "Cancellation | None" = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._outer = outer
        self._clock = clock
        self._at = float("inf")
        self._error: Callable[[], BaseException] = RuntimeError

    def cancel(self, error: Callable[[], BaseException], at: float | None = None) -> None:
        """Cancel with this error, now or at time `at`; only the first call counts."""
        if self._at == float("inf"):
            self._error = error  # before the time, which another thread may compare at once
            self._at = self._clock() if at is None else at

    def check(self) -> None:
        """Raise the error of the first reason that applies; `outer` precedes this one."""
        if self._outer is not None:
            self._outer.check()
        if self._clock() >= self._at:
            raise self._error()

    def stopped_for(self) -> float:
        """Return the seconds since the cancellation; negative before it."""
        outer = self._outer.stopped_for() if self._outer is not None else float("-inf")
        return max(outer, self._clock() - self._at)


_NEVER = Cancellation()
_current: ContextVar[Cancellation] = ContextVar("cancellation", default=_NEVER)


def current() -> Cancellation:
    """Return the cancellation of the current work; by default one that never applies."""
    return _current.get()


def check() -> None:
    """Raise the error of the current work's cancellation, if it applies."""
    _current.get().check()


def stopped_for() -> float:
    """Return the seconds since the current work's cancellation; negative before it."""
    return _current.get().stopped_for()


@contextmanager
def cancelled_by(cancellation: Cancellation) -> Iterator[Cancellation]:
    """Apply a cancellation to the block, and to the threads and tasks it starts."""
    token = _current.set(cancellation)
    try:
        yield cancellation
    finally:
        _current.reset(token)
