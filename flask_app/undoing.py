"""What could not be undone, because S3 was away, is undone when it is back: it would stay there, and cost storage."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from handoff import logs
from handoff.errors import BucketMissing, UploadError
from handoff.undoing import FIRST_PAUSE, LONGEST_PAUSE, MOST, until

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """An upload that is still to be undone, and when it is given up, by the monotonic clock."""

    undo: Callable[[], object]
    request_id: str
    until: float


class Undoing:
    """One process's uploads that are still to be undone, and the thread that does it, while there are any."""

    def __init__(self) -> None:
        self._left: deque[Left] = deque(maxlen=MOST)
        self._lock = threading.Lock()
        self._runs = False

    def later(self, undo: Callable[[], object], request_id: str) -> None:
        """Undo this upload as soon as S3 lets us; `undo` may have done a part of it already."""
        with self._lock:
            self._left.append(Left(undo, request_id, until(time.monotonic())))
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="undoing", daemon=True).start()

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
        while self._left:
            left = self._left.popleft()
            with logs.bound(left.request_id):
                try:
                    left.undo()
                except (UploadError, BucketMissing) as error:
                    if time.monotonic() < left.until:
                        self._left.append(left)
                    else:
                        logger.error("an upload is given up, and stays in S3: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback
                    return undone
                undone = True
                logger.info("an upload is undone, S3 is back")
        return undone
