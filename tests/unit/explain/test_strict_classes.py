"""Classes of an app that forbid what others allow, and classes that come and go: the app works as without us."""

import dataclasses
import gc
import io
import weakref
from abc import ABCMeta
from typing import Any, ClassVar, override

import flask
import pytest
from unit.explain.apps import make_app, notes, post
from werkzeug.datastructures import FileStorage

from filehandoff.explain import explain_closed_files


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A stream of which nothing may be set."""

    file: io.BytesIO = dataclasses.field(default_factory=io.BytesIO)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Strict(io.BytesIO):
    """A stream of which nothing may be set, in another way."""

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Registered(io.BytesIO):
    """A stream whose class wants to know each of its subclasses, and each but once."""

    known: ClassVar[list[str]] = []

    def __init_subclass__(cls) -> None:
        if cls.__name__ in cls.known:
            raise RuntimeError(cls.__name__)
        cls.known.append(cls.__name__)


class Child(Registered):
    """It is known already."""


class Final(ABCMeta):
    """The metaclass of classes that have no subclass."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        """Only for what stands in this module."""
        if "_handoff_plain" in namespace:
            raise LookupError("this class is final")
        return super().__new__(cls, name, bases, namespace)


class Last(io.BytesIO, metaclass=Final):
    """A stream whose class is the last."""


def request_class_of(factory: Any) -> Any:
    """A request class with a stream factory of its own."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            return factory()

    return Own


def read_closed(file: FileStorage) -> None:
    """Read a file, close it, and read it once more."""
    assert file.read() == b"data"
    file.close()
    file.read()


@pytest.mark.parametrize("factory", [Frozen, Strict, Child])
def test_a_stream_class_that_forbids_is_explained_all_the_same(factory: Any) -> None:
    """None of it is asked: nothing is set on the stream, and its class hears of no subclass that the app has not."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", read_closed, request_class=request_class_of(factory)), b"data")
    assert "(`file.close()`)" in notes(caught.value)[0]
    assert Registered.known == ["Child"]


def test_a_stream_whose_class_has_no_subclass_stays_as_it_is() -> None:
    """It works, and its error is the one it always had."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", read_closed, request_class=request_class_of(Last)), b"data")
    assert notes(caught.value) == []


class Kinds(flask.Request):
    """A request class whose subclasses say of which kind they are."""

    kinds: ClassVar[list[str]] = []

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kinds.append(kind)


class Photos(Kinds, kind="photos"):
    """One of them."""


def test_a_request_class_hears_of_the_apps_subclasses_only() -> None:
    """Ours is not told of, which could not say its kind; one that the app makes of it later is."""
    app = make_app("flask", read_closed, request_class=Photos)

    base: Any = app.request_class

    class Later(base, kind="later"):  # type: ignore[call-arg,misc] # known at run time only
        pass

    assert Kinds.kinds == ["photos", "later"]
    app.request_class = Later
    explain_closed_files(app)
    assert app.request_class is Later
    with pytest.raises(ValueError, match="closed file") as caught:
        post(app, b"data")
    assert len(notes(caught.value)) == 1


def test_a_request_class_that_has_no_subclass_is_refused_in_a_sentence() -> None:
    """The app learns of it at its start, with the class's name and what it said."""

    class Only(flask.Request, metaclass=Final):
        pass

    with pytest.raises(TypeError, match="cannot subclass Only, the request class: this class is final"):
        make_app("flask", read_closed, request_class=Only)


def test_an_apps_classes_are_freed_with_it() -> None:
    """Nothing keeps a request class, a stream class, or what they hold, when the app is gone."""
    freed: list[weakref.ref[Any]] = []

    def use() -> None:
        class Stream(io.BytesIO):
            pass

        class Own(flask.Request):
            @override
            def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
                return Stream()

        post(make_app("flask", lambda file: file.close(), request_class=Own), b"data")
        freed.extend([weakref.ref(Stream), weakref.ref(Own)])

    use()
    for _ in range(3):  # the classes that were made go first
        gc.collect()
    assert [reference() for reference in freed] == [None, None]
