"""The shutdown of one process: rejects new uploads, then stops those in progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filehandoff.admission import LATE_SECONDS, ending
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import UploadError


class Drain:
    """The uploads and downloads in progress, and the state of the shutdown.

    `refuse` begins the shutdown, `stop` ends the uploads in progress. `clock` returns seconds and never goes back.
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
        """Register an upload for the block; another thread or task calls `stop` to interrupt it.

        Raises:
            Overloaded: uploads were stopped, or the shutdown rejects new ones.
        """
        if self._refusing_since is not None and self._clock() - self._refusing_since > LATE_SECONDS:
            raise ending()
        self._uploads.add(stop)
        try:
            self.check()
            with cancelled_by(self.cancellation):
                yield
        except UploadError:
            self.check()  # the stop caused the error
            raise
        finally:
            self._uploads.discard(stop)

    @contextmanager
    def download(self, hang_up: Callable[[], object]) -> Iterator[None]:
        """Register a download for the block; `stop` calls `hang_up` to close its connection."""
        self._downloads.add(hang_up)
        try:
            yield
        finally:
            self._downloads.discard(hang_up)

    def check(self) -> None:
        """Raise Overloaded if uploads were stopped."""
        self.cancellation.check()

    def check_ready(self) -> None:
        """Raise Overloaded during the shutdown."""
        if self.ends:
            raise ending()

    @property
    def ends(self) -> bool:
        """Whether the shutdown has begun."""
        return self._refusing_since is not None

    @property
    def stopped(self) -> bool:
        """Whether uploads were stopped."""
        return self._stopped

    def refuse(self) -> None:
        """Begin the shutdown: reject uploads after `LATE_SECONDS`; uploads in progress continue."""
        if self._refusing_since is None:
            self._refusing_since = self._clock()

    def stop(self) -> None:
        """Stop all uploads, which undo themselves, and close the downloads; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self.cancellation.cancel(ending)
        for end in (*self._uploads, *self._downloads):
            end()
