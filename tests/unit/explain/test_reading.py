"""Each read of a closed upload raises the usual error, plus a note."""

import asyncio
import csv
import inspect
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from PIL import Image
from unit.explain.apps import FRAMEWORKS, SIZES, closed_by_the_end, make_app, notes, post
from unit.explain.conftest import Store
from werkzeug.datastructures import FileStorage


def iterate(file: Any) -> list[bytes]:
    """Iterate over the file by `for`."""
    return list(file)


def enter(file: Any) -> None:
    """Enter the file by `with`."""
    with file:
        pass


def save(file: FileStorage) -> None:
    """Save the file by Flask's method, or Quart's, which is awaited."""
    saved: Any = file.save(os.devnull)  # type: ignore[func-returns-value]
    if inspect.isawaitable(saved):
        asyncio.run(saved)  # type: ignore[arg-type]


READERS: dict[str, Callable[[FileStorage], Any]] = {
    "read": lambda file: file.read(),
    "read of the stream": lambda file: file.stream.read(10),
    "read of the file below": lambda file: file.stream._file.read(10),  # type: ignore[attr-defined] # noqa: SLF001 - people do
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.stream.readlines(),
    "readinto": lambda file: file.stream.readinto(bytearray(10)),  # type: ignore[attr-defined]
    "read1": lambda file: file.stream.read1(10),  # type: ignore[attr-defined]
    "seek": lambda file: file.seek(0),
    "tell": lambda file: file.tell(),
    "seekable": lambda file: file.stream.seekable(),
    "write": lambda file: file.stream.write(b"x"),
    "truncate": lambda file: file.stream.truncate(),
    "fileno": lambda file: file.fileno(),
    "iterate": iterate,
    "iterate the stream": lambda file: iterate(file.stream),
    "next": lambda file: next(file.stream._file),  # type: ignore[attr-defined] # noqa: SLF001 - people do
    "with": lambda file: enter(file.stream),
    "with the file below": lambda file: enter(file.stream._file),  # type: ignore[attr-defined] # noqa: SLF001 - people do
    "copyfileobj": lambda file: shutil.copyfileobj(file, io.BytesIO()),
    "save": save,
    "TextIOWrapper": lambda file: io.TextIOWrapper(file.stream),
    "BufferedReader": lambda file: io.BufferedReader(file.stream),
    "zipfile": zipfile.ZipFile,
    "csv": lambda file: list(csv.reader(io.TextIOWrapper(file))),
    "Pillow": Image.open,
}


def failing(reader: Callable[[FileStorage], Any], file: FileStorage) -> Exception:
    """Return a reader's error on a closed file, and close it again.

    A call of `fileno` may have reopened the file.
    """
    error = error_of(reader, file)
    file.close()
    return error


def error_of(call: Callable[..., Any], *args: Any) -> Exception:
    """Return the error of a call."""
    with pytest.raises(Exception, match=r".") as caught:
        call(*args)
    return caught.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("reader", [pytest.param(read, id=name) for name, read in READERS.items()])
def test_every_reader_of_a_closed_upload_gets_the_same_error_with_a_note(
    reader: Callable[[FileStorage], Any], framework: str, size: str
) -> None:
    """The error has its usual type and text, and one note."""
    plain = failing(reader, closed_by_the_end(framework, SIZES[size], explained=False))
    explained = failing(reader, closed_by_the_end(framework, SIZES[size]))
    assert (type(explained), str(explained)) == (type(plain), str(plain))
    assert notes(plain) == []
    [note] = notes(explained)
    assert note.startswith("The upload 'hello.txt' of the form field 'photo' was closed by the end of the request")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["read", "seek", "readline", "tell"])
def test_a_method_that_was_taken_from_the_open_file_explains_too(name: str, framework: str, size: str) -> None:
    """A method read before the close, as copyfileobj does, raises with the note after it."""
    taken: list[Callable[..., Any]] = []
    view = lambda file: taken.extend([getattr(file, name), getattr(file.stream, name)])  # noqa: E731 - one line
    post(make_app(framework, view), bytes(SIZES[size]))
    for method in taken:
        arguments = (0,) if name == "seek" else ()
        assert len(notes(error_of(method, *arguments))) == 1


def in_a_view(use: Callable[[FileStorage], Any], data: bytes, *, explained: bool) -> Any:
    """Return a function's result on an open file in a view."""
    results: list[Any] = []
    post(make_app("flask", lambda file: results.append(use(file)), explained=explained), data)
    return results


def iterated_twice(file: FileStorage) -> Any:
    """Exhaust one iterator, and use it again after a seek."""
    iterator = iter(file)
    first = list(iterator)
    file.seek(0)
    return first, list(iterator), iterator is file.stream._file  # type: ignore[attr-defined] # noqa: SLF001 - as it is without us


def failing_twice(file: FileStorage) -> Any:
    """Use one iterator of a closed file twice."""
    iterator = iter(file)
    next(iterator)
    file.close()
    return [str(error_of(next, iterator)) for _ in range(2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("use", [iterated_twice, failing_twice])
def test_an_iterator_behaves_as_without_explaining(use: Callable[[FileStorage], Any], size: str) -> None:
    """An iterator continues after a seek, and fails as often as it is used."""
    data = b"a line\n" * (SIZES[size] // 7)
    assert in_a_view(use, data, explained=True) == in_a_view(use, data, explained=False)


@pytest.mark.parametrize("size", SIZES)
def test_boto_hands_on_a_closed_upload_with_the_note(s3: Store, size: str) -> None:
    """The calls of boto raise the usual error, with the note on its chain."""
    for call in (
        lambda file: s3.client().put_object(Bucket="bucket", Key="k", Body=file),
        lambda file: s3.client().put_object(Bucket="bucket", Key="k", Body=file.stream),
        lambda file: s3.client().upload_fileobj(file, "bucket", "k"),
    ):
        plain = error_of(call, closed_by_the_end("flask", SIZES[size], explained=False))
        explained = error_of(call, closed_by_the_end("flask", SIZES[size]))
        assert (type(explained), str(explained)) == (type(plain), str(plain))
        assert len(notes(explained)) == 1


@pytest.mark.parametrize("size", SIZES)
def test_an_open_files_own_error_gets_no_note(size: str) -> None:
    """An open file's own errors get no note."""
    errors: list[Exception] = []
    post(make_app("flask", lambda file: errors.append(error_of(file.seek, -1))), bytes(SIZES[size]))
    assert [notes(error) for error in errors] == [[]]


def test_a_missing_descriptor_gets_no_note() -> None:
    """A missing file descriptor of a BytesIO gets no note, open or closed."""
    file = closed_by_the_end("flask", 100)
    error = error_of(file.stream._file.fileno)  # type: ignore[attr-defined] # noqa: SLF001 - people do
    assert isinstance(error, io.UnsupportedOperation)
    assert notes(error) == []


@pytest.mark.parametrize("copied", [deepcopy, pickle.dumps])
def test_a_copy_of_a_closed_file_is_explained(copied: Callable[[Any], Any]) -> None:
    """A stream in memory can be copied before its close, not after it."""
    file = closed_by_the_end("flask", 100).stream._file  # type: ignore[attr-defined] # noqa: SLF001 - a spooled file copied by half complains
    assert len(notes(error_of(copied, file))) == 1


def test_a_failure_points_at_the_caller() -> None:
    """The calls that pytest shows include none of this package."""
    with pytest.raises(ValueError, match="closed file") as caught:
        closed_by_the_end("flask", 100).read()
    shown = [entry.path for entry in caught.traceback.filter(caught)]
    assert Path(__file__) in shown
    assert not any("filehandoff" in path.parts[-3:] for path in map(Path, shown))


def test_an_error_that_is_explained_twice_has_one_note() -> None:
    """An error that passes a file twice has one note."""
    file = closed_by_the_end("flask", 100)
    error = error_of(file.read)
    file.stream._file._handoff_upload.explain(error)  # type: ignore[attr-defined] # noqa: SLF001 - as a file around it would
    assert len(notes(error)) == 1


def test_copies_of_an_open_file_are_plain_files() -> None:
    """Deepcopy and pickle of a stream in memory make plain streams, which outlive the request."""
    copies: list[Any] = []

    def view(file: FileStorage) -> None:
        stream = file.stream
        copies.extend([deepcopy(stream), pickle.loads(pickle.dumps(stream))])  # noqa: S301 - made here

    post(make_app("flask", view), b"the bytes")
    for made in copies:
        assert type(made) is SpooledTemporaryFile
        assert type(made._file) is io.BytesIO  # noqa: SLF001 - the inner buffer
        assert made.read() == b"the bytes"
        made.close()
