"""The end of the process: uploads and downloads stop after UPLOAD_DRAIN_SECONDS.

Without this limit, hypercorn 0.18 waits for them for ever on Python 3.12 and newer, in spite of its `graceful_timeout`:
its `Server.wait_closed()` waits for every connection. Only a kill would end the process, and leave unfinished uploads
in S3.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType

from filehandoff.drain import Drain
from filehandoff.s3.cleanup import ANSWER_SECONDS, UNDO_SECONDS
from quart_app.tasks import run_in_background


class Shutdown:
    """The time limit of a process's uploads and downloads, counted from the server's end.

    After the undo, `hang_up` ends the connections that are left: hypercorn would wait for their clients.
    """

    def __init__(self, drain: Drain, drain_seconds: float, hang_up: Callable[[], None]) -> None:
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._hang_up = hang_up
        self._following: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Run an upload for the block, and cancel its task at the time limit.

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
        """Refuse new uploads and start the time limit; a second call changes nothing."""
        if not self._drain.ends:
            self._end(asyncio.get_running_loop())

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drain.refuse()
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, self.stop)

    def watch(self) -> None:
        """Start the time limit at the signal that ends the server; ignore other signals.

        The server keeps SIGTERM and SIGINT. asyncio learns of signals by a file descriptor, under any handler. Other
        servers have a handler, which is called once, because a second SIGINT makes uvicorn abort all uploads. If the
        server handles neither signal, both stay as they are. SIGQUIT acts as SIGTERM.
        """
        loop = asyncio.get_running_loop()

        def handle(before: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
            if not self._drain.ends:
                self._end(loop)
                before(number, frame)

        with suppress(ValueError):  # only the main thread can handle signals
            ignore_reload_signals()
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if callable(before):
                    signal.signal(number, partial(handle, before))
            if signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL:
                signal.signal(signal.SIGQUIT, lambda *_: signal.raise_signal(signal.SIGTERM))

    def follow(self, send: object) -> None:
        """Start the time limit when hypercorn closes its sockets.

        `send` is the function by which hypercorn lets the app answer. hypercorn closes its sockets without a signal to
        this process for `max_requests`, and with `workers` after a signal to another process. It informs the app only
        after its last connection is closed, and would wait for that without a limit. Uploads that arrive until then are
        accepted.
        """
        if self._following is None:
            context = getattr(getattr(send, "__self__", None), "context", None)
            terminated = getattr(context, "terminated", None)
            if terminated is not None:
                self._following = run_in_background(self._stop_after(terminated.wait), "shutdown")

    async def _stop_after(self, wait_for_end: Callable[[], Awaitable[None]]) -> None:
        await wait_for_end()
        await asyncio.sleep(self._drain_seconds)
        self.stop()

    def close(self) -> None:
        """End the task that `follow` has started."""
        if self._following is not None:
            self._following.cancel()

    def stop(self) -> None:
        """Cancel the running uploads, which undo their work, and abort the downloads."""
        if self._drain.stopped:
            return  # a second cancellation would end a task before its answer
        self._drain.stop()
        asyncio.get_running_loop().call_later(UNDO_SECONDS + ANSWER_SECONDS, self._hang_up)


def ignore_reload_signals() -> None:
    """Ignore SIGHUP, SIGUSR1 and SIGUSR2, unless they have a handler.

    Other programs reload on these signals, which by default kill. Child processes inherit the setting.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
