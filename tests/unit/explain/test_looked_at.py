"""An inspection of an upload has no effect on the note."""

import inspect
import io
import pickle
import pprint
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
import rich
from rich.console import Console
from unit.explain.apps import SIZES, make_app, notes, post
from werkzeug.datastructures import FileStorage


def by_getattr(file: Any) -> None:
    """Read all attributes, as a debugger does."""
    for name in dir(file):
        with suppress(Exception):
            repr(getattr(file, name))


def by_pickle(file: Any) -> None:
    """Try to pickle the file."""
    with suppress(Exception):
        pickle.dumps(file)


def by_rich(file: Any) -> None:
    """Inspect the file by rich, with all its options."""
    rich.inspect(file, console=Console(file=io.StringIO()), all=True)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "inspect.getmembers": inspect.getmembers,
    "getattr": by_getattr,
    "vars": lambda file: pprint.pformat(vars(file)),
    "rich": by_rich,
    "create_autospec": mock.create_autospec,
    "a mock with its spec": lambda file: mock.Mock(spec=file, wraps=file).mock_calls,
    "pickle": by_pickle,
    "hasattr": lambda file: hasattr(file, "_dealloc_warn"),
}
WHOLE: dict[str, Callable[[FileStorage], Any]] = {
    "the storage": lambda file: file,
    "the stream": lambda file: file.stream,
    "the file below": lambda file: file.stream._file,  # type: ignore[attr-defined] # noqa: SLF001 - people do
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("of", WHOLE)
@pytest.mark.parametrize("look", LOOKS)
def test_a_close_after_a_look_is_the_apps_own(look: str, of: str, size: str) -> None:
    """A close after an inspection is the app's own, not a wrapper's or the inspector's."""

    def view(file: FileStorage) -> None:
        LOOKS[look](WHOLE[of](file))
        file.close()
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), bytes(SIZES[size]))
    [note] = notes(caught.value)
    assert " was closed by the app's own code at " in note
    assert "(`file.close()`)" in note


def test_a_wrapper_collected_after_a_look_is_named() -> None:
    """A wrapper that is collected after an inspection is still named."""

    def view(file: FileStorage) -> None:
        inspect.getmembers(file.stream)
        io.TextIOWrapper(file.stream)
        file.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert " was closed by a TextIOWrapper or another wrapper" in notes(caught.value)[0]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_closed_upload_explains_no_other_error(look: str) -> None:
    """After an inspection of a closed upload, another file's error gets no note."""

    def view(file: FileStorage) -> None:
        file.close()
        with suppress(Exception):
            LOOKS[look](file.stream)
        other = io.StringIO()
        other.close()
        with suppress(Exception):
            LOOKS[look](other)
        other.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert notes(caught.value) == []
