"""The end of one process: which uploads and downloads run, and which may still begin; the clock is an argument."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filehandoff.admission import LATE_SECONDS, ending
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import UploadError


class Drain:
    """The uploads and downloads of one process, and how far its end has come.

    A process that must end first refuses new uploads, then stops those that run. `clock` returns seconds and never
    goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uploads: set[Callable[[], object]] = set()
        self._downloads: set[Callable[[], object]] = set()
        self._refusing_since: float | None = None
        self._stopped = False
        self.cancellation = Cancellation(clock=clock)

    @contextmanager
    def upload(self, stop: Callable[[], object]) -> Iterator[None]:
        """Run an upload for the block; `stop`, called by another thread or task, has it notice that its time is up.

        Raises:
            Overloaded: the time is up, or the process ends and takes no new upload.
        """
        if self._refusing_since is not None and self._clock() - self._refusing_since > LATE_SECONDS:
            raise ending()
        self._uploads.add(stop)
        try:
            self.check()
            with cancelled_by(self.cancellation):
                yield
        except UploadError:
            self.check()  # the stop is the reason for the error
            raise
        finally:
            self._uploads.discard(stop)

    @contextmanager
    def download(self, hang_up: Callable[[], object]) -> Iterator[None]:
        """Run a download for the block; `hang_up` ends its connection when the time is up."""
        self._downloads.add(hang_up)
        try:
            yield
        finally:
            self._downloads.discard(hang_up)

    def check(self) -> None:
        """Raise Overloaded if the time is up."""
        self.cancellation.check()

    def check_ready(self) -> None:
        """Raise Overloaded if the process ends."""
        if self.ends:
            raise ending()

    @property
    def ends(self) -> bool:
        """Whether the process refuses new uploads."""
        return self._refusing_since is not None

    @property
    def stopped(self) -> bool:
        """Whether the time of the uploads is up."""
        return self._stopped

    def refuse(self) -> None:
        """Let no upload begin from a moment on; those that run go on."""
        if self._refusing_since is None:
            self._refusing_since = self._clock()

    def stop(self) -> None:
        """Stop the uploads, each of which removes what it has stored, and cut off the downloads; once."""
        if self._stopped:
            return
        self._stopped = True
        self.cancellation.cancel(ending)
        for end in (*self._uploads, *self._downloads):
            end()
