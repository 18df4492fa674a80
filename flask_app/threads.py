"""Threads that call S3 for others. A running call cannot be cancelled, only abandoned.

When the process ends, an upload that waits for a silent store is removed, and its client gets an answer. The threads
are daemons, or the process would wait for the store anyway. If the system starts no thread, the caller makes the call
itself: that call cannot be abandoned, but the upload and its cleanup go on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from filehandoff import cancellation
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import UploadError, is_exhausted
from filehandoff.s3.cleanup import UNDO_SECONDS

T = TypeVar("T")

#: Seconds that an idle thread waits for another call before it ends.
KEEP_SECONDS = 5.0
#: Seconds between two checks for cancellation while a call runs.
POLL_SECONDS = 0.2


class Threads:
    """As many threads as are needed at once, each kept for the next call."""

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Callable[[], None]]] = deque()
        self._lock = threading.Lock()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in another thread, in a copy of the context.

        If no thread can start, run it at once.
        """
        future: Future[T] = Future()
        task = partial(_do, work, copy_context(), future)
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(task)
        elif not start(self._run, "s3-call", task):
            task()
        return future

    def _run(self, task: Callable[[], None]) -> None:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        while True:
            task()
            del task  # it may hold a part
            with self._lock:
                self._idle.append(inbox)
            try:
                task = inbox.get(timeout=KEEP_SECONDS)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                task = inbox.get()  # a caller has just taken this inbox


def start(run: Callable[..., None], name: str, *arguments: object) -> bool:
    """Start a daemon thread; return False if the system lacks threads or memory."""
    try:
        threading.Thread(target=run, args=arguments, name=name, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        return False
    return True


def _do(work: Callable[[], T], context: Context, future: Future[T]) -> None:
    try:
        future.set_result(context.run(work))
    except BaseException as error:  # noqa: BLE001 - the future raises it in the waiting thread
        future.set_exception(error)
    finally:
        del future  # the error holds this frame


THREADS = Threads()


def finish(work: Callable[[], T], abandon: Callable[[Future[Any]], object]) -> T:
    """Run `work` in another thread; on cancellation, pass the call to `abandon`."""
    call = THREADS.submit(work)
    try:
        while not _ends_soon(call):
            cancellation.check()
    except UploadError:
        abandon(call)
        raise
    return call.result()


def result_in_time(work: Callable[[], T], seconds: float) -> T:
    """Run `work` in another thread, and return its result; after `seconds`, abandon it.

    Raises:
        TimeoutError: `work` has not ended.
        UploadError: the current work is cancelled.
    """
    limit = Cancellation(outer=cancellation.current())
    limit.cancel(lambda: TimeoutError(f"no result after {seconds} seconds"), at=time.monotonic() + seconds)
    with cancelled_by(limit):
        return finish(work, lambda _: None)


def finish_in_time(work: Callable[[], object]) -> bool:
    """Run `work` in another thread for `UNDO_SECONDS`; return whether it has ended."""
    _, running = wait([THREADS.submit(work)], UNDO_SECONDS)
    return not running


def wait_for_first(calls: set[Future[T]]) -> tuple[set[Future[T]], set[Future[T]]]:
    """Wait until a call has ended; return the ended calls and the others.

    Raises:
        UploadError: the current work is cancelled; `wait_for_all` must still be called for all.
    """
    return _wait(calls, FIRST_COMPLETED)


def wait_for_all(calls: set[Future[Any]], abandon: Callable[[Future[Any]], object]) -> None:
    """Wait until all calls have ended; on cancellation, pass each to `abandon`."""
    try:
        _wait(calls, ALL_COMPLETED)
    except UploadError:
        for call in calls:
            abandon(call)


def _wait(calls: set[Future[T]], until: str) -> tuple[set[Future[T]], set[Future[T]]]:
    done, running = wait(calls, POLL_SECONDS, until)
    while running and (until == ALL_COMPLETED or not done):
        cancellation.check()
        done, running = wait(calls, POLL_SECONDS, until)
    return done, running


def _ends_soon(call: Future[Any]) -> bool:
    """Wait `POLL_SECONDS` seconds for the call; return whether it has ended.

    This is cheaper than `wait`, and each upload has two such calls.
    """
    try:
        call.exception(POLL_SECONDS)
    except TimeoutError:
        return False
    return True
