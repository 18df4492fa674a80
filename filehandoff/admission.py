"""How many uploads a process takes at once, how many more may wait for a place, and which error the others get.

`UPLOAD_MAX_CONCURRENT` uploads run, and as many may wait for at most `WAIT_SECONDS` each, so that a burst of short
uploads is not refused; any more are refused at once. Queued requests buffer only the first bytes of the body.

Other requests to S3, such as downloads, have places of their own. They never wait, but there are twice as many places.
So a store that does not answer, or clients that read slowly, leave `SPARE_THREADS` for /healthz and for refusals.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from filehandoff.errors import Overloaded

#: Seconds that an upload may wait for a place; shorter than a refused client would wait.
WAIT_SECONDS = 1.0
#: Seconds after SIGTERM in which an upload may still begin: its client sent it to a process that was ready.
LATE_SECONDS = 1.0
#: Threads that no slow request ever holds.
SPARE_THREADS = 8


class Place:
    """One request's place: `admitted`, or in the queue; `wake` is called when it becomes admitted."""

    def __init__(self, wake: Callable[[], object], *, admitted: bool) -> None:
        self.wake = wake
        self.admitted = admitted


class Places:
    """The places of one process for one kind of request: `at_once` to run in, and `waiting` in a queue.

    Args:
        at_once: requests that run.
        waiting: requests that may wait for one of those places.
        full: makes the error for a request that finds no place, from `at_once`.
        lock: guards the state, where several threads use it.
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
        """How many requests wait."""
        return len(self._queue)

    def ask(self, wake: Callable[[], object] = lambda: None) -> Place:
        """Take a place, or join the queue; each needs `leave` in the end.

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
        """End a wait that took too long.

        Raises:
            Overloaded: the request has not been admitted meanwhile.
        """
        with self._lock:
            if not place.admitted:
                raise self._full(self._at_once)

    def leave(self, place: Place) -> None:
        """Give a place back to the request that waits longest, or leave the queue."""
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
        """Hold a place for the block, where there is no queue.

        Raises:
            Overloaded: all places are taken.
        """
        place = self.ask()
        try:
            yield
        finally:
            self.leave(place)


def upload_places(max_concurrent: int, lock: AbstractContextManager[object] | None = None) -> Places:
    """Make the places of the uploads of one process."""
    return Places(max_concurrent, max_concurrent, busy, lock)


def read_places(max_concurrent: int, lock: AbstractContextManager[object] | None = None) -> Places:
    """Make the places of the requests for objects of one process."""
    return Places(reads_at_once(max_concurrent), 0, busy_reading, lock)


def reads_at_once(max_concurrent: int) -> int:
    """How many requests for objects, or for URLs of their parts, are answered at once."""
    return 2 * max_concurrent


def threads(max_concurrent: int) -> int:
    """How many threads a process needs that serves each request by one."""
    return max_concurrent + max_concurrent + reads_at_once(max_concurrent) + SPARE_THREADS


def busy(at_once: int) -> Overloaded:
    """The error for an upload that finds so many running and no place to wait in."""
    return Overloaded(
        f"This process takes {at_once} uploads at once, and they are under way. Nothing was stored; try again later."
    )


def busy_reading(at_once: int) -> Overloaded:
    """The error for a request about an object that finds so many under way."""
    return Overloaded(
        f"This process answers {at_once} requests for objects at once, and they are under way; try again later."
    )


def ending() -> Overloaded:
    """The error for an upload, or a look at /readyz, in a process that ends."""
    return Overloaded("The service is shutting down. Nothing was stored; try again later.")
