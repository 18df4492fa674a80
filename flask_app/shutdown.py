"""The end of the process: uploads and downloads get UPLOAD_DRAIN_SECONDS; what still runs then is undone or cut.

Without it gunicorn kills the process with uploads unfinished in S3.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from filehandoff.admission import LATE_SECONDS, ending
from filehandoff.errors import UploadError

#: How often to look whether the server was told to end, in seconds.
_LOOK_EVERY = 0.2


class Shutdown:
    """What of one process's uploads and downloads still runs, and whether it may."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._running: set[Callable[[], None]] = set()
        self._downloads: set[Callable[[], None]] = set()
        self._ending_since: float | None = None
        self._stopped = False

    @contextmanager
    def upload(self, cut: Callable[[], None]) -> Iterator[None]:
        """An upload that is stopped when its time is up; `cut`, called by another thread, ends its wait for its client.

        Raises:
            Overloaded: the time is up, or the process is to end and takes no new one.
        """
        if self._ending_since is not None and time.monotonic() - self._ending_since > LATE_SECONDS:
            raise ending()
        self._running.add(cut)
        try:
            self.check()
            yield
        except UploadError:
            self.check()  # what broke it off was that we did
            raise
        finally:
            self._running.discard(cut)

    def download(self, chunks: Generator[bytes], hang_up: Callable[[], None]) -> Generator[bytes]:
        """These chunks, on a connection that is ended by `hang_up` when the time is up."""
        self._downloads.add(hang_up)
        try:
            with closing(chunks):
                yield from chunks
        finally:
            self._downloads.discard(hang_up)

    def check(self) -> None:
        """Raise Overloaded if the time is up."""
        if self._stopped:
            raise ending()

    def check_ready(self) -> None:
        """Raise Overloaded if the process is to end."""
        if self._ending_since is not None:
            raise ending()

    def refuse(self) -> None:
        """Let no upload begin any more, a moment from now; one that runs goes on."""
        self._ending_since = self._ending_since or time.monotonic()

    def watch(self, alive: Callable[[], bool]) -> None:
        """Wait in a thread for the server to be told to end, and count the time from then.

        A server that replaces its process now and then (gunicorn's `max_requests`) tells it to end in the same way;
        uploads that come in until its connections are closed are still taken, unless somebody calls `refuse`.
        """

        def wait() -> None:
            while alive():
                time.sleep(_LOOK_EVERY)
            time.sleep(self._drain_seconds)
            self.stop()

        threading.Thread(target=wait, name="shutdown", daemon=True).start()

    def stop(self) -> None:
        """Stop the uploads that run: each finds out as it reads on, from its client or from its file.

        Downloads are cut off.
        """
        self._stopped = True
        for end in (*self._running, *self._downloads):
            end()
