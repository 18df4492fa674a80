"""A C wrapper's error about a closed file has the note, and no other error."""

import asyncio
import dis
import gc
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import flask
import pytest
from unit.explain.apps import FRAMEWORKS, SIZES, make_app, notes, post
from werkzeug.datastructures import FileStorage

from filehandoff.explain import explanation, raising
from filehandoff.typing_backports import override

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "TextIOWrapper": io.TextIOWrapper,
    "BufferedReader": io.BufferedReader,
    "TextIOWrapper of a BufferedReader": lambda file: io.TextIOWrapper(io.BufferedReader(file)),
}


#: A test of the reports of `sys.monitoring`, which Python 3.11 does not have.
MONITORING = pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="Python 3.11 has no sys.monitoring")
#: A test of the trace that replaces it there.
TRACE = pytest.mark.skipif(hasattr(sys, "monitoring"), reason="only Python 3.11 needs a trace")


def read_closed(file: FileStorage, wrapper: Callable[[Any], Any] = io.TextIOWrapper, *, of: Any = None) -> None:
    """Wrap a file, close it, and read from the wrapper."""
    wrapped = wrapper(of or file.stream)
    file.close()
    try:
        wrapped.read()
    finally:
        with suppress(ValueError):
            wrapped.detach()


def failed(view: Callable[[FileStorage], Any], framework: str = "flask", **options: Any) -> ValueError:
    """Return the error of a view that uses a closed file."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app(framework, view, **options), b"x")
    return caught.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_error_of_a_wrapper_is_explained_where_it_passes_the_app(wrapper: str, framework: str, size: str) -> None:
    """The app catches an upload wrapper's error with the note, another's without."""
    for explained in (True, False):
        app = make_app(framework, lambda file: read_closed(file, WRAPPERS[wrapper]), explained=explained)
        with pytest.raises(ValueError, match="closed file") as caught:
            post(app, bytes(SIZES[size]))
        assert len(notes(caught.value)) == explained
        assert all("(`file.close()`)" in note for note in notes(caught.value))


def test_an_error_of_a_wrapper_of_the_storage_is_explained() -> None:
    """A wrapper around the FileStorage has the note too."""
    [note] = notes(failed(lambda file: read_closed(file, of=file)))
    assert "'hello.txt' of the form field 'photo'" in note


def test_an_error_of_another_file_gets_no_note() -> None:
    """An error of another file after an upload's close gets no note."""

    def view(file: FileStorage) -> None:
        with suppress(ValueError):
            read_closed(file)
        with Path(__file__).open(encoding="utf-8") as other:
            pass
        other.read()

    assert notes(failed(view)) == []


def test_an_error_is_of_the_file_that_was_asked_last() -> None:
    """Two errors of one instruction each have their own upload's note."""
    app = make_app("flask", lambda _file: None)

    def view() -> None:
        first, second = flask.request.files["first"], flask.request.files["second"]
        with suppress(ValueError):
            read_closed(first)
        read_closed(second)

    app.add_url_rule("/two", view_func=view, methods=["POST"])
    files = {name: (io.BytesIO(b"x"), name) for name in ("first", "second")}
    with pytest.raises(ValueError, match="closed file") as caught:
        app.test_client().post("/two", data=files)
    [note] = notes(caught.value)
    assert note.startswith("The upload 'second' of")


def test_an_error_of_one_upload_is_not_explained_by_another() -> None:
    """The error of a second upload has one note, about the second upload."""
    app = make_app("flask", lambda _file: None)

    def view() -> None:
        first, second = flask.request.files["first"], flask.request.files["second"]
        io.TextIOWrapper(first.stream).close()
        second.close()
        second.read()

    app.add_url_rule("/two", view_func=view, methods=["POST"])
    files = {name: (io.BytesIO(b"x"), name) for name in ("first", "second")}
    with pytest.raises(ValueError, match="closed file") as caught:
        app.test_client().post("/two", data=files)
    [note] = notes(caught.value)
    assert note.startswith("The upload 'second' of")


def test_an_error_of_another_file_at_the_same_instruction_gets_no_note() -> None:
    """In a loop over wrappers, the error of another file gets no note."""
    errors: list[ValueError] = []

    def view(file: FileStorage) -> None:
        wrapped, other = io.TextIOWrapper(file.stream), io.StringIO()
        file.close()
        other.close()
        for one in (wrapped, other, wrapped, other):
            try:
                one.read()
            except ValueError as error:
                errors.append(error)
        with suppress(ValueError):
            wrapped.detach()
        raise errors[1]

    assert notes(failed(view)) == []
    assert [len(notes(error)) for error in errors] == [1, 0, 1, 0]


def test_the_collection_of_a_wrapper_explains_no_later_error() -> None:
    """The garbage collector runs within any call, and its reads of `closed` raise nothing."""

    def view(file: FileStorage) -> None:
        cycle: list[object] = [io.TextIOWrapper(file.stream)]
        cycle.append(cycle)
        file.close()
        other = io.StringIO()
        other.close()
        del cycle
        for call in (gc.collect, other.read):
            call()

    assert notes(failed(view)) == []


def test_a_read_of_closed_alone_explains_no_error() -> None:
    """Code that only reads `closed` adds no note to another file's error."""
    other = io.StringIO()
    other.close()

    def view(file: FileStorage) -> None:
        file.close()
        for ask in (lambda: file.stream.closed, lambda: getattr(file.stream, "closed"), other.read):  # noqa: B009 - by name
            ask()

    assert notes(failed(view)) == []


def ask_by_name(file: Any, name: str) -> Any:
    """Read any file's attribute by name, at one instruction."""
    return getattr(file, name)


class Failing:
    """An object whose attribute raises the error of a closed file."""

    @property
    def size(self) -> int:
        """Raise the error of a closed file."""
        raise ValueError("I/O operation on closed file.")


def test_an_error_of_another_instruction_gets_no_note() -> None:
    """An error in another function's line after a read of `closed` gets no note."""

    def view(file: FileStorage) -> None:
        file.close()
        assert ask_by_name(file.stream, "closed")
        ask_by_name(Failing(), "size")

    assert notes(failed(view)) == []


def test_an_error_that_a_view_keeps_is_explained() -> None:
    """An error that the view handles has the note too."""
    kept: list[ValueError] = []

    def view(file: FileStorage) -> None:
        try:
            read_closed(file)
        except ValueError as error:
            kept.append(error)

    post(make_app("flask", view), b"x")
    assert "(`file.close()`)" in notes(kept[0])[0]


def test_an_error_in_a_thread_of_the_apps_is_explained() -> None:
    """An error in a thread of the app's has the note, after the request too."""
    kept: list[Any] = []

    def view(file: FileStorage) -> None:
        kept.append(io.TextIOWrapper(file.stream))

    post(make_app("flask", view), b"x")
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(kept[0].read).exception()
    with suppress(ValueError):
        kept[0].detach()
    assert error is not None
    assert "by the end of the request" in notes(error)[0]


class Api:
    """Replaces Flask's methods for errors, like flask-restx and flask-restful."""

    def __init__(self, app: flask.Flask, method: str) -> None:
        self.seen: list[list[str]] = []
        setattr(app, method, self._handle)

    def _handle(self, *arguments: Any) -> Any:
        error = arguments[-1]  # Flask 3.2 passes its context first
        self.seen.append(list(notes(error)))
        return flask.Response("handled", 500)


@pytest.mark.parametrize("method", ["handle_user_exception", "handle_exception"])
def test_an_error_is_explained_before_a_library_that_replaces_a_method_of_the_app(method: str) -> None:
    """The error has the note before a library's replaced method handles it."""
    app = make_app("flask", read_closed)
    app.testing = False
    api = Api(app, method)
    post(app, b"x")
    [[note]] = api.seen
    assert "(`file.close()`)" in note


def test_an_error_is_explained_before_the_handlers_of_flask_restx() -> None:
    """The error has the note before flask-restx's own error handlers run (heavy: nox installs it)."""
    restx = pytest.importorskip("flask_restx", reason="heavy: nox installs it")
    app = make_app("flask", lambda _file: None)
    api = restx.Api(app)
    seen: list[list[str]] = []

    @api.errorhandler(ValueError)  # type: ignore[untyped-decorator]
    def handle(error: ValueError) -> Any:
        seen.append(list(notes(error)))
        return {}, 500

    @api.route("/resource")
    class Table(restx.Resource):  # type: ignore[misc,name-defined]
        def post(self) -> Any:
            read_closed(flask.request.files["photo"])

    app.test_client().post("/resource", data={"photo": (io.BytesIO(b"x"), "name")})
    [[note]] = seen
    assert "(`file.close()`)" in note


@MONITORING
def test_reads_of_closed_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of `closed` without an error is forgotten after a time."""
    now = 0.0
    monkeypatch.setattr(raising, "monotonic", lambda: now)
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    thread = threading.Thread(target=ask_by_name, args=(kept[0].stream, "closed"))
    thread.start()
    thread.join()
    code = ask_by_name.__code__
    raising._raised(code, 0, KeyError())  # noqa: SLF001 - as the interpreter does, of this thread
    assert len(raising._pending_reads) == 1  # noqa: SLF001 - the pending reads
    now = 100.0
    raising._raised(code, 0, KeyError())  # noqa: SLF001 - the pending reads
    assert raising._pending_reads == {}  # noqa: SLF001 - the pending reads
    assert raising._monitoring.get_events(raising._tool or 0) == 0  # noqa: SLF001 - the pending reads


@MONITORING
def test_a_process_without_room_for_a_tool_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """If debuggers and profilers use every tool id, a wrapper's error has no note."""

    def taken(*_args: object) -> None:
        raise ValueError("in use")

    monkeypatch.setattr(raising, "_tool", None)
    monkeypatch.setattr(raising._monitoring, "use_tool_id", taken)  # noqa: SLF001 - the interpreter's own module
    assert notes(failed(read_closed)) == []


def test_an_error_of_another_kind_gets_no_note() -> None:
    """Other errors of the app get no note, even at the same place."""

    class Odd(io.TextIOWrapper):
        @override
        def read(self, *_size: Any) -> str:
            assert self.buffer.closed
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else") as caught:
        post(make_app("flask", lambda file: read_closed(file, Odd)), b"x")
    assert notes(caught.value) == []


def test_an_error_that_the_app_wraps_is_explained() -> None:
    """With `raise … from error`, the note is on the cause, where `explanation` finds it."""

    def view(file: FileStorage) -> None:
        try:
            read_closed(file)
        except ValueError as error:
            raise RuntimeError("no table") from error

    with pytest.raises(RuntimeError, match="no table") as caught:
        post(make_app("flask", view), b"x")
    assert notes(caught.value) == []
    assert "(`file.close()`)" in str(explanation(caught.value))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_is_explained_before_any_handler_of_it(framework: str) -> None:
    """The note is on the error before any handler sees it."""
    app = make_app(framework, read_closed)
    seen: list[list[str]] = []

    def handler(error: ValueError) -> Any:
        seen.append(list(notes(error)))
        return "handled"

    app.register_error_handler(ValueError, handler)
    with suppress(ValueError):  # Quart's view keeps the error in its frame
        post(app, b"x")
    [[note]] = seen
    assert "(`file.close()`)" in note


class InMemory(io.BytesIO):
    """A BytesIO of the app's own."""


class Delegating:
    """A stream of the app's own that wraps a file, without further attributes."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["file"], name)


class Switch(io.RawIOBase):
    """A stream of the app's own with a settable `closed`."""

    def __init__(self) -> None:
        self.shut = False

    @property
    @override
    def closed(self) -> bool:
        """The value that was set."""
        return self.shut

    @closed.setter
    def closed(self, value: bool) -> None:
        self.shut = value

    @override
    def readable(self) -> bool:
        return True

    @override
    def write(self, data: Any) -> int:
        return len(data)

    @override
    def seek(self, *_position: int) -> int:
        return 0

    @override
    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("factory", [InMemory, Delegating, Switch])
def test_an_error_of_a_wrapper_of_the_apps_own_stream_is_explained(factory: Any) -> None:
    """However a stream implements `closed`, its value stays, and the wrapper's error has the note."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            return factory()

    def view(file: FileStorage) -> None:
        assert not file.stream.closed
        read_closed(file)

    [note] = notes(failed(view, request_class=Own))
    assert "(`file.close()`)" in note


def test_a_read_without_a_caller_returns_the_value() -> None:
    """A read of `closed` without a calling frame returns the value."""
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    upload = kept[0].stream._handoff_upload  # type: ignore[attr-defined] # noqa: SLF001 - the object under test
    assert upload.observe_closed_read(True, lambda _depth: None) is True  # noqa: FBT003 - the value of `closed`


def test_a_read_by_files_alone_returns_the_value() -> None:
    """A read of `closed` by files alone returns the value, and waits for no error."""
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    upload = kept[0].stream._handoff_upload  # type: ignore[attr-defined] # noqa: SLF001 - the object under test
    frame: Any = SimpleNamespace(f_globals={"__name__": "tempfile"}, f_code=read_closed.__code__, f_back=None)
    assert upload.observe_closed_read(True, lambda _depth: frame) is True  # noqa: FBT003 - the value of `closed`
    assert raising._pending_reads == {}  # noqa: SLF001 - the pending reads


def this_instruction(explain: Callable[[Exception], None]) -> FrameType:
    """Read `closed` at an instruction of this function, which calls C as that of a wrapper does."""
    frame = sys._getframe()  # noqa: SLF001 - this frame
    partial(raising.explain_next_error, frame, explain)()
    return frame


#: The instruction of that call.
ASKED = [one.offset for one in dis.get_instructions(this_instruction) if one.opname == "CALL"][-1]
CLOSED = ValueError("I/O operation on closed file.")


@MONITORING
@pytest.mark.parametrize(
    ("error", "later", "explained"),
    [
        pytest.param(CLOSED, 0, True, id="at the instruction"),
        pytest.param(CLOSED, 2, True, id="in its cache"),
        pytest.param(CLOSED, -2, False, id="before it"),
        pytest.param(CLOSED, 20, False, id="behind it"),
        pytest.param(KeyError("closed file"), 0, False, id="another type"),
        pytest.param(ValueError("wrong"), 0, False, id="another message"),
    ],
)
def test_only_the_error_of_the_asking_instruction_is_explained(error: Exception, later: int, explained: bool) -> None:  # noqa: FBT001 - parametrised
    """Only the first error of the reading instruction is explained."""
    seen: list[Exception] = []
    frame = this_instruction(seen.append)
    for _ in range(2):
        raising._raised(frame.f_code, ASKED + later, error)  # noqa: SLF001 - as the interpreter does
    assert seen == [error] * explained


@MONITORING
def test_a_failure_to_explain_is_no_error() -> None:
    """An error while adding the note is suppressed, so that the app's own error stays."""

    def fail(_error: Exception) -> None:
        raise RuntimeError

    frame = this_instruction(fail)
    raising._raised(frame.f_code, ASKED, CLOSED)  # noqa: SLF001 - as the interpreter does
    raising._raised(frame.f_code, ASKED, CLOSED)  # noqa: SLF001 - of a thread without a read


class Debugger:
    """A trace function that counts the events of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._code = function.__code__
        self.events: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "Debugger":
        """Count the event, and trace the function that it is of."""
        if frame.f_code is self._code:
            self.events.append(event)
        return self


@TRACE
def test_a_debugger_sees_every_event_beside_the_trace() -> None:
    """A debugger sees the events of an explained app that it sees of another one."""
    events = []
    for explained in (True, False):
        traces = sys.gettrace()
        sys.settrace(debugger := Debugger(read_closed))
        try:
            error = failed(read_closed, explained=explained)
            assert sys.gettrace() is debugger
        finally:
            sys.settrace(traces)
        assert len(notes(error)) == explained
        events.append(debugger.events)
    assert events[0] == events[1]


@TRACE
def test_a_trace_ends_without_an_error() -> None:
    """The trace ends with the instruction that read `closed`, and explains no later error."""
    seen: list[Exception] = []
    traces = sys.gettrace()
    sys.settrace(None)
    try:
        frame = this_instruction(seen.append)
        assert (sys.gettrace(), frame.f_trace) == (None, None)
        with suppress(ValueError):
            raise CLOSED
    finally:
        sys.settrace(traces)
    assert seen == []


def test_a_file_that_goes_leaves_nothing_behind() -> None:
    """A file that reads its own `closed` in its finalizer waits for no error."""
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    kept.clear()
    assert threading.get_ident() not in raising._pending_reads  # noqa: SLF001 - the pending reads


ENDING = """
import io
import flask
from filehandoff.explain import explain_closed_files

app = flask.Flask("ending")
explain_closed_files(app)
kept = []

@app.post("/")
def view():
    kept.append(flask.request.files["photo"].stream)
    return ""

app.test_client().post("/", data={"photo": (io.BytesIO(b"x"), "name")})
assert kept[0].closed
"""


def test_a_file_that_outlives_the_interpreter_goes_in_silence() -> None:
    """A spooled file's finalizer works after this package's modules are gone."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ENDING], env=environ, capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    assert (done.returncode, [line for line in done.stderr.splitlines() if "ignored" in line]) == (0, [])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_of_a_request_without_a_form_gets_no_note(framework: str) -> None:
    """An error of a request without a form gets no note."""
    app = make_app(framework, lambda _file: None)
    errors: list[ValueError] = []

    def view() -> Any:
        raise ValueError("I/O operation on closed file.")

    def handler(error: ValueError) -> Any:
        errors.append(error)
        return "handled"

    app.register_error_handler(ValueError, handler)
    app.add_url_rule("/other", view_func=view)
    client: Any = app.test_client()
    answer = client.get("/other")
    if framework == "quart":
        asyncio.run(answer)
    assert [notes(error) for error in errors] == [[]]
