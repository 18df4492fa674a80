"""What could not be undone, because S3 was away, is undone when it is back: it would stay there, and cost storage."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from filehandoff import logs
from filehandoff.undoing import FIRST_PAUSE, LAST_TRY_AT_ONCE, LAST_TRY_SECONDS, LONGEST_PAUSE, MOST, until
from flask_app.threads import start

logger = logging.getLogger(__name__)

#: How often to look whether the last try is over, in seconds.
_LOOK_EVERY = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """An upload that is still to be undone, and when it is given up, by the monotonic clock."""

    undo: Callable[[], object]
    request_id: str
    key: str
    until: float


class Undoing:
    """One process's uploads that are still to be undone, and the thread that does it, while there are any."""

    def __init__(self) -> None:
        self._left: deque[Left] = deque(maxlen=MOST)
        self._tried: set[Left] = set()
        self._lock = threading.Lock()
        self._runs = False

    def later(self, undo: Callable[[], object], request_id: str, key: str) -> None:
        """Undo the upload of this object as soon as S3 lets us; `undo` may have done a part of it already."""
        with self._lock:
            self._left.append(Left(undo, request_id, key, until(time.monotonic())))
        self.resume()

    def resume(self) -> None:
        """Start the thread if it has work; where none can be started, the next call of this tries again."""
        with self._lock:
            if self._left and not self._runs:
                self._runs = start(self._run, "undoing")

    def after(self, call: Future[Any], undo: Callable[[], object], request_id: str, key: str) -> None:
        """Undo the upload of this object, perhaps once more, when a call for it has ended that nobody waits for."""
        left = Left(undo, request_id, key, until(time.monotonic()))
        with self._lock:
            self._tried.add(left)

        def undo_it(_call: Future[Any]) -> None:
            with self._trying(left):
                self.later(undo, request_id, key)

        call.add_done_callback(undo_it)

    def close(self) -> None:
        """Try all that is left once more, within bounds: the process ends. What stays in S3 is told by its key."""
        end = time.monotonic() + LAST_TRY_SECONDS
        if self._has_more():
            started = [start(self._try_last, "undoing-last", end) for _ in range(LAST_TRY_AT_ONCE)]
            if not any(started):
                self._try_last(end)
        while self._has_more() and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)
        with self._lock:
            for left in (*self._tried, *self._left):
                give_up(left, "the process ends")

    def _try_last(self, end: float) -> None:
        while self._has_more() and time.monotonic() < end:
            left = self._take()
            if left is None:  # but a call is still to end
                time.sleep(_LOOK_EVERY)
                continue
            with logs.bound(left.request_id), self._trying(left):
                try:
                    left.undo()
                except Exception as error:  # noqa: BLE001 - no error may end the other tries
                    give_up(left, error.__cause__ or error)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            time.sleep(pause)
            try:
                pause = FIRST_PAUSE if self._try_all() else min(2 * pause, LONGEST_PAUSE)
            except BaseException:
                self._runs = False  # the next one that cannot be undone begins anew
                raise
            with self._lock:
                if not self._left:
                    self._runs = False
                    return

    def _try_all(self) -> bool:
        """Undo one after the other, up to the first that fails; whether any was."""
        undone = False
        while left := self._take():
            with logs.bound(left.request_id), self._trying(left):
                try:
                    left.undo()
                except Exception as error:  # noqa: BLE001 - also a want of memory ends, and must lose no upload
                    if time.monotonic() < left.until:
                        self._left.append(left)
                    else:
                        give_up(left, error.__cause__ or error)
                    return undone
                undone = True
                logger.info("an upload is undone, S3 is back")
        return undone

    def _take(self) -> Left | None:
        with self._lock:
            if not self._left:
                return None
            left = self._left.popleft()
            self._tried.add(left)
            return left

    @contextmanager
    def _trying(self, left: Left) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._tried.discard(left)

    def _has_more(self) -> bool:
        with self._lock:
            return bool(self._left or self._tried)


def give_up(left: Left, reason: object) -> None:
    """Say what is left for whoever looks after the bucket."""
    with logs.bound(left.request_id):
        logger.error("the upload of '%s' is given up, and may stay in S3: %s", left.key, reason)
