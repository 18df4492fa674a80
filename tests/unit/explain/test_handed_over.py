"""For a close in another thread or task, the note names its origin."""

import _thread
import asyncio
import contextlib
import functools
import io
import re
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import flask
import pytest
from unit.explain.apps import NEEDS_QUART, make_app, post
from unit.explain.test_closers import closed_by, wait_for_close
from werkzeug.datastructures import FileStorage

HANDED = "), which handed the close to another thread or task"


def by_a_pool(_file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close in a pool, and drop the future."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(close)


def by_a_thread(_file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close in a thread."""
    thread = threading.Thread(target=close)
    thread.start()
    thread.join()


def by_a_timer(_file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close after a moment."""
    timer = threading.Timer(0.001, close)
    timer.start()
    timer.join()


def by_a_new_thread(file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close in a thread without any Python code around it."""
    _thread.start_new_thread(close, ())
    wait_for_close(file)


def by_a_partial(file: FileStorage, close: Callable[[], Any]) -> None:
    """Run a partial of the close in a pool."""
    by_a_pool(file, functools.partial(close))


def by_a_finalizer(file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close when another thread drops an object."""

    class Owner:
        pass

    owners = [Owner()]
    weakref.finalize(owners[0], close)
    by_a_thread(file, owners.clear)


def by_an_exit_stack(file: FileStorage, close: Callable[[], Any]) -> None:
    """Run the close as a callback of a stack that another thread unwinds."""
    stack = contextlib.ExitStack()
    stack.callback(close)
    by_a_thread(file, stack.close)


THREADS = (by_a_pool, by_a_thread, by_a_timer, by_a_new_thread, by_a_partial, by_a_finalizer, by_an_exit_stack)
#: Each way to read the `close` of an upload.
CLOSES: dict[str, Callable[[FileStorage], Callable[[], Any]]] = {
    "the storage's": lambda file: file.close,
    "the stream's": lambda file: file.stream.close,
    "that of the file below": lambda file: file.stream._file.close,  # type: ignore[attr-defined] # noqa: SLF001 - people do
    "the request's": lambda _file: flask.request.close,
}


@pytest.mark.parametrize("run", THREADS)
@pytest.mark.parametrize("close", CLOSES)
def test_the_line_that_took_the_close_for_a_thread_is_named(close: str, run: Any) -> None:
    """The note names the app's line that reads `file.close`, in whichever thread the close runs."""
    said = closed_by(lambda file: run(file, CLOSES[close](file)))
    assert said.startswith(f"the app's own code at {__file__}:")
    assert re.search(r"\(`.*\.close,.*`\), which handed the close to another thread or task", said)


async def to_thread(close: Callable[[], Any]) -> None:
    """Hand the close over by asyncio.to_thread."""
    await asyncio.to_thread(close)


async def in_executor(close: Callable[[], Any]) -> None:
    """Hand the close over to the loop's default executor."""
    await asyncio.get_running_loop().run_in_executor(None, close)


async def soon(close: Callable[[], Any]) -> None:
    """Hand the close over to the loop's next turn."""
    asyncio.get_running_loop().call_soon(close)
    await asyncio.sleep(0)


async def later(close: Callable[[], Any]) -> None:
    """Hand the close over to a later turn of the loop."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, lambda: over.set() if close() is None else None)
    await over.wait()


async def by_task(close: Callable[[], Any]) -> None:
    """Hand the close over to a task that passes it to a thread."""
    await asyncio.create_task(asyncio.to_thread(close))


async def by_callback(close: Callable[[], Any]) -> None:
    """Hand the close over as a task's done callback, by `functools.partial`."""
    over = asyncio.Event()
    asyncio.create_task(asyncio.sleep(0)).add_done_callback(functools.partial(_call, close, over))
    await over.wait()


def _call(close: Callable[[], Any], over: asyncio.Event, _task: Any) -> None:
    try:
        close()
    finally:
        over.set()


async def anyio_thread(close: Callable[[], Any]) -> None:
    """Hand the close over to a worker thread of anyio."""
    await pytest.importorskip("anyio").to_thread.run_sync(close)


async def asgiref_thread(close: Callable[[], Any]) -> None:
    """Hand the close over by asgiref's sync_to_async."""
    await pytest.importorskip("asgiref.sync").sync_to_async(close)()


@NEEDS_QUART
@pytest.mark.parametrize("run", [to_thread, in_executor, soon, by_task, anyio_thread, asgiref_thread])
def test_the_line_that_took_the_close_for_a_task_is_named(run: Callable[..., Any]) -> None:
    """The note names the line for closes by asyncio, anyio and asgiref."""

    async def view(file: FileStorage) -> None:
        await run(file.close)

    closer = closed_by(view, "quart")
    assert closer.startswith(f"the app's own code at {__file__}:")
    assert f"in {view.__qualname__} (`await run(file.close)`{HANDED}" in closer


@NEEDS_QUART
@pytest.mark.parametrize("run", [later, by_callback])
def test_the_apps_function_that_a_loop_calls_is_named(run: Callable[..., Any]) -> None:
    """A function of the app that a loop calls is named itself."""

    async def view(file: FileStorage) -> None:
        await run(file.close)

    closer = closed_by(view, "quart")
    assert closer.startswith(f"the app's own code at {__file__}:")
    assert HANDED not in closer


@NEEDS_QUART
def test_a_task_that_closes_the_request_is_named_by_the_line_that_made_it() -> None:
    """For `create_task(request.close())` the note names that line."""

    async def view(_file: FileStorage) -> None:
        quart: Any = import_module("quart")
        await asyncio.create_task(quart.request.close())

    said = closed_by(view, "quart")
    assert f"(`await asyncio.create_task(quart.request.close())`{HANDED}, which closed the request" in said


def test_a_close_that_its_taker_calls_is_not_handed_over() -> None:
    """Code that reads a `close` and calls it later is the closer."""

    def view(file: FileStorage) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(file.close)

    closer = closed_by(view)
    assert closer.startswith("contextlib:")
    assert HANDED not in closer


def test_the_close_that_was_called_is_the_one_that_is_named() -> None:
    """Of several lines that read a `close`, the note names the right one."""

    def view(file: FileStorage) -> None:
        called = file.close  # this one
        others = [file.close, file.stream.close]
        by_a_thread(file, called)
        assert others

    assert "(`called = file.close  # this one`)" in closed_by(view)


def test_a_close_is_the_method_that_it_was() -> None:
    """A read `close` has the owner, equality and weak references of a bound method."""

    def view(file: FileStorage) -> None:
        stream: Any = file.stream
        request: Any = flask.request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - documented, for all its underscore
        owners: list[Any] = [file, stream, stream._file, request]  # noqa: SLF001 - people do
        for owner in owners:
            assert owner.close.__self__ is owner
            assert owner.close == owner.close
            assert hash(owner.close) == hash(owner.close)
            assert owner.close != print
            assert owner.close.__name__
            assert callable(type(owner).close)
        weak = weakref.WeakMethod(file.close)
        assert weak() == file.close

    post(make_app("flask", view), b"x")


def test_a_close_of_a_file_without_its_request_works() -> None:
    """After the stream is replaced, the new one closes as usual."""
    closed: list[bool] = []

    def view(file: FileStorage) -> None:
        uploaded, file.stream = file.stream, io.BytesIO()
        close = file.close
        close()
        closed.append(file.stream.closed)
        uploaded.close()

    post(make_app("flask", view), b"x")
    assert closed == [True]
