"""The note names the closing code and its line, for each way of closing."""

import asyncio
import contextlib
import functools
import gc
import io
import pickle
import re
import sys
import tempfile
import threading
import warnings
from importlib import import_module
from inspect import getsourcelines, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from boto3.s3.transfer import TransferConfig
from unit.explain.apps import (
    FRAMEWORKS,
    NEEDS_QUART,
    REQUEST_CONTEXT,
    SIZES,
    closed_by_the_end,
    make_app,
    notes,
    post,
    request_context,
)
from unit.explain.conftest import Store
from werkzeug.datastructures import FileStorage

from filehandoff.explain import close_record, explain_closed_files, explanation
from filehandoff.explain.closing import RequestRecord
from filehandoff.explain.files import explained
from filehandoff.explain.upload import UploadedFile

HERE = re.escape(__file__)


def note_of(framework: str, view: Any, size: int = 100, **options: Any) -> str:
    """Return the note on the view's error, or on a read after the request."""
    kept: list[FileStorage] = []

    def keep(file: FileStorage) -> Any:
        kept.append(file)
        return view(file)

    def post_and_read() -> None:
        post(make_app(framework, keep, **options), bytes(size))
        kept[0].read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post_and_read()
    [note] = notes(caught.value)
    return note


def line_of(note: str) -> str:
    """Return the note's form of a line in this module."""
    [number] = set(re.findall(rf"{HERE}:(\d+) in ", note))
    with open(__file__, encoding="utf-8") as lines:  # noqa: PTH123 - this module
        return lines.readlines()[int(number) - 1].strip()


def tag_upload(params: dict[str, Any], **_event: object) -> None:
    """Do nothing, as an app's hook."""
    params["Metadata"] = {"name": flask.request.path}


@pytest.mark.parametrize("size", SIZES)
def test_a_copied_boto_hook_is_named_with_its_event(s3: Store, size: str) -> None:
    """For pallets/flask#5399 the note has function, place, event, thread, fix and section."""

    def view(file: FileStorage) -> None:
        client = s3.client()
        hook = flask.copy_current_request_context(tag_upload)
        client.meta.events.register("before-parameter-build.s3.PutObject", hook)
        client.put_object(Bucket="bucket", Key="k", Body=file.stream)

    note = note_of("flask", view, SIZES[size])
    assert "by the pop of a copied request context: tag_upload" in note
    assert f"tag_upload ({__file__}:{tag_upload.__code__.co_firstlineno})" in note
    assert "boto's event 'before-parameter-build.s3.PutObject'" in note
    assert "in thread 'MainThread'" in note
    assert re.search(r"\d+\.\d ms after the view began", note)
    assert "the hook 'bound'" in note
    assert note.endswith("run `python -m filehandoff.explain copied-context`.")


def test_a_copied_hook_in_a_transfer_worker_is_named(s3: Store) -> None:
    """A copied hook in a worker thread is named by its context's pop."""

    def view(file: FileStorage) -> None:
        client = s3.client()
        hook = flask.copy_current_request_context(tag_upload)
        client.meta.events.register("before-parameter-build.s3.PutObject", hook)
        client.upload_fileobj(file, "bucket", "k")

    note = note_of("flask", view)
    assert "by the pop of a copied request context: tag_upload" in note
    assert re.search(r"in thread 'ThreadPoolExecutor-\d+_\d'", note)


def test_a_copied_context_in_a_thread_of_the_apps_is_named_without_an_event() -> None:
    """Without boto, a thread that pops a copied context is named, without an event."""

    def work() -> None:
        pass

    def view(file: FileStorage) -> None:
        thread = threading.Thread(target=flask.copy_current_request_context(work), name="the-apps-own")
        thread.start()
        thread.join()
        file.read()

    note = note_of("flask", view)
    assert "by the pop of a copied request context: " in note
    assert f"<locals>.work ({__file__}:{work.__code__.co_firstlineno})" in note
    assert "boto's event" not in note
    assert "in thread 'the-apps-own'" in note


@NEEDS_QUART
@pytest.mark.parametrize("awaited", [True, False], ids=["async hook", "plain hook"])
def test_a_copied_context_in_quart_is_named_with_its_task(awaited: bool) -> None:  # noqa: FBT001 - parametrised
    """In Quart, the note names the task of the pop beside its thread."""

    async def async_work() -> None:
        pass

    def plain_work() -> None:
        pass

    work = async_work if awaited else plain_work

    async def view(file: FileStorage) -> None:
        copied: Any = import_module("quart").copy_current_request_context(work)
        await asyncio.create_task(copied(), name="the-apps-own")
        file.read()

    note = note_of("quart", view)
    assert f"{work.__qualname__} ({__file__}:{work.__code__.co_firstlineno})" in note
    assert "in task 'the-apps-own' of thread 'MainThread'" in note


#: The end of the first sentence about a copied context, on Flask 3.2.
ALSO = (
    "(pallets/flask#5399); in this version of the framework the copy also begins with an empty `g`, and leaving it "
    "runs the functions of teardown_appcontext. That was in "
)


def test_the_further_effects_of_a_copied_context_are_named() -> None:
    """The note names the empty `g` and the teardown of a copy in the versions of the framework that have them."""
    app, seen = make_app("flask", lambda _file: None), dict[str, Any]()
    app.teardown_appcontext(lambda _error: seen.setdefault("torn down", True))

    @app.post("/copied")  # type: ignore[untyped-decorator] # the app is Any
    def copied() -> None:
        file = flask.request.files["photo"]
        flask.g.user = "ada"
        flask.copy_current_request_context(lambda: seen.setdefault("empty", "user" not in flask.g))()
        seen["both"] = seen["empty"] and "torn down" in seen
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        app.test_client().post("/copied", data={"photo": (io.BytesIO(b"x"), "n")})
    assert seen["both"] == (REQUEST_CONTEXT == "app_ctx")
    assert (ALSO in notes(caught.value)[0]) == seen["both"]


class CallableHook:
    """An object that serves as a hook."""

    def __call__(self) -> None:
        """Run the hook."""

    def method(self) -> None:
        """Serve as a hook."""


class Heir(CallableHook):
    """An object whose class inherits `__call__`."""


class Job:
    """A class that serves as a hook."""


def decorated() -> None:
    """Serve as a decorated hook."""


@functools.wraps(decorated)
def decorator() -> None:
    """Wrap the hook."""


@pytest.mark.parametrize(
    ("work", "name", "code"),
    [
        pytest.param(functools.partial(decorated), "decorated", decorated.__code__, id="partial"),
        pytest.param(decorator, "decorated", decorated.__code__, id="decorated"),
        pytest.param(CallableHook(), "CallableHook.__call__", CallableHook.__call__.__code__, id="callable object"),
        pytest.param(Heir(), "CallableHook.__call__", CallableHook.__call__.__code__, id="inherited"),
        pytest.param(Job, "Job", SimpleNamespace(co_firstlineno=getsourcelines(Job)[1]), id="class"),
        pytest.param(CallableHook().method, "CallableHook.method", CallableHook.method.__code__, id="bound method"),
    ],
)
def test_a_wrapped_hook_is_named_by_its_inner_function(work: Any, name: str, code: Any) -> None:
    """A wrapped hook is named by the function that finally runs."""

    def view(file: FileStorage) -> None:
        flask.copy_current_request_context(work)()
        file.read()

    assert f"{name} ({__file__}:{code.co_firstlineno}) is wrapped in" in note_of("flask", view)


class Shy:
    """A callable that forbids inspection."""

    def __call__(self) -> None:
        """Run the hook."""

    def __getattr__(self, name: str) -> Any:
        raise (RuntimeError if name == "__wrapped__" else AttributeError)(name)


@pytest.mark.parametrize("work", [dict, functools.partial(len, ()), Shy()], ids=["type", "builtin", "shy"])
def test_a_builtin_hook_has_no_place(work: Any) -> None:
    """A builtin function is named without a line."""

    def view(file: FileStorage) -> None:
        flask.copy_current_request_context(work)()
        file.read()

    assert "context: a function is wrapped in copy_current_request_context" in note_of("flask", view)


@pytest.mark.parametrize("threads", [True, False], ids=["in a worker thread", "in the view's thread"])
@pytest.mark.parametrize("size", SIZES)
def test_the_transfer_manager_is_named(s3: Store, size: str, threads: bool) -> None:  # noqa: FBT001 - parametrised
    """The transfer manager's call is named (boto/s3transfer#80)."""

    def view(file: FileStorage) -> None:
        s3.client().upload_fileobj(file, "bucket", "k", Config=TransferConfig(use_threads=threads))
        file.seek(0)

    note = note_of("flask", view, SIZES[size])
    assert "by boto3's S3 transfer manager (s3transfer.upload:close" in note
    assert "a new BytesIO" in note
    assert note.endswith("run `python -m filehandoff.explain transfer-closes`.")
    if not threads:
        assert line_of(note).startswith("s3.client().upload_fileobj(")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_end_of_the_request_is_named(framework: str) -> None:
    """The end of the request is named by the framework's call that popped the context."""
    file = closed_by_the_end(framework, 100)
    with pytest.raises(ValueError, match="closed file") as caught:
        file.read()
    [note] = notes(caught.value)
    call = {"flask": "flask.app:wsgi_app", "quart": "quart.app:handle_request"}[framework]
    assert f"by the end of the request: its context was popped ({call})" in note
    assert "'read_early'" in note
    assert note.endswith("run `python -m filehandoff.explain after-response`.")


def test_a_file_of_a_streamed_response_is_closed_by_the_end() -> None:
    """A file that a streamed response reads is closed by the end of the request."""
    app = make_app("flask", lambda _file: None)
    kept: list[FileStorage] = []

    def view() -> Any:
        kept.append(flask.request.files["photo"])
        return flask.Response(flask.stream_with_context(iter(["a", "b"])))

    app.add_url_rule("/streamed", view_func=view, methods=["POST"])
    app.test_client().post("/streamed", data={"photo": (io.BytesIO(b"x"), "n")}).get_data()
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    # Flask 2.2 and 3.2 leave the generator's context last; the versions between pop the request's last
    assert re.search("by the end of the (request|generator in stream_with_context): ", notes(caught.value)[0])


def close(file: FileStorage) -> None:
    """Close the file by name."""
    file.close()  # on a line of its own


def leave(file: FileStorage) -> None:
    """Close the file by a `with` block."""
    with file.stream:
        pass


@pytest.mark.parametrize(
    ("function", "line"),
    [
        pytest.param(close, "file.close()  # on a line of its own", id="close"),
        pytest.param(leave, "with file.stream:", id="with"),
    ],
)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_apps_own_close_is_named_by_its_line(framework: str, size: str, function: Any, line: str) -> None:
    """The note has the file, line, text and function of the app's close."""
    note = note_of(framework, function, SIZES[size])
    assert line_of(note) == line
    assert f"in {function.__name__} (`{line}`)" in note
    assert "TextIOWrapper" not in note
    assert note.endswith("run `python -m filehandoff.explain own-close`.")


@pytest.mark.parametrize("size", SIZES)
def test_a_collected_text_wrapper_is_named(size: str) -> None:
    """A collected TextIOWrapper is named, with `detach` as the fix."""

    def view(file: FileStorage) -> None:
        first = io.TextIOWrapper(file.stream).read(1)
        assert first == "\0"

    note = note_of("flask", view, SIZES[size])
    assert line_of(note) == "first = io.TextIOWrapper(file.stream).read(1)"
    assert "by a TextIOWrapper or another wrapper, which closes its file when Python collects it" in note
    assert "call detach() on the wrapper" in note


@pytest.mark.parametrize("size", SIZES)
def test_an_open_file_is_closed_when_it_is_collected(size: str) -> None:
    """An explained file without a close has its file closed by its collection, as a plain one has."""
    stream: Any = tempfile.SpooledTemporaryFile(SIZES["in memory"])  # noqa: SIM115 - its collection closes it
    stream.write(bytes(SIZES[size]))
    inner = stream._file  # noqa: SLF001 - only the file below shows that it was closed
    stream = explained(stream, UploadedFile("photo", "a.jpg", RequestRecord()))
    assert not inner.closed
    with warnings.catch_warnings(action="ignore"):  # a file on disk warns about the missing close
        del stream
        gc.collect()
    assert inner.closed


def test_a_library_that_closes_is_named_with_the_apps_line() -> None:
    """A library that closes the app's file is named with the app's line."""

    def view(file: FileStorage) -> Any:
        return flask.send_file(file.stream, mimetype="text/plain").close()

    note = note_of("flask", view)
    assert "by werkzeug" in note
    assert "called by the app's own code at" in note
    assert line_of(note).startswith("return flask.send_file(")


def test_a_context_that_the_app_copied_itself_is_named_by_its_line() -> None:
    """`with ctx.copy()` closes the files like copy_current_request_context, and the note names its line."""

    def view(file: FileStorage) -> None:
        with request_context().copy():
            pass
        file.read()

    note = note_of("flask", view)
    assert "which left a context of the request" in note
    assert line_of(note) == "with request_context().copy():"


def test_a_request_that_the_app_closes_is_named_by_its_line() -> None:
    """`request.close()` is named by its line."""

    def view(file: FileStorage) -> None:
        flask.request.close()
        file.read()

    assert line_of(note_of("flask", view)) == "flask.request.close()"


def with_request(_file: FileStorage) -> None:
    """Close the request by `with`, as Werkzeug's maintainers advise (pallets/werkzeug#1621)."""
    with flask.request:
        pass


def closing_request(_file: FileStorage) -> None:
    """Close the request by contextlib.closing."""
    with contextlib.closing(flask.request):
        pass


def on_a_stack(_file: FileStorage) -> None:
    """Close the request by an ExitStack."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(flask.request)


@pytest.mark.parametrize(
    ("view", "line"),
    [
        pytest.param(with_request, "with flask.request:", id="with"),
        pytest.param(closing_request, "with contextlib.closing(flask.request):", id="closing"),
        pytest.param(on_a_stack, "with contextlib.ExitStack() as stack:", id="ExitStack"),
    ],
)
def test_a_with_block_of_the_request_is_the_apps_own_code(view: Any, line: str) -> None:
    """A `with` block around the request in the view is no request's end."""
    note = note_of("flask", view)
    assert line_of(note) == line
    assert "which closed the request" in note
    assert "end of the request" not in note
    assert note.endswith("run `python -m filehandoff.explain own-close`.")


class TrioLike(flask.Flask):
    """A subclass of an app with its own method for a request, like QuartTrio."""

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        """Handle a request, and pop its context by `with`."""
        with self.request_context(environ) as context:
            arguments = signature(self.full_dispatch_request).parameters  # Flask 3.2 takes the context
            return self.full_dispatch_request(*([context] if arguments else []))(environ, start_response)


def test_the_end_of_a_request_is_that_of_any_kind_of_app() -> None:
    """The end of a request is recognised in every subclass of the framework's app."""
    app, kept = TrioLike(__name__), list[FileStorage]()
    explain_closed_files(app)

    @app.post("/")
    def view() -> str:
        kept.append(flask.request.files["photo"])
        return ""

    post(app, b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert f"by the end of the request: its context was popped ({__name__}:wsgi_app)" in notes(caught.value)[0]


def test_a_view_by_the_name_of_an_apps_method_is_a_view() -> None:
    """A view with the name of an app's method is the app's own code."""

    def wsgi_app(_file: FileStorage) -> None:
        with flask.request:
            pass

    assert line_of(note_of("flask", wsgi_app)) == "with flask.request:"


def test_a_task_of_trios_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Trio is imported, the note names its task."""

    def close_there(file: FileStorage) -> None:
        task = SimpleNamespace(name="a task of Trio's")
        lowlevel = SimpleNamespace(in_trio_task=lambda: True, current_task=lambda: task)
        with monkeypatch.context() as imported:
            imported.setitem(sys.modules, "trio", SimpleNamespace(lowlevel=lowlevel))
            file.close()

    assert "That was in task 'a task of Trio's' of thread 'MainThread'" in note_of("flask", close_there)


@NEEDS_QUART
def test_the_end_of_the_request_is_named_on_trio() -> None:
    """QuartTrio is explained like Quart, and its tasks are Trio's (heavy: nox installs it)."""
    quart_trio = pytest.importorskip("quart_trio", reason="heavy: nox installs it")
    trio = pytest.importorskip("trio")
    quart: Any = import_module("quart")
    app, kept = quart_trio.QuartTrio(__name__), list[FileStorage]()
    explain_closed_files(app)

    @app.post("/")  # type: ignore[untyped-decorator] # Quart's
    async def view() -> str:
        kept.append((await quart.request.files)["photo"])
        return ""

    async def send() -> None:
        await app.test_client().post("/", files={"photo": FileStorage(io.BytesIO(b"x"), "hello.txt")})

    trio.run(send)
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    [note] = notes(caught.value)
    assert "by the end of the request: its context was popped (quart_trio.app:handle_request)" in note
    assert "That was in task '" in note


def test_the_first_close_is_named() -> None:
    """The note names the first of two closes."""

    def view(file: FileStorage) -> None:
        file.close()
        with file.stream._file:  # type: ignore[attr-defined] # noqa: SLF001 - the inner file
            pass

    assert line_of(note_of("flask", view)) == "file.close()"


def test_a_close_under_the_file_has_no_name() -> None:
    """A close under the file has a note that cannot name it."""

    class Request(flask.Request):
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            self.opened = io.BytesIO()
            return self.opened

    note = note_of("flask", lambda _file: flask.request.opened.close(), request_class=Request)  # type: ignore[attr-defined]
    assert "was closed by code that bypassed the upload" in note


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("view", [FileStorage.close, lambda _file: None], ids=["view", "end of the request"])
def test_a_close_goes_on_if_it_cannot_be_recorded(framework: str, view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's objects in the frames may raise anything; then the note says that the close was not seen."""

    def fail(*_args: object, **_more: object) -> None:
        raise RuntimeError("an object of the app")

    monkeypatch.setattr(RequestRecord, "observe", fail)
    assert "was closed by code that bypassed the upload" in note_of(framework, view)


def test_a_file_that_is_closed_before_the_view_counts_from_the_request() -> None:
    """A close in before_request counts from the request, since no view has begun."""
    app = make_app("flask", lambda file: file.read())
    app.before_request(lambda: close(flask.request.files["photo"]))
    with pytest.raises(ValueError, match="closed file") as caught:
        post(app, b"x")
    assert re.search(r"\d+\.\d ms after the request began", notes(caught.value)[0])


def test_the_view_begins_when_it_is_called() -> None:
    """The time of before_request does not count as the view's."""
    app = make_app("flask", close)
    waited = threading.Event()
    kept: list[FileStorage] = []

    def authenticate() -> None:
        kept.append(flask.request.files["photo"])
        waited.wait(1.5)  # long enough that the view's own time is shorter, even on a slow machine

    app.before_request(authenticate)
    post(app, b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    [milliseconds] = re.findall(r"(\d+\.\d) ms after the view began", notes(caught.value)[0])
    assert float(milliseconds) < 1500


def test_a_closed_file_keeps_nothing_of_its_closers_alive() -> None:
    """A recorded close keeps no frame: the closing function's variables are freed when it returns."""
    freed = threading.Event()

    class Held:
        def __del__(self) -> None:
            freed.set()

    kept: list[FileStorage] = []

    def view(file: FileStorage) -> None:
        kept.append(file)
        held = Held()
        file.close()
        assert held

    post(make_app("flask", view), b"x")
    assert freed.is_set()
    with pytest.raises(ValueError, match="closed file"):
        kept[0].read()


def test_the_explanation_is_found_behind_other_errors() -> None:
    """The note is found by cause, context and group, without folders."""
    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100).read()
    error = caught.value
    [note] = notes(error)
    note = note.replace(f"{Path(__file__).parents[3]}/", "")
    assert note.endswith("run `python -m filehandoff.explain after-response`.")
    assert explanation(error) == note
    wrapped = RuntimeError("boto's own")
    wrapped.__context__ = error
    grouped = ExceptionGroup("tasks", [KeyError(), wrapped])
    outer = OSError()
    outer.__cause__ = grouped
    outer.__context__ = outer  # a circle, which Python itself never makes
    assert explanation(outer) == note
    assert explanation(KeyError()) is None


def test_the_close_is_a_value_as_well() -> None:
    """The record behind an error has the words of its explanation, and the text of the closed file's own error."""
    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100).read()
    wrapped = RuntimeError("boto's own")
    wrapped.__cause__ = caught.value
    record = close_record(wrapped)
    assert record is not None
    assert explanation(wrapped) == (
        f"The upload 'hello.txt' of the form field 'photo' was closed by {record.closed_by}. "
        f"That was in {record.where}, {record.when}. "
        f"To fix it, {record.use_instead}. To read more, run `python -m filehandoff.explain {record.page}`."
    )
    assert record.error == "ValueError: I/O operation on closed file."
    assert close_record(pickle.loads(pickle.dumps(caught.value))) == record  # noqa: S301 - our own
    assert close_record(KeyError()) is None


def test_the_moments_lead_from_the_request_to_the_error() -> None:
    """The record has the request's arrival, the view, the context, the close and the failed read, in order."""
    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100).read()
    record = close_record(caught.value)
    assert record is not None
    moments = {one.name: one.place for one in record.moments}
    assert list(moments) == ["request arrived", "view began", "context left", "file closed", "read failed"]
    assert [one.at for one in record.moments] == sorted(one.at for one in record.moments)
    assert re.fullmatch(r"flask/ctx\.py:\d+ in RequestContext\.\w+", moments["context left"] or "")
    assert moments["file closed"] is not None
    own = r"unit/explain/test_closing\.py:\d+ in test_the_moments_lead_from_the_request_to_the_error"
    assert re.fullmatch(own, moments["read failed"] or "")


def test_an_unseen_close_has_no_place_in_its_record() -> None:
    """The record of a file closed under the upload names no thread and no time."""
    kept: list[FileStorage] = []

    def view(file: FileStorage) -> None:
        kept.append(file)
        file.stream._file._handoff_inner.close()  # type: ignore[attr-defined] # noqa: SLF001 - under the upload

    post(make_app("flask", view), b"x")
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    record = close_record(caught.value)
    assert record is not None
    assert (record.where, record.when) == (None, None)
    assert [one.name for one in record.moments] == ["read failed"]
    assert record.closed_by.startswith("code that bypassed the upload")


def test_the_explanation_is_not_that_of_an_error_before() -> None:
    """Another file's error, raised while an upload's error is handled, has no explanation."""
    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100).read()
    other = ValueError("I/O operation on closed file.")
    other.__context__ = caught.value
    assert explanation(other) is None
    other.__cause__ = caught.value
    assert explanation(other) is not None


def test_the_explanation_leaves_out_folders() -> None:
    """A path is shortened to its part below sys.path, or to the file's name."""
    error = ValueError()
    error.add_note("another author's note")
    error.add_note(
        f"The upload 'a' was closed at {threading.__file__}:12 in x (`open('/etc/x.py')`) and /no/where/b.py:1"
        " (pallets/flask#5399)."
    )
    assert explanation(error) == (
        "The upload 'a' was closed at threading.py:12 in x (`open('x.py')`) and b.py:1 (pallets/flask#5399)."
    )


def test_a_long_name_is_cut() -> None:
    """A long filename, which the client chooses, is cut."""

    def read_closed(file: FileStorage) -> None:
        file.close()
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", read_closed), b"x", "x" * 5000)
    assert f"The upload '{'x' * 200}…' of the form field 'photo' was" in notes(caught.value)[0]
