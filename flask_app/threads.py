"""Threads that make calls to S3 for others: a call cannot be cancelled, but it can be left.

When the process is to end, an upload that waits for a store which does not answer is undone, and its client told so.
The threads are daemons, or the process would wait for that store all the same. Where no thread can be started, the
caller makes the call itself: the call cannot be abandoned then, but neither an upload nor its cleanup fails.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from filehandoff import logs
from filehandoff.errors import UploadError, is_exhausted

if TYPE_CHECKING:
    from flask_app.undoing import Undoing

#: How long a thread waits for another call, in seconds, before it ends.
KEEP_SECONDS = 5.0
#: How often one who waits for a call looks whether to go on waiting, in seconds.
LOOK_EVERY = 0.2


class Threads:
    """As many as are needed at once, each kept a while for the next call."""

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Callable[[], None]]] = deque()
        self._lock = threading.Lock()

    def submit[T](self, work: Callable[[], T]) -> Future[T]:
        """Have another thread do this in a copy of the context; where none can be started, do it at once."""
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
                task = inbox.get()  # it was given one just now


def start(run: Callable[..., None], name: str, *arguments: object) -> bool:
    """Start a daemon thread; False where the system has no more threads, or no memory for one."""
    try:
        threading.Thread(target=run, args=arguments, name=name, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        return False
    return True


def _do[T](work: Callable[[], T], context: Context, future: Future[T]) -> None:
    try:
        future.set_result(context.run(work))
    except BaseException as error:  # noqa: BLE001 - whoever waits for it is to see it
        future.set_exception(error)
    finally:
        del future  # the error holds this frame


THREADS = Threads()


class Calls:
    """The calls to S3 for one object: made by other threads, and left to them when `go_on` raises.

    What a call does that was left is undone when it ends.
    """

    def __init__(self, undoing: "Undoing", undo: Callable[[], object], key: str, go_on: Callable[[], None]) -> None:
        self._undoing = undoing
        self._undo = undo
        self._key = key
        self._go_on = go_on

    def make[T](self, work: Callable[[], T]) -> T:
        """What a call answers, or raises."""
        call = THREADS.submit(work)
        try:
            while not _ends_soon(call):
                self._go_on()
        except UploadError:
            self._leave({call})
            raise
        return call.result()

    def first_of[T](self, calls: set[Future[T]]) -> tuple[set[Future[T]], set[Future[T]]]:
        """Those of them that have ended, at least one, and the others; `end` is still to be called for these."""
        return self._wait(calls, FIRST_COMPLETED)

    def end(self, calls: set[Future[Any]]) -> None:
        """Wait for the end of all, whatever it is, or leave them."""
        try:
            self._wait(calls, ALL_COMPLETED)
        except UploadError:
            self._leave(calls)

    def _wait[T](self, calls: set[Future[T]], until: str) -> tuple[set[Future[T]], set[Future[T]]]:
        done, running = wait(calls, LOOK_EVERY, until)
        while running and (until == ALL_COMPLETED or not done):
            self._go_on()
            done, running = wait(calls, LOOK_EVERY, until)
        return done, running

    def _leave(self, calls: set[Future[Any]]) -> None:
        for call in calls:
            self._undoing.after(call, self._undo, logs.bound_id(), self._key)


def _ends_soon(call: Future[Any]) -> bool:
    """Wait a moment for its end; cheaper than `wait`, and each upload has two such calls."""
    try:
        call.exception(LOOK_EVERY)
    except TimeoutError:
        return False
    return True
