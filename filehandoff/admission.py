"""Limits on concurrent uploads and reads of one process, with a short queue for uploads.

`UPLOAD_MAX_CONCURRENT` uploads run, and as many may wait up to `WAIT_SECONDS`, so that a burst of short uploads
succeeds. Any further upload is rejected at once. Queued requests buffer only the first bytes of the body.

Other requests to S3, such as downloads, have twice as many places of their own, and no queue. So an unresponsive store
or slow clients leave `SPARE_THREADS` threads for /healthz and for rejections.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from filehandoff.errors import Overloaded

#: Seconds that an upload may wait for a place; less than a rejected client waits before its retry.
WAIT_SECONDS = 1.0
#: Seconds after SIGTERM in which an upload may still start, because its client chose a ready process.
LATE_SECONDS = 1.0
#: Threads that slow requests cannot occupy.
SPARE_THREADS = 8


class Place:
    """One request's place, `admitted` or in the queue; `wake` is called on its admission."""

    def __init__(self, wake: Callable[[], object], *, admitted: bool) -> None:
        self.wake = wake
        self.admitted = admitted


class Places:
    """The places of one process for one kind of request.

    Args:
        at_once: the number of requests that may run.
        waiting: the number of requests that may queue.
        full: makes the error for a rejected request, from `at_once`.
        lock: guards the state, if several threads use it.
    """

    def __init__(
        self,
        at_once: int,
        waiting: int,
        full: Callable[[int], Overloaded],
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._at_once = at_once
        self._waiting = waiting
        self._full = full
        self._lock = lock or nullcontext()
        self._taken = 0
        self._queue: deque[Place] = deque()

    @property
    def queued(self) -> int:
        """The number of requests in the queue."""
        return len(self._queue)

    def ask(self, wake: Callable[[], object] = lambda: None) -> Place:
        """Take a place, or join the queue; the caller must `leave` either.

        Raises:
            Overloaded: all places are taken, and the queue is full.
        """
        with self._lock:
            if self._taken < self._at_once:
                self._taken += 1
                return Place(wake, admitted=True)
            if len(self._queue) == self._waiting:
                raise self._full(self._at_once)
            self._queue.append(place := Place(wake, admitted=False))
            return place

    def end_wait(self, place: Place) -> None:
        """Reject a request after its longest wait, unless it was admitted meanwhile.

        Raises:
            Overloaded: the request is still in the queue.
        """
        with self._lock:
            if not place.admitted:
                raise self._full(self._at_once)

    def leave(self, place: Place) -> None:
        """Pass the place to the oldest queued request, or leave the queue."""
        with self._lock:
            if not place.admitted:
                self._queue.remove(place)
            elif self._queue:
                successor = self._queue.popleft()
                successor.admitted = True
                successor.wake()
            else:
                self._taken -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a place for the block; only for places without a queue.

        Raises:
            Overloaded: all places are taken.
        """
        place = self.ask()
        try:
            yield
        finally:
            self.leave(place)


def upload_places(max_concurrent: int, lock: AbstractContextManager[object] | None = None) -> Places:
    """Make the places for the uploads of one process."""
    return Places(max_concurrent, max_concurrent, busy, lock)


def read_places(max_concurrent: int, lock: AbstractContextManager[object] | None = None) -> Places:
    """Make the places for the reads of one process."""
    return Places(reads_at_once(max_concurrent), 0, busy_reading, lock)


def reads_at_once(max_concurrent: int) -> int:
    """Return the number of concurrent requests for objects or for part URLs."""
    return 2 * max_concurrent


def threads(max_concurrent: int) -> int:
    """Return the number of threads for a process with one thread per request."""
    return max_concurrent + max_concurrent + reads_at_once(max_concurrent) + SPARE_THREADS


def busy(at_once: int) -> Overloaded:
    """Return the error for an upload that finds all places and the queue full."""
    return Overloaded(
        f"This process takes {at_once} uploads at once, and all are in progress. Nothing was stored; try again later."
    )


def busy_reading(at_once: int) -> Overloaded:
    """Return the error for a read that finds all places taken."""
    return Overloaded(
        f"This process serves {at_once} requests for objects at once, and all are in progress; try again later."
    )


def ending() -> Overloaded:
    """Return the error for an upload, or for /readyz, during shutdown."""
    return Overloaded("The service is shutting down. Nothing was stored; try again later.")
