"""Calls to S3 that a cancelled task still finishes, and tasks that no request waits for.

S3 would process such a call anyway, and the task could not undo its effect.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, TypeVar

from filehandoff.cancellation import stopped_for
from filehandoff.s3.cleanup import UNDO_SECONDS

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds between two checks of a cancelled task for the end of the process.
POLL_SECONDS = 0.2


async def finish_despite_cancel(
    work: Coroutine[Any, Any, T], abandon: Callable[[asyncio.Task[Any]], object] | None = None
) -> T:
    """Run `work` to its end, even if this task is cancelled; then raise the cancellation.

    `work` must be bounded in time, as calls to S3 are. A task may be cancelled twice: when its client disconnects, and
    when the process ends. At the end of the process, `abandon` gets the running work; without `abandon`, the work has
    `UNDO_SECONDS` left.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve_error)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done() and stopped_for() <= (0 if abandon else UNDO_SECONDS):
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task], timeout=POLL_SECONDS)
        if abandon is not None and not task.done():
            abandon(task)
        raise


async def result_in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run `work` and return its result; after `seconds`, cancel it without a wait for its end.

    Raises:
        TimeoutError: `work` has not ended.
        RuntimeError: `work` has cancelled itself.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve_error)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            raise TimeoutError(f"no result after {seconds} seconds")
    finally:
        task.cancel()
    if task.cancelled():
        raise RuntimeError("cancelled by its own code")
    return task.result()


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, for which neither the event loop's pool nor the process's end waits."""
    call: Future[T] = Future()
    threading.Thread(target=_run, args=(copy_context(), work, call), name="handler", daemon=True).start()
    return await asyncio.wrap_future(call)


def _run(context: Context, work: Callable[[], T], call: Future[T]) -> None:
    call.set_running_or_notify_cancel()  # from here on, a cancelled task does not cancel the future
    try:
        call.set_result(context.run(work))
    except StopIteration as error:
        call.set_exception(RuntimeError(repr(error)))  # asyncio's futures cannot raise StopIteration
    except BaseException as error:  # noqa: BLE001 - the future raises it in the waiting task
        call.set_exception(error)


async def finish_in_time(work: Coroutine[Any, Any, object]) -> bool:
    """Run `work` for `UNDO_SECONDS`, despite a cancellation; return whether it has ended."""
    return await finish_despite_cancel(_until_time_is_up(work))


async def _until_time_is_up(work: Coroutine[Any, Any, object]) -> bool:
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            await work
    except TimeoutError:
        return False
    return True


def run_in_background(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task that no code awaits; log the error that ends it.

    Its context is empty: a copy of a request's would keep the request in memory. The caller must keep the task.
    """
    task = asyncio.create_task(work, name=name, context=Context())
    task.add_done_callback(_log_error)
    return task


def _log_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the task '%s' has ended by an error", task.get_name(), exc_info=error)


def _retrieve_error(task: asyncio.Task[Any]) -> None:
    """Retrieve the task's error, or asyncio would report it; the waiting task raises it."""
    if not task.cancelled():
        task.exception()
