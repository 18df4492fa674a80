"""The end of the process: uploads and downloads stop after UPLOAD_DRAIN_SECONDS.

Without this limit, gunicorn kills the process and leaves unfinished uploads in S3.
"""

import threading
import time
from collections.abc import Callable

from filehandoff.drain import Drain

#: Seconds between two checks for the server's end.
POLL_SECONDS = 0.2


class Shutdown:
    """The time limit of a process's uploads and downloads, counted from the server's end."""

    def __init__(self, drain: Drain, drain_seconds: float) -> None:
        self._drain = drain
        self._drain_seconds = drain_seconds

    def watch(self, alive: Callable[[], bool]) -> None:
        """Wait in a thread for the server's end, and start the time limit then.

        gunicorn's `max_requests` ends a process in the same way. Uploads may begin until the server has closed its
        connections, unless `Drain.refuse` was called.
        """

        def wait() -> None:
            while alive():
                time.sleep(POLL_SECONDS)
            time.sleep(self._drain_seconds)
            self._drain.stop()

        threading.Thread(target=wait, name="shutdown", daemon=True).start()
