"""Classes of the app's that forbid changes work as without explaining."""

import dataclasses
import gc
import io
import weakref
from abc import ABCMeta
from typing import Any, ClassVar

import flask
import pytest
from unit.explain.apps import make_app, notes, post
from werkzeug.datastructures import FileStorage

from filehandoff.explain import explain_closed_files
from filehandoff.typing_backports import override


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A stream that forbids setting attributes."""

    file: io.BytesIO = dataclasses.field(default_factory=io.BytesIO)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Strict(io.BytesIO):
    """A stream that forbids setting attributes in another way."""

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Registered(io.BytesIO):
    """A stream whose class registers each subclass, once."""

    known: ClassVar[list[str]] = []

    def __init_subclass__(cls) -> None:
        if cls.__name__ in cls.known:
            raise RuntimeError(cls.__name__)
        cls.known.append(cls.__name__)


class Child(Registered):
    """The only registered subclass."""


class Final(ABCMeta):
    """A metaclass that forbids subclasses."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        """Create only classes of this module."""
        if "_handoff_plain" in namespace:
            raise LookupError("this class is final")
        return super().__new__(cls, name, bases, namespace)


class Last(io.BytesIO, metaclass=Final):
    """A stream whose class forbids subclasses."""


def request_class_of(factory: Any) -> Any:
    """Return a request class with this stream factory."""

    class Own(flask.Request):
        @override
        def _get_file_stream(self, *_args: Any, **_more: Any) -> Any:
            return factory()

    return Own


def read_closed(file: FileStorage) -> None:
    """Read a file, close it, and read it again."""
    assert file.read() == b"data"
    file.close()
    file.read()


@pytest.mark.parametrize("factory", [Frozen, Strict, Child])
def test_a_stream_class_that_forbids_is_explained_all_the_same(factory: Any) -> None:
    """A strict stream explains its close: nothing sets its attributes or registers a subclass."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", read_closed, request_class=request_class_of(factory)), b"data")
    assert "(`file.close()`)" in notes(caught.value)[0]
    assert Registered.known == ["Child"]


def test_a_stream_whose_class_has_no_subclass_stays_as_it_is() -> None:
    """A stream whose class forbids subclasses works, and its error has no note."""
    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", read_closed, request_class=request_class_of(Last)), b"data")
    assert notes(caught.value) == []


class Kinds(flask.Request):
    """A request class whose subclasses must declare their kind."""

    kinds: ClassVar[list[str]] = []

    def __init_subclass__(cls, *, kind: str) -> None:
        cls.kinds.append(kind)


class Photos(Kinds, kind="photos"):
    """A subclass with its kind."""


def test_a_request_class_hears_of_the_apps_subclasses_only() -> None:
    """The generated subclass is hidden from its base, the app's subclass is not."""
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
    """A request class that forbids subclasses is rejected with its name and error."""

    class Only(flask.Request, metaclass=Final):
        pass

    with pytest.raises(TypeError, match="cannot subclass Only, the request class: this class is final"):
        make_app("flask", read_closed, request_class=Only)


def test_an_apps_classes_are_freed_with_it() -> None:
    """No reference to an app's request and stream classes outlives the app."""
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
    for _ in range(3):  # the generated classes are freed first
        gc.collect()
    assert [reference() for reference in freed] == [None, None]
