"""Retries of failed undos, whose uploads would stay in S3 and cost storage.

`Cleanup` queues the undos, and decides the order and the end of their retries. A thread or a task drives its flows.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

from filehandoff import logs
from filehandoff.s3.calls import AbandonedCall, Flow

logger = logging.getLogger(__name__)

#: Most seconds that a client waits for the undo of its failed form.
UNDO_SECONDS = 9.0
#: Seconds at the end of the process in which clients read their responses.
ANSWER_SECONDS = 1.0
#: Seconds at the end of the process for the last retry of pending undos.
LAST_TRY_SECONDS = 4.0
#: Undos in parallel during the last retry.
LAST_TRY_AT_ONCE = 8
#: Most seconds from UPLOAD_DRAIN_SECONDS to the exit: the sum, and 1 more, because gunicorn polls once a second.
END_SECONDS = UNDO_SECONDS + ANSWER_SECONDS + LAST_TRY_SECONDS + 1.0

#: Seconds between two retries, at first and at most; each failure doubles the pause.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
#: Most pending uploads; above it, the cleanup gives up the oldest.
MAX_PENDING = 10_000
#: Seconds until cleanup gives up; then `sweep-uploads` removes the upload.
GIVE_UP_AFTER = 3600.0

#: Makes a flow that removes an upload from S3, of which some calls may have succeeded before.
Undo: TypeAlias = Callable[[], Flow[object]]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """One upload that must be removed; `give_up_at` is a time of the cleanup's clock."""

    undo: Undo
    request_id: str
    key: str
    give_up_at: float


class Cleanup:
    """The pending undos of one process.

    Args:
        lock: guards the state, where several threads use it.
        clock: returns seconds and never goes back.

    Attributes:
        wake: called when an upload becomes pending; the driver of `try_all` sets it.
    """

    def __init__(
        self, lock: AbstractContextManager[object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lock = lock or nullcontext()
        self._clock = clock
        self._waiting: deque[Pending] = deque()
        #: Uploads whose undo runs, or whose abandoned call has not ended.
        self._held: set[Pending] = set()
        self.wake: Callable[[], None] = lambda: None

    def __bool__(self) -> bool:
        """Return whether any upload is pending, waiting or held."""
        with self._lock:
            return bool(self._waiting or self._held)

    @property
    def waits(self) -> bool:
        """Whether an upload waits for the next retry."""
        return bool(self._waiting)

    def later(self, undo: Undo, request_id: str, key: str) -> None:
        """Queue the undo of an upload for retries."""
        self._put_back(self._pending(undo, request_id, key))
        self.wake()

    def after(self, call: AbandonedCall, undo: Undo, request_id: str, key: str) -> None:
        """Undo an upload after its abandoned call has ended, even if an earlier undo succeeded."""
        pending = self._pending(undo, request_id, key)
        with self._lock:
            self._held.add(pending)

        def release(_call: object) -> None:
            self._put_back(pending)
            self.wake()

        call.add_done_callback(release)

    def try_all(self) -> Flow[bool]:
        """Undo one upload after the other up to the first failure; return whether any succeeded."""
        removed = False
        while pending := self._take():
            with self._trying(pending):
                try:
                    yield from pending.undo()
                except Exception as error:  # noqa: BLE001 - also MemoryError: every upload must be undone
                    if self._clock() < pending.give_up_at:
                        self._put_back(pending)
                    else:
                        give_up(pending, error.__cause__ or error)
                    return removed
                except BaseException:
                    self._put_back(pending)
                    raise
                removed = True
                logger.info("S3 responds again; an upload was removed")
        return removed

    def try_last(self) -> Flow[None]:
        """Undo each upload once more at the process's end; several such flows may run."""
        while pending := self._take():
            with self._trying(pending):
                try:
                    yield from pending.undo()
                except Exception as error:  # noqa: BLE001 - no error may stop the other retries
                    give_up(pending, error.__cause__ or error)
                except BaseException:
                    self._put_back(pending)
                    raise

    def give_up_all(self) -> None:
        """Log the key of each pending upload at the end of the process."""
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
    """Return the seconds until the next retry, from the last pause and the outcome."""
    return FIRST_PAUSE if removed else min(2 * pause, LONGEST_PAUSE)


def give_up(pending: Pending, reason: object) -> None:
    """Log the key of an upload that may remain in S3."""
    with logs.bound(pending.request_id):
        logger.error("the upload of '%s' is given up, and may stay in S3: %s", pending.key, reason)
