"""Uploads that must be removed from S3 and could not be, because S3 was away: they would stay there and cost storage.

`Cleanup` holds them and decides: which is tried next, when, and for how long. A thread or a task drives its flows.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from filehandoff import logs
from filehandoff.s3.calls import AbandonedCall, Flow

logger = logging.getLogger(__name__)

#: Seconds that a client waits at most for the removal of a form that failed.
UNDO_SECONDS = 9.0
#: Seconds at the process's end in which clients read their answers.
ANSWER_SECONDS = 1.0
#: Seconds at the process's end in which pending cleanup is tried once more, so many at a time.
LAST_TRY_SECONDS = 4.0
LAST_TRY_AT_ONCE = 8
#: Seconds that a process takes at most to end after UPLOAD_DRAIN_SECONDS: all of these, and one more, because gunicorn
#: looks once a second for the end.
END_SECONDS = UNDO_SECONDS + ANSWER_SECONDS + LAST_TRY_SECONDS + 1.0

#: Seconds between two tries, at first and at most; the pause doubles after each try that fails.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
#: Uploads that may be pending; of more, the oldest are given up.
MAX_PENDING = 10_000
#: Seconds until cleanup gives up; then `sweep-uploads` removes the upload.
GIVE_UP_AFTER = 3600.0

#: A flow that removes an upload from S3; each call makes a new one, and a part of the upload may be gone already.
type Undo = Callable[[], Flow[object]]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """One upload that must be removed, the request it came by, and when cleanup gives it up, by the clock."""

    undo: Undo
    request_id: str
    key: str
    give_up_at: float


class Cleanup:
    """One process's pending cleanup.

    Args:
        lock: guards the state, where several threads use it.
        clock: returns seconds and never goes back.

    Attributes:
        wake: called when an upload becomes pending; whoever drives `try_all` sets it.
    """

    def __init__(
        self, lock: AbstractContextManager[object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lock = lock or nullcontext()
        self._clock = clock
        self._waiting: deque[Pending] = deque()
        #: Those that are being tried, and those whose calls have not ended.
        self._held: set[Pending] = set()
        self.wake: Callable[[], None] = lambda: None

    def __bool__(self) -> bool:
        """Whether any upload is pending, in whatever state."""
        with self._lock:
            return bool(self._waiting or self._held)

    @property
    def waits(self) -> bool:
        """Whether an upload waits for the next try."""
        return bool(self._waiting)

    def later(self, undo: Undo, request_id: str, key: str) -> None:
        """Remove the upload of this object as soon as S3 lets us."""
        self._put_back(self._pending(undo, request_id, key))
        self.wake()

    def after(self, call: AbandonedCall, undo: Undo, request_id: str, key: str) -> None:
        """Remove the upload of this object, perhaps a second time, when an abandoned call for it has ended."""
        pending = self._pending(undo, request_id, key)
        with self._lock:
            self._held.add(pending)

        def release(_call: object) -> None:
            self._put_back(pending)
            self.wake()

        call.add_done_callback(release)

    def try_all(self) -> Flow[bool]:
        """Remove one upload after the other, up to the first that fails; return whether any was removed."""
        removed = False
        while pending := self._take():
            with self._trying(pending):
                try:
                    yield from pending.undo()
                except Exception as error:  # noqa: BLE001 - memory may be short for a while too, and must lose no upload
                    if self._clock() < pending.give_up_at:
                        self._put_back(pending)
                    else:
                        give_up(pending, error.__cause__ or error)
                    return removed
                except BaseException:
                    self._put_back(pending)
                    raise
                removed = True
                logger.info("S3 is back, an upload was removed")
        return removed

    def try_last(self) -> Flow[None]:
        """Try each upload once more: the process ends. Several of these flows may run at once."""
        while pending := self._take():
            with self._trying(pending):
                try:
                    yield from pending.undo()
                except Exception as error:  # noqa: BLE001 - no error may end the other tries
                    give_up(pending, error.__cause__ or error)
                except BaseException:
                    self._put_back(pending)
                    raise

    def give_up_all(self) -> None:
        """Log the key of each pending upload: the process ends."""
        with self._lock:
            left = (*self._held, *self._waiting)
        for pending in left:
            give_up(pending, "the process ends")

    def _pending(self, undo: Undo, request_id: str, key: str) -> Pending:
        return Pending(undo, request_id, key, self._clock() + GIVE_UP_AFTER)

    def _take(self) -> Pending | None:
        with self._lock:
            if not self._waiting:
                return None
            pending = self._waiting.popleft()
            self._held.add(pending)
            return pending

    def _put_back(self, pending: Pending) -> None:
        with self._lock:
            oldest = self._waiting.popleft() if len(self._waiting) == MAX_PENDING else None
            self._waiting.append(pending)
            self._held.discard(pending)
        if oldest is not None:
            give_up(oldest, f"{MAX_PENDING} others are pending")

    @contextmanager
    def _trying(self, pending: Pending) -> Iterator[None]:
        try:
            with logs.bound(pending.request_id):
                yield
        finally:
            with self._lock:
                self._held.discard(pending)


def next_pause(pause: float, *, removed: bool) -> float:
    """Return how many seconds to wait after a try, from the pause before it and from its outcome."""
    return FIRST_PAUSE if removed else min(2 * pause, LONGEST_PAUSE)


def give_up(pending: Pending, reason: object) -> None:
    """Log the key of an upload that may stay in S3."""
    with logs.bound(pending.request_id):
        logger.error("the upload of '%s' is given up, and may stay in S3: %s", pending.key, reason)
