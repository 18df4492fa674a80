"""The end of the process: uploads and downloads get UPLOAD_DRAIN_SECONDS; then they are stopped.

Without it gunicorn kills the process with uploads unfinished in S3.
"""

import threading
import time
from collections.abc import Callable

from filehandoff.drain import Drain

#: Seconds between two looks for the server's end.
LOOK_EVERY = 0.2


class Shutdown:
    """Counts the time of one process's uploads and downloads from the moment that its server ends."""

    def __init__(self, drain: Drain, drain_seconds: float) -> None:
        self._drain = drain
        self._drain_seconds = drain_seconds

    def watch(self, alive: Callable[[], bool]) -> None:
        """Wait in a thread for the end of the server, and count the time from then.

        A server that replaces its process now and then (gunicorn's `max_requests`) ends it in the same way; uploads
        that arrive until its connections are closed are still taken, unless `Drain.refuse` is called.
        """

        def wait() -> None:
            while alive():
                time.sleep(LOOK_EVERY)
            time.sleep(self._drain_seconds)
            self._drain.stop()

        threading.Thread(target=wait, name="shutdown", daemon=True).start()
