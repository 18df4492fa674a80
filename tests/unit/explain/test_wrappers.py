"""A wrapper that is written in C asks its file whether it is closed, and raises by itself: whose error is it?"""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, override

import flask
import pytest
from unit.explain.apps import FRAMEWORKS, SIZES, make_app, notes, post
from werkzeug.datastructures import FileStorage

from handoff.explain import explanation

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "TextIOWrapper": io.TextIOWrapper,
    "BufferedReader": io.BufferedReader,
    "TextIOWrapper of a BufferedReader": lambda file: io.TextIOWrapper(io.BufferedReader(file)),
}


def read_closed(file: FileStorage, wrapper: Callable[[Any], Any] = io.TextIOWrapper, *, of: Any = None) -> None:
    """Wrap a file, close the file, and read from the wrapper."""
    wrapped = wrapper(of or file.stream)
    file.close()
    try:
        wrapped.read()
    finally:
        with suppress(ValueError):
            wrapped.detach()


def failed(view: Callable[[FileStorage], Any], framework: str = "flask", **options: Any) -> ValueError:
    """The error of a view that fails because of a closed file."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app(framework, view, **options), b"x")
    return caught.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_error_of_a_wrapper_is_explained_where_it_passes_the_app(wrapper: str, framework: str, size: str) -> None:
    """The app sees the error go by: it has the note of the upload under the wrapper, or the error it has without us."""
    for explained in (True, False):
        app = make_app(framework, lambda file: read_closed(file, WRAPPERS[wrapper]), explained=explained)
        with pytest.raises(ValueError, match="closed file") as caught:
            post(app, bytes(SIZES[size]))
        assert len(notes(caught.value)) == explained
        assert all("(`file.close()`)" in note for note in notes(caught.value))


def test_an_error_of_a_wrapper_of_the_storage_is_explained() -> None:
    """FileStorage only hands on the question."""
    [note] = notes(failed(lambda file: read_closed(file, of=file)))
    assert "'hello.txt' of the form field 'photo'" in note


def test_an_error_of_another_file_gets_no_note() -> None:
    """A file of the app's own is closed too early, after an upload was: the note would be false."""

    def view(file: FileStorage) -> None:
        with suppress(ValueError):
            read_closed(file)
        with Path(__file__).open(encoding="utf-8") as other:
            pass
        other.read()

    assert notes(failed(view)) == []


def test_an_error_is_of_the_file_that_was_asked_last() -> None:
    """The same instruction fails for one upload, which the app minds not, and then for another."""
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
    """An upload was read as text and closed, then another fails: there is one note, and it names that one."""
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


def test_an_error_of_another_kind_gets_no_note() -> None:
    """An app's other errors are none of ours, also from where a closed file was asked."""

    class Odd(io.TextIOWrapper):
        @override
        def read(self, *_size: Any) -> str:
            assert self.buffer.closed
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else") as caught:
        post(make_app("flask", lambda file: read_closed(file, Odd)), b"x")
    assert notes(caught.value) == []


def test_an_error_that_the_app_wraps_is_explained() -> None:
    """`raise … from error`: the note is on the error that led to it, where `explanation` finds it."""

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
    """What the app or an error tracker does with an error, it does with the note."""
    app = make_app(framework, read_closed)
    seen: list[list[str]] = []

    def handler(error: ValueError) -> Any:
        seen.append(list(notes(error)))
        return "handled"

    app.register_error_handler(ValueError, handler)
    with suppress(ValueError):  # of Quart's view, which keeps it
        post(app, b"x")
    [[note]] = seen
    assert "(`file.close()`)" in note


def test_a_request_class_with_blueprints_of_its_own_keeps_them() -> None:
    """What is no property is not replaced by one; the signal still explains."""

    class Own(flask.Request):
        blueprints = ()  # type: ignore[assignment] # of the app's own

    seen: list[Any] = []

    def view(file: FileStorage) -> None:
        seen.append(flask.request.blueprints)
        read_closed(file)

    app = make_app("flask", view, request_class=Own)
    with pytest.raises(ValueError, match="closed file"):
        post(app, b"x")
    assert seen == [()]


class InMemory(io.BytesIO):
    """A BytesIO of the app's own."""


class Delegating:
    """A stream of the app's own: a file that it has, and knows nothing more of."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["file"], name)


class Switch(io.RawIOBase):
    """A stream of the app's own whose `closed` is set by itself."""

    def __init__(self) -> None:
        self.shut = False

    @property
    @override
    def closed(self) -> bool:
        """What was set."""
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
    """However the stream knows that it is closed, whoever asks it is told as before, and its error has the note."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            return factory()

    def view(file: FileStorage) -> None:
        assert not file.stream.closed
        read_closed(file)

    [note] = notes(failed(view, request_class=Own))
    assert "(`file.close()`)" in note


def test_a_question_of_nobody_is_answered() -> None:
    """A thread can be started on the question itself, and a file may be asked when the interpreter ends."""
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    upload = kept[0].stream._handoff_upload  # type: ignore[attr-defined] # noqa: SLF001 - what is asked
    assert upload.see_question(True, lambda _depth: None) is True  # noqa: FBT003 - what a file answers


def test_a_file_that_goes_leaves_nothing_behind() -> None:
    """It asks whether it is closed, as each upload's file does at its end: what asked would hold what was asked."""
    kept: list[FileStorage] = []
    post(make_app("flask", kept.append), b"x")
    upload = kept[0].stream._handoff_upload  # type: ignore[attr-defined] # noqa: SLF001 - what is asked
    kept.clear()
    assert upload.moment.asked == {}


ENDING = """
import io
import flask
from handoff.explain import explain_closed_files

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
    """What a spooled file asks when it goes is answered, also where our modules are gone."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ENDING], env=environ, capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    assert (done.returncode, [line for line in done.stderr.splitlines() if "ignored" in line]) == (0, [])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_of_a_request_without_a_form_gets_no_note(framework: str) -> None:
    """No file was asked anything."""
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
