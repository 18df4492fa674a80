"""The thread that removes pending uploads from S3, and ends when none is left."""

import threading
import time
from collections.abc import Callable
from typing import Any

from filehandoff.s3.calls import Flow
from filehandoff.s3.cleanup import FIRST_PAUSE, LAST_TRY_AT_ONCE, LAST_TRY_SECONDS, Cleanup, next_pause
from flask_app.threads import start

#: Seconds between two checks for the end of the last tries.
POLL_SECONDS = 0.02


class Cleaner:
    """The cleanup of one process; `run` runs a flow."""

    def __init__(self, cleanup: Cleanup, run: Callable[[Flow[Any]], Any]) -> None:
        self._cleanup = cleanup
        self._run = run
        self._lock = threading.Lock()
        self._runs = False
        cleanup.wake = self.resume

    def resume(self) -> None:
        """Start the thread if uploads are pending; the next call retries a failed start."""
        with self._lock:
            if self._cleanup.waits and not self._runs:
                self._runs = start(self._work, "cleanup")

    def close(self) -> None:
        """Try all pending uploads again, for a bounded time; log the keys that are left."""
        end = time.monotonic() + LAST_TRY_SECONDS
        if self._cleanup:
            started = [start(self._try_last, "cleanup-last", end) for _ in range(LAST_TRY_AT_ONCE)]
            if not any(started):
                self._try_last(end)
        while self._cleanup and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        self._cleanup.give_up_all()

    def _try_last(self, end: float) -> None:
        while self._cleanup and time.monotonic() < end:
            self._run(self._cleanup.try_last())
            time.sleep(POLL_SECONDS)

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            time.sleep(pause)
            try:
                removed = self._run(self._cleanup.try_all())
            except BaseException:
                self._runs = False  # the next pending upload starts another thread
                raise
            pause = next_pause(pause, removed=removed)
            with self._lock:
                if not self._cleanup.waits:
                    self._runs = False
                    return
