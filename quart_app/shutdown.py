"""The end of the process: running uploads get UPLOAD_DRAIN_SECONDS, and what still runs then is undone.

Without it hypercorn 0.18 waits for them without end on Python 3.12 and newer, whatever its `graceful_timeout` says (its
`Server.wait_closed()` waits for every connection), until somebody kills the process with uploads unfinished in S3.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

from handoff.errors import Overloaded


class Shutdown:
    """What of one process's uploads still runs, and whether it may."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._running: set[asyncio.Task[Any]] = set()
        self._stopped = False

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """An upload that is stopped when its time is up.

        Raises:
            Overloaded: the time is up.
        """
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            self.check()
            yield
        except asyncio.CancelledError:
            if self._stopped:
                task.uncancel()  # it was us, and the client is to be told
            self.check()
            raise
        finally:
            self._running.discard(task)

    def check(self) -> None:
        """Raise Overloaded if the time is up."""
        if self._stopped:
            raise Overloaded("The service is shutting down. Nothing was stored; try again later.")

    def watch(self) -> None:
        """Wait for the SIGTERM that tells the server to end, and count the time from then.

        What the server does on SIGTERM stays as it is: asyncio learns of signals by a file descriptor, whatever the
        handler; other servers have a handler, which is called. Where nobody handles it, we do not either.
        """
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):
            return
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self.stop)
            before(number, frame)

        with suppress(ValueError):  # in another thread than the main one there are no signals
            signal.signal(signal.SIGTERM, handle)

    def stop(self) -> None:
        """Stop the uploads that run: each is cancelled where it is, and undoes what it began."""
        self._stopped = True
        for task in self._running:
            task.cancel()
