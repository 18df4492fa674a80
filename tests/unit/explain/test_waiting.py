"""For a close in another thread or task, the note names the waiting code."""

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller
from types import FrameType
from typing import Any

import pytest
from unit.explain import test_closers
from unit.explain.apps import NEEDS_QUART
from unit.explain.test_closers import UNSEEN, closed_by
from werkzeug.datastructures import FileStorage

from filehandoff.explain import waiting
from filehandoff.explain.closing import RequestRecord

library = test_closers.library  # a fixture


def join(close: Callable[[], Any]) -> None:
    """Wait for a thread."""
    thread = threading.Thread(target=close)
    thread.start()
    thread.join()


def result(close: Callable[[], Any]) -> None:
    """Wait for a job's result."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(close).result()


def mapped(close: Callable[[], Any]) -> None:
    """Wait for the results of a map."""
    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(lambda call: call(), [close])) == [None]


def the_end_of_a_pool(close: Callable[[], Any]) -> None:
    """Wait for the end of a pool's jobs."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(close)


def until_it_waits() -> None:
    """Block until the main thread waits for this one."""
    while not any(call.startswith(("join", "result")) for call in calls_of_the_main_thread()):
        pass


def calls_of_the_main_thread() -> list[str]:
    """Return the names of the main thread's innermost functions."""
    frame: FrameType | None = sys._current_frames()[threading.main_thread().ident or 0]  # noqa: SLF001 - documented
    names: list[str] = []
    while frame is not None and len(names) < 8:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("run", [join, result, the_end_of_a_pool])
def test_the_code_that_waits_for_a_thread_is_named(run: Callable[..., None], library: Any) -> None:
    """The note has the library's function, and the app's line that waits."""
    said = closed_by(lambda file: run(partial(library.close_after, file, until_it_waits)))
    assert said.startswith(f"somebodys_library:close_after ({library.__file__}:")
    assert f", in a thread or task that the app's own code at {__file__}:" in said
    assert f" in {run.__name__} (" in said
    assert said.endswith(" waits for")


async def to_thread(close: Callable[[], Any], _close: Callable[[], Any]) -> None:
    """Wait for asyncio.to_thread."""
    await asyncio.to_thread(close)


async def shielded(close: Callable[[], Any], _close: Callable[[], Any]) -> None:
    """Wait for a shield around it."""
    await asyncio.shield(asyncio.to_thread(close))


async def anyio_thread(close: Callable[[], Any], _close: Callable[[], Any]) -> None:
    """Wait for a worker thread of anyio."""
    await pytest.importorskip("anyio").to_thread.run_sync(close)


async def asgiref_thread(close: Callable[[], Any], _close: Callable[[], Any]) -> None:
    """Wait for asgiref's sync_to_async."""
    await pytest.importorskip("asgiref.sync").sync_to_async(close)()


async def task(_close: Callable[[], Any], close: Callable[[], Any]) -> None:
    """Wait for a task."""
    await asyncio.create_task(close())


async def group(_close: Callable[[], Any], close: Callable[[], Any]) -> None:
    """Wait for a group of tasks."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(close())


async def gathered(_close: Callable[[], Any], close: Callable[[], Any]) -> None:
    """Wait for several tasks at once."""
    await asyncio.gather(close(), asyncio.sleep(0))


async def waited(_close: Callable[[], Any], close: Callable[[], Any]) -> None:
    """Wait for a set of tasks."""
    await asyncio.wait([asyncio.create_task(close())])


async def task_of_a_task(_close: Callable[[], Any], close: Callable[[], Any]) -> None:
    """Wait for a task that awaits another task."""
    await asyncio.create_task(asyncio.wait_for(asyncio.create_task(close()), 10))


async def wait_some_turns(awaited: threading.Event) -> None:
    """Let the loop run until the view and its tasks wait."""
    for _ in range(10):
        await asyncio.sleep(0)
    awaited.set()


RUNS = (to_thread, shielded, anyio_thread, asgiref_thread, task, group, gathered, waited, task_of_a_task)


@NEEDS_QUART
@pytest.mark.parametrize("run", RUNS)
def test_the_code_that_awaits_a_thread_or_task_is_named(run: Callable[..., Any], library: Any) -> None:
    """The note has the app's line that awaits, through any tasks and futures in between."""

    async def view(file: FileStorage) -> None:
        awaited = threading.Event()
        turns = asyncio.create_task(wait_some_turns(awaited))
        await run(partial(library.close_after, file, awaited.wait), partial(library.close_in_a_task, file))
        await turns

    closer = closed_by(view, "quart")
    assert closer.startswith("somebodys_library:close_")
    assert f", in a thread or task that the app's own code at {__file__}:" in closer
    assert f" in {run.__name__} (" in closer


@NEEDS_QUART
def test_a_callback_of_the_loop_has_no_waiting_code() -> None:
    """The note on a loop's callback names no waiting code."""

    async def view(file: FileStorage) -> None:
        asyncio.get_running_loop().call_soon(methodcaller("close"), file.stream)
        await asyncio.sleep(0)

    assert closed_by(view, "quart").endswith(UNSEEN)


@NEEDS_QUART
def test_a_thread_that_a_loop_starts_right_now_has_no_waiting_code() -> None:
    """The line that runs the loop is no origin of a close."""

    async def view(file: FileStorage) -> None:
        started = waiting._stack  # noqa: SLF001 - the search alone
        assert started(asyncio_frame()) == ()
        file.close()

    assert closed_by(view, "quart").startswith("the app's own code")


def asyncio_frame() -> FrameType | None:
    """Return the loop's frame that runs this coroutine."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the frames of this task
    while frame is not None and not frame.f_globals["__name__"].startswith("asyncio"):
        frame = frame.f_back
    return frame


def test_a_circle_of_futures_ends() -> None:
    """A search through futures that call each other back ends."""

    class Circle:
        def add_done_callback(self, _callback: Any) -> None:
            """Accept a callback, like a future."""

        def called(self) -> None:
            """Do nothing, as a callback."""

        @property
        def _callbacks(self) -> list[Any]:
            return [self.called, (self.called, None), print]

    assert waiting._of_a_task([Circle()]) == ()  # noqa: SLF001 - the search alone


def test_threads_that_wait_for_something_else_are_not_named() -> None:
    """A thread that waits for another job is not named."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(over.wait)
        assert waiting._of_a_thread([object()]) == ()  # noqa: SLF001 - the search alone
        over.set()


def test_a_search_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the search is suppressed, since the app's own close must go on."""
    closing = RequestRecord().observe(None)
    monkeypatch.setattr(sys, "_current_frames", None)
    waiting.look_for_waiting_calls(closing, None)
    assert closing.waiting == ()
