"""The note names the closer in the shape of public reports: libraries, pipes, job queues, streamed responses.

A library that this project does not depend on is a module in a folder `site-packages`, with the shape of its report.
"""

import csv
import io
import json
import queue
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import boto3.s3.inject
import flask
import pytest
from patience import PATIENCE
from PIL import Image
from unit.explain.apps import FRAMEWORKS, SIZES, make_app, notes, post
from unit.explain.conftest import Store
from werkzeug.datastructures import FileStorage

from filehandoff.explain import close_record, explanation

LIBRARIES = {
    # pandas: `read_csv` of a binary file with an encoding
    "tables": """
import csv
import io


def read_csv(handle, encoding):
    text = io.TextIOWrapper(handle, encoding)
    rows = list(csv.reader(text))
    text.close()
    return rows
""",
    # openpyxl: a workbook opened with `read_only=True` keeps the archive, and reads a sheet on demand
    "sheets": """
import zipfile


class Workbook:
    def __init__(self, file):
        self._archive = zipfile.ZipFile(file)

    def rows(self):
        with self._archive.open("sheet.csv") as sheet:
            yield from sheet
""",
    # Flask-Executor: `submit` runs the function in a copy of the request context
    "executors": """
from flask import copy_current_request_context


def submit(pool, function, *args):
    return pool.submit(copy_current_request_context(function), *args)
""",
}
END = {
    "flask": "the end of the request: its context was popped (flask.app:wsgi_app)",
    "quart": "the end of the request: its context was popped (quart.app:handle_request)",
}
TOO_LATE = ", which closes every file of the request; this reader came too late"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that imports a library from a folder `site-packages`."""

    def load(name: str) -> Any:
        folder = tmp_path / "site-packages"
        folder.mkdir()
        (folder / f"public_{name}.py").write_text(LIBRARIES[name], "utf-8")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, f"public_{name}", raising=False)
        return import_module(f"public_{name}")

    return load


def note_of(view: Callable[[FileStorage], Any], data: bytes = b"a,b\n", read: Any = None) -> str:
    """Return the note on the error of a view in Flask, or of `read` after the request."""
    kept: list[Any] = []

    def post_and_read() -> None:
        post(make_app("flask", lambda file: kept.append(view(file))), data)
        read(kept[0])

    with pytest.raises(ValueError, match="closed file") as caught:
        post_and_read()
    [note] = notes(caught.value)
    return note


def closer(note: str) -> str:
    """Return the note's text about the closer."""
    assert note.startswith("The upload 'hello.txt' of the form field 'photo' was closed by ")
    return note.partition(" was closed by ")[2].partition(". That was in ")[0]


def archive() -> bytes:
    """Return a ZIP archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("sheet.csv", "a,b\n" * 200_000)
    return made.getvalue()


def picture() -> bytes:
    """Return a picture."""
    made = io.BytesIO()
    Image.new("RGB", (500, 400), "red").save(made, "BMP")
    return made.getvalue()


# ---- libraries that close the file, or read it later


def test_a_table_reader_that_closes_is_named(library: Callable[[str], Any]) -> None:
    """The `read_csv` of pandas closed the file of its caller (pandas-dev/pandas#36980); pandas 1.1 in shape."""
    tables = library("tables")

    def view(file: FileStorage) -> None:
        assert tables.read_csv(file.stream, "utf-8") == [["a", "b"]]
        file.seek(0)

    said = closer(note_of(view))
    assert said.startswith(f"public_tables:read_csv, called by the app's own code at {__file__}:")
    assert said.endswith(' (`assert tables.read_csv(file.stream, "utf-8") == [["a", "b"]]`)')


def test_a_workbook_read_after_the_request_is_explained(library: Callable[[str], Any]) -> None:
    """A read-only workbook of openpyxl reads its file late (petl-developers/petl#514); openpyxl in shape."""
    sheets = library("sheets")
    note = note_of(lambda file: sheets.Workbook(file.stream), archive(), lambda workbook: list(workbook.rows()))
    assert closer(note) == END["flask"] + TOO_LATE


def test_a_member_of_an_archive_read_after_the_request_is_explained() -> None:
    """`ZipFile.open` reads its member late (python/cpython#81704)."""

    def view(file: FileStorage) -> Any:
        return zipfile.ZipFile(file.stream).open("sheet.csv")

    note = note_of(view, archive(), lambda member: member.read())
    assert closer(note) == END["flask"] + TOO_LATE


def test_an_archive_leaves_the_file_open() -> None:
    """`with ZipFile(file)` closes no file that it was given, so the next reader has the whole file."""
    sizes: list[int] = []

    def view(file: FileStorage) -> None:
        with zipfile.ZipFile(file.stream) as opened:
            opened.namelist()
        sizes.append(file.seek(0, io.SEEK_END))

    data = archive()
    post(make_app("flask", view), data)
    assert sizes == [len(data)]


@pytest.mark.parametrize("of", [lambda file: file, lambda file: file.stream], ids=["storage", "stream"])
def test_a_picture_loaded_after_the_request_is_explained(of: Callable[[FileStorage], Any]) -> None:
    """Pillow opens lazily, so `load` reads the closed file (zdaxie/PixPro#12)."""
    note = note_of(lambda file: Image.open(of(file)), picture(), lambda image: image.load())
    assert closer(note) == END["flask"] + TOO_LATE


def test_a_picture_that_the_view_closes_is_named() -> None:
    """`Image.close` closes the file that it was given (django-ckeditor/django-ckeditor#550)."""

    def view(file: FileStorage) -> None:
        image = Image.open(file.stream)
        image.close()  # and with it the upload
        file.seek(0)

    said = closer(note_of(view, picture()))
    assert re.match(rf"PIL\.Image(File)?:_close_fp, called by the app's own code at {re.escape(__file__)}:", said)
    assert said.endswith(" (`image.close()  # and with it the upload`)")


def test_a_csv_reader_left_in_a_function_is_named() -> None:
    """The TextIOWrapper of a csv reader closes the upload with the end of its function (pandas-dev/pandas#14418)."""

    def rows(file: FileStorage) -> list[list[str]]:
        return list(csv.reader(io.TextIOWrapper(file.stream)))

    def view(file: FileStorage) -> None:
        assert rows(file) == [["a", "b"]]
        file.seek(0)

    assert closer(note_of(view)).startswith("a TextIOWrapper or another wrapper, which closes its file when Python ")


# ---- pipes of another process

#: A process in the place of ffmpeg: it reads its input to the end.
SINK = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Run the process."""
    with subprocess.Popen(SINK, stdin=subprocess.PIPE) as running:  # noqa: S603 - ours
        yield running
        with suppress(ValueError):
            running.communicate()


@pytest.mark.parametrize("size", SIZES)
def test_a_thread_that_feeds_a_pipe_after_the_response_is_explained(size: str, process: Any) -> None:
    """A thread writes the upload into ffmpeg's input (kkroening/ffmpeg-python#72), and the request ends first."""
    over = threading.Event()

    def feed(file: FileStorage) -> None:
        assert over.wait(PATIENCE)
        while data := file.read(1024):
            process.stdin.write(data)

    def read(future: Any) -> None:
        over.set()
        future.result(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        note = note_of(lambda file: pool.submit(feed, file), bytes(SIZES[size]), read)
    assert closer(note) == END["flask"] + TOO_LATE


@pytest.mark.parametrize("size", SIZES)
def test_a_process_takes_the_upload_as_its_input(size: str) -> None:
    """`stdin=file` takes the file's descriptor (kkroening/ffmpeg-python#81), and leaves the upload open."""
    counted: list[Any] = []
    count = [sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()))"]

    def view(file: FileStorage) -> None:
        file.fileno()  # a file in memory moves to disk here, with the position at its end
        file.seek(0)
        done = subprocess.run(count, stdin=file.stream, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ours
        counted.append((int(done.stdout), file.closed))

    post(make_app("flask", view), bytes(SIZES[size]))
    assert counted == [(SIZES[size], False)]


def test_a_pipe_that_the_app_closed_has_no_note(process: Any) -> None:
    """The closed file of `flush of closed file` is ffmpeg's input, no upload (navotvolkgroundup/sofit#3)."""

    def view(file: FileStorage) -> None:
        file.close()
        process.stdin.close()
        process.stdin.write(b"")

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert notes(caught.value) == []


# ---- job queues


def test_a_consumer_of_a_queue_is_explained(tmp_path: Path) -> None:
    """A thread saves the uploads that it takes from a queue (pallets/werkzeug#1685)."""
    uploads: queue.Queue[FileStorage] = queue.Queue()
    with ThreadPoolExecutor(1) as pool:
        consumer = pool.submit(lambda: uploads.get(timeout=PATIENCE).save(tmp_path / "saved"))
        kept: list[FileStorage] = []
        post(make_app("flask", kept.append), b"x")
        uploads.put(kept[0])
        error = consumer.exception(PATIENCE)
    assert isinstance(error, ValueError)
    assert closer(notes(error)[0]) == END["flask"] + TOO_LATE


def resize(file: FileStorage) -> bytes:
    """Read a file, as a job."""
    data: bytes = file.read()
    return data


def test_an_executor_that_copies_the_context_is_named(library: Callable[[str], Any]) -> None:
    """Flask-Executor wraps each job in a copied context (dchevell/flask-executor#2), whose end closes the upload.

    Flask-Executor in shape.
    """
    executors = library("executors")

    def view(file: FileStorage) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert executors.submit(pool, resize, file).result() == b"a,b\n"
        file.seek(0)

    note = note_of(view)
    assert closer(note).startswith(
        f"the pop of a copied request context: resize ({__file__}:{resize.__code__.co_firstlineno}) is wrapped in "
        "copy_current_request_context, and when it returned, leaving its copy of the context closed every file"
    )
    assert note.endswith("run `python -m filehandoff.explain copied-context`.")


def test_a_job_queue_cannot_send_the_upload() -> None:
    """Celery cannot serialize a FileStorage (celery/celery#5650): an error without a note, as no file is closed."""

    def view(file: FileStorage) -> None:
        json.dumps({"args": [file]})

    with pytest.raises(TypeError, match="FileStorage is not JSON serializable") as caught:
        post(make_app("flask", view), b"x")
    assert notes(caught.value) == []


# ---- responses that are sent after the view


def streamed(framework: str, respond: Callable[[Any, FileStorage], Any]) -> tuple[bytes, list[ValueError]]:
    """Return the body of a response made from the upload, and the errors of its generator."""
    module: Any = import_module(framework)
    errors: list[ValueError] = []
    app = make_app(framework, lambda _file: None)

    def body(file: FileStorage) -> Iterator[bytes]:
        try:
            yield file.read()
        except ValueError as error:
            errors.append(error)

    if framework == "flask":
        app.post("/streamed")(lambda: respond(module, body(module.request.files["photo"])))  # type: ignore[arg-type]
        return app.test_client().post("/streamed", data={"photo": (io.BytesIO(b"x"), "hello.txt")}).data, errors

    async def view() -> Any:
        return respond(module, body((await module.request.files)["photo"]))  # type: ignore[arg-type]

    async def send() -> bytes:
        files = {"photo": FileStorage(io.BytesIO(b"x"), "hello.txt")}
        response = await app.test_client().post("/streamed", files=files)
        return bytes(await response.get_data())

    app.post("/streamed")(view)
    return import_module("asyncio").run(send()), errors


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_generator_of_a_response_reads_too_late(framework: str) -> None:
    """The body's generator runs when the request has ended (spantaleev/flask-sijax#7)."""
    data, errors = streamed(framework, lambda module, body: module.Response(body))
    assert data == b""
    assert closer(notes(errors[0])[0]) == END[framework] + TOO_LATE


def test_a_generator_with_the_context_reads_the_file_or_is_explained() -> None:
    """`stream_with_context` keeps the files open in Flask 2.2 and 3.2; Flask 3.1.3 closes them first."""
    data, errors = streamed("flask", lambda module, body: module.Response(module.stream_with_context(body)))
    closers = [closer(notes(error)[0]) for error in errors]
    assert (data, closers) in [(b"x", []), (b"", [END["flask"] + TOO_LATE])]


def test_an_upload_sent_back_is_closed_before_it_is_sent() -> None:
    """`send_file` reads when the server sends the response (pallets/flask#1934), which is after the request."""
    app = make_app("flask", lambda _file: None)

    @app.post("/echo")  # type: ignore[untyped-decorator] # the app is Any
    def echo() -> Any:
        return flask.send_file(flask.request.files["photo"].stream, mimetype="text/plain")

    with pytest.raises(ValueError, match="closed file") as caught:
        app.test_client().post("/echo", data={"photo": (io.BytesIO(b"x"), "hello.txt")})
    assert closer(notes(caught.value)[0]) == END["flask"] + TOO_LATE


# ---- test clients


def test_a_file_that_a_test_client_closed_is_no_upload() -> None:
    """A test client closes the files that it sends (pallets/werkzeug#1785); a second use fails without a note."""
    app, data = make_app("flask", lambda _file: None), io.BytesIO(b"x")
    app.test_client().post("/", data={"photo": (data, "hello.txt")})
    assert data.closed
    with pytest.raises(ValueError, match="closed file") as caught:
        app.test_client().post("/", data={"photo": (data, "hello.txt")})
    assert explanation(caught.value) is None


# ---- boto3's CRT transfer manager

#: The part of s3transfer's module that matters here: it serializes the request by a client of its own, and closes no
#: file. With awscrt 0.38.1, the real one leaves the upload open too, and the notes are the same.
CRT = """
class CRTTransferManager:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def upload(self, fileobj, **more):
        fileobj.seek(0)
        self.read = fileobj.read()
        return self

    def result(self):
        pass
"""


@pytest.fixture
def crt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make boto3 use the CRT transfer manager, as it does with awscrt on some instance types."""
    module: dict[str, Any] = {"__name__": "s3transfer.crt"}
    exec(CRT, module)  # noqa: S102 - ours
    monkeypatch.setattr(boto3.s3.inject, "create_transfer_manager", lambda *_args: module["CRTTransferManager"]())


def add_user(params: dict[str, Any], **_event: object) -> None:
    """Do nothing, as an app's hook."""
    params["Metadata"] = {"path": flask.request.path}


@pytest.mark.usefixtures("crt")
def test_the_crt_leaves_the_file_open(s3: Store) -> None:
    """An upload by the CRT transfer manager closes nothing, and a copied hook cannot close the file either."""
    opened: list[bool] = []

    def view(file: FileStorage) -> None:
        client = s3.client()
        hook = flask.copy_current_request_context(add_user)
        client.meta.events.register("before-parameter-build.s3.PutObject", hook)
        client.upload_fileobj(file.stream, "bucket", "k")
        opened.append(not file.closed)

    post(make_app("flask", view), b"x")
    assert opened == [True]


SKIPPED = (
    "The client has boto hooks that did not run, {hook}: this upload uses the CRT transfer manager, which has a client "
    "of its own; TransferConfig(preferred_transfer_client='classic') runs them."
)


@pytest.mark.usefixtures("crt")
@pytest.mark.parametrize("copied", [True, False], ids=["copied hook", "plain hook"])
def test_hooks_that_the_crt_skips_are_named(s3: Store, copied: bool) -> None:  # noqa: FBT001 - parametrised
    """The CRT transfer manager ignores the app's client (boto/boto3#4839), so the note names the hooks on it."""
    hook = f"add_user ({__file__}:{add_user.__code__.co_firstlineno})"

    def view(file: FileStorage) -> None:
        client = s3.client()
        function = flask.copy_current_request_context(add_user) if copied else add_user
        for event in ("before-parameter-build.s3.PutObject", "before-call.s3"):
            client.meta.events.register(event, function)
        file.close()
        client.upload_fileobj(file.stream, "bucket", "k")

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    [note] = notes(caught.value)
    assert f" after the view began. {SKIPPED.format(hook=hook)} To fix it, close nothing before the last use" in note
    record = close_record(caught.value)
    assert record is not None
    assert record.skipped == SKIPPED.format(hook=hook.replace(__file__, "unit/explain/test_reports.py"))


@pytest.mark.usefixtures("crt")
def test_a_client_without_hooks_has_none_to_name(s3: Store) -> None:
    """The note names no hooks that botocore itself registers."""

    def view(file: FileStorage) -> None:
        file.close()
        s3.client().upload_fileobj(file.stream, "bucket", "k")

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert "boto hooks" not in notes(caught.value)[0]


@pytest.mark.usefixtures("crt")
def test_a_boto_without_its_list_of_hooks_is_no_error(s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for hooks reads undocumented parts of boto; if they change, the note just lacks the hooks."""

    def view(file: FileStorage) -> None:
        client = s3.client()
        client.meta.events.register("before-call.s3", add_user)
        monkeypatch.delattr(client.meta.events, "_emitter")
        file.close()
        client.upload_fileobj(file.stream, "bucket", "k")

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert notes(caught.value)[0].startswith("The upload 'hello.txt' ")
    assert "boto hooks" not in notes(caught.value)[0]


def test_the_classic_transfer_manager_runs_the_hooks(s3: Store) -> None:
    """Without the CRT, the note names no skipped hooks."""

    def view(file: FileStorage) -> None:
        client = s3.client()
        client.meta.events.register("before-parameter-build.s3.PutObject", add_user)
        file.close()
        client.upload_fileobj(file.stream, "bucket", "k")

    with pytest.raises(ValueError, match="closed file") as caught:
        post(make_app("flask", view), b"x")
    assert "boto hooks" not in notes(caught.value)[0]
