"""The note names the right closer among similar ones: libraries, wrappers, threads, subclasses."""

import _thread
import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import flask
import pytest
from unit.explain.apps import FRAMEWORKS, NEEDS_QUART, closed_by_the_end, make_app, notes, post, request_context
from werkzeug.datastructures import FileStorage

from filehandoff.typing_backports import override

LIBRARY = """
import asyncio
import io


def in_a_copy(context, function):
    with context.copy():
        function()


def close(file):
    file.close()


def close_after(file, wait):
    wait()
    file.close()


async def close_in_a_task(file):
    for _ in range(10):
        await asyncio.sleep(0)
    file.close()


def close_after_requests(app, files):
    @app.after_request
    def close_all(response):
        for file in files:
            file.close()
        return response


def read_text(file):
    return io.TextIOWrapper(file.stream).read()
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module of an installed package, with a function that closes its argument."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "somebodys_library.py").write_text(LIBRARY, "utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(import_module("sys").modules, "somebodys_library", raising=False)
    return import_module("somebodys_library")


def closed_by(view: Callable[[FileStorage], Any], framework: str = "flask", **options: Any) -> str:
    """Return the note's text about the closer, for a view."""
    kept: list[FileStorage] = []

    def keep(file: FileStorage) -> Any:
        kept.append(file)
        return view(file)

    def post_and_read() -> None:
        post(make_app(framework, keep, **options), b"a,b\n")
        kept[0].read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post_and_read()
    [note] = notes(caught.value)
    return note.partition(" was closed by ")[2].partition(". That was in ")[0]


def in_a_pool(function: Callable[..., Any], *args: Any) -> None:
    """Run a function in a thread of a pool."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, *args).result()


def read_text(file: FileStorage) -> str:
    """Read a file as text by a wrapper, and drop the wrapper."""
    text = io.TextIOWrapper(file.stream)
    return text.read()


def wait_for_close(file: FileStorage) -> None:
    """Wait until another thread has closed a file."""
    for _ in range(1000):
        if not file.stream.closed:
            threading.Event().wait(0.01)


UNSEEN = ", in a thread or task of its own; the code that handed the close over is unknown"
WRAPPER = "a TextIOWrapper or another wrapper, which closes its file when Python collects it, here in "


def test_a_wrapper_dropped_by_a_pools_job_is_named() -> None:
    """A wrapper that a pool's job has dropped is named."""
    assert closed_by(lambda file: in_a_pool(read_text, file)).startswith(f"{WRAPPER}concurrent.futures.thread:run (")


def test_a_dropped_wrapper_around_the_storage_is_named() -> None:
    """A dropped wrapper around a FileStorage is named, since FileStorage passes its calls on."""

    def view(file: FileStorage) -> None:
        io.BufferedReader(file)

    assert closed_by(view).startswith(f"{WRAPPER}the app's own code at {__file__}:")


@pytest.mark.parametrize("of_its_own", [io.BytesIO, type("Own", (io.BytesIO,), {})], ids=["BytesIO", "of its own"])
def test_a_dropped_wrapper_around_another_stream_is_named(of_its_own: Any) -> None:
    """A dropped wrapper around a stream of the app's own class is named."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            return of_its_own()

    assert closed_by(read_text, request_class=Own).startswith(f"{WRAPPER}the app's own code at {__file__}:")


def by_another_name(file: FileStorage) -> None:
    """Close a file without the word `close`."""
    finish = file.close
    finish()


def in_a_long_with(file: FileStorage) -> None:
    """Close a file by a `with` statement of several lines."""
    with (
        file.stream as stream,
    ):
        assert stream.read() == b"a,b\n"


@pytest.mark.parametrize("close", [by_another_name, in_a_long_with])
def test_a_wrapper_that_was_detached_closes_nothing(close: Callable[[FileStorage], None]) -> None:
    """After a wrapper is detached, the note names the app's own close, in any notation."""

    def view(file: FileStorage) -> None:
        io.TextIOWrapper(file.stream).detach()
        close(file)

    closer = closed_by(view)
    assert closer.startswith(f"the app's own code at {__file__}:")
    assert f" in {close.__name__} (" in closer


@NEEDS_QUART
def test_the_function_that_copies_a_context_is_named_as_it_is_called() -> None:
    """The note names the function that copied the context."""
    quart: Any = import_module("quart")
    if not hasattr(import_module("quart.ctx").AppContext, "request"):
        pytest.skip("in this Quart an app's context has no request")

    async def work() -> None:
        pass

    async def view(file: FileStorage) -> None:
        await quart.copy_current_app_context(work)()
        assert file.stream.closed

    assert " is wrapped in copy_current_app_context, and when it returned, " in closed_by(view, "quart")


@NEEDS_QUART
def test_a_stream_with_context_iterator_may_end_in_the_view() -> None:
    """A stream_with_context iterator that ends in the view is no request's end."""
    quart: Any = import_module("quart")

    async def lines() -> Any:
        yield "a"

    async def view(_file: FileStorage) -> None:
        assert [line async for line in quart.stream_with_context(lines)()] == ["a"]

    said = closed_by(view, "quart")
    assert said.startswith("the end of the generator in stream_with_context: its context was left (quart.helpers:")


def test_a_library_that_copies_a_context_is_named_with_the_apps_line(library: Any) -> None:
    """A library that copies a context is named, with the app's line that called it."""
    said = closed_by(lambda _file: library.in_a_copy(request_context(), lambda: None))
    assert said.startswith(f"somebodys_library:in_a_copy, called by the app's own code at {__file__}:")
    assert "which left a context of the request" in said


def test_a_library_that_the_framework_calls_is_named_with_its_line(library: Any) -> None:
    """An extension that closes the file after the view is named."""
    kept: list[FileStorage] = []
    app = make_app("flask", kept.append)
    library.close_after_requests(app, kept)
    post(app, b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert f" was closed by somebodys_library:close_all ({library.__file__}:" in notes(caught.value)[0]
    assert "handed the close over" not in notes(caught.value)[0]


def test_a_library_whose_wrapper_was_collected_is_named(library: Any) -> None:
    """A library's collected wrapper is named, with the app's line."""
    said = closed_by(library.read_text)
    assert said.startswith(f"{WRAPPER}somebodys_library:read_text, called by the app's own code at {__file__}:")


def test_a_close_that_no_python_code_called_is_the_interpreters() -> None:
    """A close by a thread of only C code has an unknown origin."""

    def view(file: FileStorage) -> None:
        inner: Any = file.stream._file  # type: ignore[attr-defined] # noqa: SLF001 - people do
        _thread.start_new_thread(type(inner).close, (inner,))
        wait_for_close(file)

    assert closed_by(view) == f"the interpreter{UNSEEN}"


def test_a_close_in_a_copied_context_is_the_apps() -> None:
    """A close inside a copied context is the app's own."""

    def view(_file: FileStorage) -> None:
        def work() -> None:
            flask.request.close()

        flask.copy_current_request_context(work)()

    assert f"the app's own code at {__file__}:" in closed_by(view)


def of_a_subclass(framework: str, close: Callable[[Any, Any], Any]) -> str:
    """Return the note of an app whose request class has this `close`."""
    kept: list[FileStorage] = []
    app = make_app(framework, kept.append)
    explained = app.request_class

    class Later(explained):  # type: ignore[misc,valid-type] # known at run time only
        def close(self) -> Any:
            return close(self, explained)

    app.request_class = Later
    post(app, b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    return notes(caught.value)[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_subclass_of_the_explained_class_closes_as_that_does(framework: str) -> None:
    """A later subclass whose `close` calls the explained one is not named as the closer."""

    def close(self: Any, base: Any) -> Any:
        return base.close(self)

    assert "by the end of the request: its context was popped" in of_a_subclass(framework, close)


def test_a_close_that_passes_us_by_is_recognised() -> None:
    """A subclass that calls the framework's own `close` is recognised by the calls."""

    def close(self: Any, _base: Any) -> None:
        flask.Request.close(self)

    # The app can change only the subclass's call of the framework's close, so the note names that call.
    assert f"the app's own code at {__file__}:" in of_a_subclass("flask", close)


def test_a_request_class_without_our_close_is_recognised() -> None:
    """The framework's own close under a popped context is the end of the request."""
    kept: list[FileStorage] = []
    app = make_app("flask", kept.append)
    app.request_class = type("Later", (app.request_class,), {"close": flask.Request.close})
    post(app, b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert "by the end of the request: its context was popped (flask.app:wsgi_app)" in notes(caught.value)[0]


def test_contexts_that_are_left_at_once_close_as_one_would() -> None:
    """If two threads close a request at once, each note names a pop."""
    began, over = threading.Event(), threading.Event()

    class Own(flask.Request):
        @override
        def close(self) -> None:
            if threading.current_thread().name == "the-first":
                began.set()
                over.wait(10)
                super().close()

    def view(_file: FileStorage) -> None:
        first, second = (
            threading.Thread(target=flask.copy_current_request_context(lambda: None), name=name)
            for name in ("the-first", "the-second")
        )
        first.start()
        began.wait(10)
        second.start()
        second.join()
        over.set()
        first.join()

    assert closed_by(view, request_class=Own).startswith("the pop of a copied request context: ")


def test_of_two_closes_at_once_the_first_is_named() -> None:
    """If two threads close an open file at once, the note names the first."""
    file = closed_by_the_end("flask", 100)
    upload = file.stream._file._handoff_upload  # type: ignore[attr-defined] # noqa: SLF001 - as the other thread's would
    before = upload.closing
    upload.observe_close()
    assert upload.closing is before


@NEEDS_QUART
def test_a_collected_wrapper_in_to_thread_is_named() -> None:
    """A wrapper collected in asyncio.to_thread, where async views parse tables, is named."""

    async def view(file: FileStorage) -> None:
        await asyncio.to_thread(read_text, file)

    assert closed_by(view, "quart").startswith(f"{WRAPPER}concurrent.futures.thread:run (")
