"""Explaining changes nothing else in an app."""

import io
import pickle
import tempfile
from contextlib import suppress
from copy import deepcopy
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from unit.explain.apps import FRAMEWORKS, SIZES, closed_by_the_end, make_app, notes, post
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import FormDataParser

from filehandoff.explain import explain_closed_files
from filehandoff.typing_backports import override


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_apps_own_request_class_stays(framework: str) -> None:
    """Requests have a subclass of the app's class, with its name, methods and attributes."""
    module: Any = import_module(framework)
    base: Any = module.Request

    class Own(base):  # type: ignore[misc] # known at run time only
        """A request class of the app's own."""

        answer = 42

        def double(self) -> int:
            return 2 * self.answer

    seen: list[Any] = []
    view = lambda _file: seen.append(module.request._get_current_object())  # noqa: E731, SLF001 - documented despite its underscore
    post(make_app(framework, view, request_class=Own), b"x")
    [request] = seen
    assert isinstance(request, Own)
    assert (type(request).__name__, type(request).__qualname__, type(request).__doc__) == (
        Own.__name__,
        Own.__qualname__,
        Own.__doc__,
    )
    assert request.double() == 84
    assert request.view_args == {}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_explaining_twice_does_nothing_more(framework: str) -> None:
    """A second call keeps the first call's class, and there is one note."""

    def view(file: FileStorage) -> None:
        file.close()
        file.read()

    app = make_app(framework, view)
    before = app.request_class
    explain_closed_files(app)
    assert app.request_class is before
    with pytest.raises(ValueError, match="closed file") as caught:
        post(app, b"x")
    assert len(notes(caught.value)) == 1


@pytest.mark.parametrize(
    "app", [None, SimpleNamespace(request_class=None), flask.Flask], ids=["None", "other", "class"]
)
def test_another_object_than_an_app_is_refused(app: Any) -> None:
    """Any other object is rejected with an error that names the frameworks."""
    with pytest.raises(
        TypeError, match="takes an app of Flask, Quart, Starlette or FastAPI, or a handler of Django, not "
    ):
        explain_closed_files(app)


def test_the_proxy_of_the_current_app_stands_for_the_app() -> None:
    """`explain_closed_files(current_app)` explains the app, since extensions have only the proxy."""
    app = make_app("flask", lambda _file: None, explained=False)
    with app.app_context():
        explain_closed_files(flask.current_app)
    assert app.request_class is not flask.Request


def test_only_the_explained_app_is_changed() -> None:
    """The frameworks' classes and other apps stay unchanged."""
    before = dict(vars(flask.Request)), dict(vars(flask.Flask)), dict(vars(FileStorage))
    make_app("flask", lambda _file: None)
    assert (dict(vars(flask.Request)), dict(vars(flask.Flask)), dict(vars(FileStorage))) == before
    assert flask.Flask("other").request_class is flask.Request


def test_a_request_class_with_a_view_args_of_its_own_keeps_it() -> None:
    """With a `view_args` of the app's own, times count from the start of the request."""

    class Own(flask.Request):
        @property
        @override
        def view_args(self) -> dict[str, Any]:
            return {}

        @view_args.setter
        def view_args(self, value: object) -> None:
            pass

    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100, request_class=Own).read()
    assert "ms after the request began" in notes(caught.value)[0]


def test_a_form_parser_of_the_apps_own_is_asked() -> None:
    """The class's `form_data_parser_class` is used, and its other attributes can be read."""
    asked: list[str] = []

    class OwnParser(FormDataParser):
        @override
        def parse(self, *args: Any, **kwargs: Any) -> Any:
            asked.append("parse")
            return super().parse(*args, **kwargs)

    class Own(flask.Request):
        form_data_parser_class = OwnParser

        @override
        def make_form_data_parser(self) -> Any:
            return super().make_form_data_parser()

        @override
        def _load_form_data(self) -> None:
            asked.append(str(self.make_form_data_parser().silent))
            super()._load_form_data()

    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100, request_class=Own).read()
    assert asked[-2:] == ["True", "parse"]
    assert len(notes(caught.value)) == 1


class Delegating:
    """A stream of the app's own that wraps a file, without further attributes."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["file"], name)

    def __iter__(self) -> Any:
        return iter(self.file)


class WithoutClosed:
    """A stream of the app's own without `closed`."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        """Keep the bytes."""
        self.data += data
        return len(data)

    def seek(self, _position: int) -> int:
        """Do nothing: the stream has no position."""
        return 0

    def read(self) -> bytes:
        """Return all bytes, unless the stream is closed."""
        if self.data is None:
            raise ValueError("this is a closed file")
        return self.data

    def close(self) -> None:
        """Drop the bytes."""
        self.data = None  # type: ignore[assignment] # closed


class InMemory(io.BytesIO):
    """A BytesIO of the app's own."""

    written = 0

    @override
    def write(self, data: Any) -> int:
        self.written += len(data)
        return super().write(data)


class Spooled(tempfile.SpooledTemporaryFile[bytes]):
    """A spooled file of the app's own."""

    @property
    def color(self) -> str:
        """An attribute of this class alone."""
        return "blue"


class Rigid:
    """A stream without a `__dict__`, which cannot be explained."""

    __slots__ = ("file",)

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


FACTORIES: dict[str, Any] = {
    "BytesIO": io.BytesIO,
    "a BytesIO of its own": InMemory,
    "TemporaryFile": tempfile.TemporaryFile,
    "TemporaryFile, unbuffered": partial(tempfile.TemporaryFile, buffering=0),
    "NamedTemporaryFile": tempfile.NamedTemporaryFile,
    "a spooled file of its own": lambda: Spooled(500),
    "a spooled file that never rolls over": tempfile.SpooledTemporaryFile,
    "a stream that delegates": Delegating,
}


def request_class_of(factory: Any) -> Any:
    """Return a request class with a stream factory of its own, which keeps its streams."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            self.made = factory()
            self.made.seek(0)  # NamedTemporaryFile caches the methods that it was asked for
            return self.made

    return Own


@pytest.mark.parametrize("factory", [pytest.param(make, id=name) for name, make in FACTORIES.items()])
@pytest.mark.parametrize("size", SIZES)
def test_a_stream_factory_of_the_apps_own_is_explained(factory: Any, size: str) -> None:
    """A factory's streams keep their type and explain their close."""
    data = b"0123456789" * (SIZES[size] // 10)

    def view(file: FileStorage) -> None:
        made = flask.request.made  # type: ignore[attr-defined]
        plain = factory()
        assert isinstance(file.stream, type(plain))
        plain.close()
        assert file.read(4) == b"0123"
        assert made.tell() == 4
        assert file.tell() == 4
        assert next(iter(file)) == data[4:]
        assert file.seek(0) == 0
        assert not file.stream.closed
        assert repr(file.stream).startswith(repr(made)[:10])
        file.stream.seek(0, io.SEEK_END)
        file.stream.write(b"more")
        made.seek(-4, io.SEEK_END)
        assert file.read() == b"more"
        file.close()
        assert made.closed
        file.seek(0)

    with pytest.raises(ValueError, match=r"closed file") as caught:
        post(make_app("flask", view, request_class=request_class_of(factory)), data)
    [note] = notes(caught.value)
    assert "by the app's own code" in note
    assert "(`file.close()`)" in note


def test_a_stream_whose_class_cannot_be_changed_stays_as_it_is() -> None:
    """The stream works, and its error has no note."""

    def view(file: FileStorage) -> None:
        assert file.read() == b"data"
        file.close()
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view, request_class=request_class_of(Rigid)), b"data")
    assert notes(caught.value) == []


def test_a_stream_that_does_not_say_whether_it_is_closed_is_explained() -> None:
    """The recorded close is enough for the note."""

    def view(file: FileStorage) -> None:
        assert file.read() == b"data"
        file.close()
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view, request_class=request_class_of(WithoutClosed)), b"data")
    assert "(`file.close()`)" in notes(caught.value)[0]


def test_a_file_of_the_apps_own_is_used_as_a_context_and_named() -> None:
    """`with` and the attributes of a file on disk reach the inner file."""

    def view(file: FileStorage) -> None:
        stream: Any = file.stream
        made = flask.request.made  # type: ignore[attr-defined]
        assert (stream.name, stream.mode, stream.__sizeof__()) == (made.name, made.mode, made.__sizeof__())
        assert stream.raw is made.raw
        made.raw.note = 7
        stream.mode_of_mine = "attribute"
        with stream as entered:
            assert entered is stream
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view, request_class=request_class_of(tempfile.TemporaryFile)), b"data")
    assert "(`with stream as entered:`)" in notes(caught.value)[0]


def test_the_methods_and_attributes_of_a_stream_of_the_apps_own_stay() -> None:
    """A subclass's methods and attributes stay, in a copy too."""

    def view(file: FileStorage) -> None:
        stream: Any = file.stream
        assert stream.written == 4
        with pytest.raises(ValueError, match="negative seek") as caught:
            stream.seek(-1)
        assert notes(caught.value) == []
        copied = deepcopy(stream)
        assert type(copied) is InMemory
        assert (copied.written, copied.getvalue()) == (4, b"data")

    post(make_app("flask", view, request_class=request_class_of(InMemory)), b"data")

    def color(file: FileStorage) -> None:
        assert file.stream.color == "blue"  # type: ignore[attr-defined]

    post(make_app("flask", color, request_class=request_class_of(lambda: Spooled(9))), b"data")


def test_a_copy_is_made_in_the_streams_own_way() -> None:
    """A class with its own way of copying is copied that way."""

    class Copied(io.BytesIO):
        @override
        def __reduce_ex__(self, _protocol: Any) -> Any:
            return str, ("a copy",)

    def view(file: FileStorage) -> None:
        made: Any = deepcopy(file.stream)
        assert made == "a copy"

    post(make_app("flask", view, request_class=request_class_of(Copied)), b"data")


def test_a_detached_file_is_not_closed() -> None:
    """The error of a detached file gets no note."""
    raw: list[Any] = []

    def view(file: FileStorage) -> None:
        raw.append(file.stream.detach())  # type: ignore[attr-defined]
        with suppress(ValueError):
            file.close()
        file.read()

    with pytest.raises(ValueError, match="detached") as caught:
        post(make_app("flask", view, request_class=request_class_of(tempfile.TemporaryFile)), b"data")
    raw[0].close()
    assert notes(caught.value) == []


def test_a_file_that_is_detached_while_it_is_iterated_is_not_closed() -> None:
    """The error of a file that is detached during an iteration gets no note."""

    def view(file: FileStorage) -> None:
        lines = iter(file)
        next(lines)
        raw: Any = file.stream.detach()  # type: ignore[attr-defined]
        raw.close()
        with pytest.raises(ValueError, match="detached") as caught:
            next(lines)
        assert notes(caught.value) == []
        file.stream = io.BytesIO()  # closed at the end of the request

    post(make_app("flask", view, request_class=request_class_of(tempfile.TemporaryFile)), b"one\ntwo\n")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("explained", [True, False], ids=["explained", "plain"])
@pytest.mark.parametrize("size", SIZES)
def test_files_are_closed_at_the_same_moment(framework: str, explained: bool, size: str) -> None:  # noqa: FBT001 - parametrised
    """Files are open in the view, after_request and teardown_request, and closed after the request."""
    kept: list[FileStorage] = []
    seen: list[tuple[str, bool]] = []

    def look(where: str) -> None:
        seen.append((where, kept[0].stream.closed))

    def view(file: FileStorage) -> None:
        kept.append(file)
        look("view")

    def after(response: Any) -> Any:
        look("after_request")
        return response

    app = make_app(framework, view, explained=explained)
    app.after_request(after)
    app.teardown_request(lambda _error: look("teardown_request"))
    post(app, bytes(SIZES[size]))
    look("over")
    assert seen == [("view", False), ("after_request", False), ("teardown_request", False), ("over", True)]


def test_a_file_that_rolls_over_in_the_view_explains_itself_still() -> None:
    """A file that rolls over to disk in the view still explains its close."""

    def view(file: FileStorage) -> None:
        assert file.fileno() > 2
        assert file.read() == b"data"
        file.stream.rollover()  # type: ignore[attr-defined] # once more does nothing
        file.close()
        file.read()

    with pytest.raises(ValueError, match="read of closed file") as caught:
        post(make_app("flask", view), b"data")
    assert len(notes(caught.value)) == 1


def test_a_request_without_files_is_closed_as_before() -> None:
    """A request without a form, or with a form without files, closes as before."""
    app = make_app("flask", lambda _file: None)
    app.add_url_rule("/none", view_func=lambda: str(len(flask.request.files)), methods=["POST"])
    client = app.test_client()
    assert client.post("/none", data={"a": "b"}).get_data() == b"0"
    assert client.post("/none", data="text").get_data() == b"0"


@pytest.mark.parametrize("more", [{}, {"stream": io.BytesIO()}], ids=["no stream", "a stream"])
def test_a_form_with_something_else_for_files_is_left_alone(more: dict[str, Any]) -> None:
    """A parser of the app's own may return other objects as files, which stay unchanged."""
    other = SimpleNamespace(close=lambda: None, **more)

    class OwnParser(FormDataParser):
        @override
        def parse(self, *args: Any, **kwargs: Any) -> Any:
            stream, form, files = super().parse(*args, **kwargs)
            files["photo"].close()
            return stream, form, self.cls([("photo", other)])

    class Own(flask.Request):
        form_data_parser_class = OwnParser

    seen: list[Any] = []
    post(make_app("flask", seen.append, request_class=Own), b"x")
    assert seen == [other]


def test_a_file_that_a_form_has_twice_is_one_file() -> None:
    """A file under two names of the form is explained by the first."""

    class OwnParser(FormDataParser):
        @override
        def parse(self, *args: Any, **kwargs: Any) -> Any:
            stream, form, files = super().parse(*args, **kwargs)
            return stream, form, self.cls([("photo", files["photo"]), ("again", FileStorage(files["photo"].stream))])

    class Own(flask.Request):
        form_data_parser_class = OwnParser

    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100, request_class=Own).read()
    [note] = notes(caught.value)
    assert "'hello.txt' of the form field 'photo'" in note


class ClosesItsFiles(flask.Request):
    """A request whose `close` closes each file itself."""

    @override
    def close(self) -> None:
        for files in self.files.listvalues():
            for file in files:
                file.close()


def test_a_request_class_that_closes_its_files_itself_is_the_requests_end() -> None:
    """A `close` that closes each file itself is the request's end."""
    file = closed_by_the_end("flask", 100, request_class=ClosesItsFiles)
    with pytest.raises(ValueError, match="closed file") as caught:
        file.read()
    assert "by the end of the request" in notes(caught.value)[0]


def test_the_requests_end_is_named_beside_a_file_that_the_view_closed() -> None:
    """The request's own close is recorded as long as one of its files is open."""
    app, kept = flask.Flask(__name__), list[FileStorage]()
    app.request_class = ClosesItsFiles
    explain_closed_files(app)

    @app.post("/")
    def view() -> str:
        first, second = flask.request.files.getlist("photo")
        first.close()
        kept.append(second)
        return "done"

    app.test_client().post("/", data={"photo": [(io.BytesIO(b"x"), name) for name in ("a", "b")]})
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert "by the end of the request" in notes(caught.value)[0]


def test_a_pickle_of_a_storage_knows_nothing_of_explaining() -> None:
    """A pickled FileStorage can be read where this package is not installed."""

    def view(file: FileStorage) -> None:
        assert b"handoff" not in pickle.dumps(file)

    post(make_app("flask", view, request_class=request_class_of(io.BytesIO)), b"data")
