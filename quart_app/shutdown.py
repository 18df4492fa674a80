"""The end of the process: uploads and downloads get UPLOAD_DRAIN_SECONDS; what still runs then is undone or cut.

Without it hypercorn 0.18 waits for them without end on Python 3.12 and newer, whatever its `graceful_timeout` says (its
`Server.wait_closed()` waits for every connection), until somebody kills the process with uploads unfinished in S3.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType

from filehandoff.drain import Drain
from filehandoff.s3.cleanup import ANSWER_SECONDS, UNDO_SECONDS


class Shutdown:
    """Counts the time of one process's uploads and downloads from the moment that its server ends.

    `hang_up` ends all connections that are left when everything is undone, or hypercorn would wait for their clients.
    """

    def __init__(self, drain: Drain, drain_seconds: float, hang_up: Callable[[], None]) -> None:
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._hang_up = hang_up
        self._following: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Run an upload for the block, whose task is cancelled when its time is up.

        Raises:
            Overloaded: the time is up, or the process ends and takes no new upload.
        """
        task = asyncio.current_task()
        assert task is not None
        try:
            with self._drain.upload(task.cancel):
                yield
        except asyncio.CancelledError:
            if self._drain.stopped:
                task.uncancel()  # the client gets an answer
            self._drain.check()
            raise

    def begin_end(self) -> None:
        """Let no upload begin any more, and stop those that run when their time is up; again, nothing."""
        if not self._drain.ends:
            self._end(asyncio.get_running_loop())

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drain.refuse()
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self.stop)

    def watch(self) -> None:
        """Count the time from the signal that ends the server; let no other signal cut uploads.

        SIGTERM and SIGINT stay the server's: asyncio learns of signals by a file descriptor, under any handler;
        other servers have a handler, which is called once (a second SIGINT has uvicorn cut everything). If the server
        handles neither, both stay as they are. SIGQUIT acts as SIGTERM.
        """
        loop = asyncio.get_running_loop()

        def handle(before: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
            if not self._drain.ends:
                self._end(loop)
                before(number, frame)

        with suppress(ValueError):  # in another thread than the main one there are no signals
            ignore_reload_signals()
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if callable(before):
                    signal.signal(number, partial(handle, before))
            if signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL:
                signal.signal(signal.SIGQUIT, lambda *_: signal.raise_signal(signal.SIGTERM))

    def follow(self, send: object) -> None:
        """Count the time from when hypercorn closes its sockets, too; `send` is what it gave us to answer by.

        It does so without a signal to this process when it replaces it (`max_requests`), and after one to another
        (`workers`); it tells the app only when the last connection is closed, for which it would wait without end.
        Uploads that come in until then are still taken.
        """
        if self._following is None:
            context = getattr(getattr(send, "__self__", None), "context", None)
            terminated = getattr(context, "terminated", None)
            if terminated is not None:
                self._following = asyncio.create_task(self._stop_after(terminated.wait))

    async def _stop_after(self, told_to_end: Callable[[], Awaitable[None]]) -> None:
        await told_to_end()
        await asyncio.sleep(self._drain_seconds)
        self.stop()

    def close(self) -> None:
        """End what `follow` began; nothing runs any more."""
        if self._following is not None:
            self._following.cancel()

    def stop(self) -> None:
        """Stop the uploads that run: each is cancelled where it is, and undoes what it began. Downloads are cut off."""
        if self._drain.stopped:
            return  # a task that is cancelled once more would not get to its answer
        self._drain.stop()
        asyncio.get_running_loop().call_later(UNDO_SECONDS + ANSWER_SECONDS, self._hang_up)


def ignore_reload_signals() -> None:
    """Ignore the signals that ask other programs to reload and by default kill, unless they have a handler.

    Programs that this process starts inherit it.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
