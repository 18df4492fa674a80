"""Libraries process an open explained upload like a plain one."""

import asyncio
import csv
import io
import shutil
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import aioboto3
import pytest
from PIL import Image
from unit.explain import store
from unit.explain.apps import FRAMEWORKS, NEEDS_QUART, make_app, post
from unit.explain.conftest import Store
from werkzeug.datastructures import FileStorage

#: Enough lines for the form parser to write the table to disk.
ROWS = {"in memory": 10, "rolled over": 60_000}


def table(rows: int) -> bytes:
    """Return a CSV table."""
    return b"".join(b"%d,line\n" % number for number in range(rows))


def archive(rows: int) -> bytes:
    """Return a ZIP archive with the table, uncompressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("table.csv", table(rows))
    return made.getvalue()


def picture(rows: int) -> bytes:
    """Return an uncompressed picture."""
    made = io.BytesIO()
    Image.new("RGB", (rows // 10, 40), "red").save(made, "BMP")
    return made.getvalue()


def copied(file: FileStorage) -> Any:
    """Copy by shutil."""
    target = io.BytesIO()
    shutil.copyfileobj(file, target)
    return target.getvalue()


def text(file: FileStorage) -> Any:
    """Read by a TextIOWrapper around the stream, and detach it."""
    wrapper = io.TextIOWrapper(file.stream, "ascii")
    lines = list(csv.reader(wrapper))
    wrapper.detach()
    return lines, file.seek(0)


def text_of_the_storage(file: FileStorage) -> Any:
    """Read by a TextIOWrapper around the FileStorage."""
    wrapper: Any = io.TextIOWrapper(file, "ascii")
    content = wrapper.read()
    wrapper.detach()
    return content


def unpacked(file: FileStorage) -> Any:
    """Unpack by zipfile, from the FileStorage and from its stream."""
    with zipfile.ZipFile(file) as first, zipfile.ZipFile(file.stream) as second:
        return first.read("table.csv"), second.namelist()


def opened(file: FileStorage) -> Any:
    """Open by Pillow."""
    with Image.open(file.stream) as image:
        return image.size, image.getpixel((0, 0))


def read_into_a_table(file: FileStorage) -> Any:
    """Read by pandas, which only nox's environment has."""
    pandas = pytest.importorskip("pandas", reason="heavy: nox installs it")
    return pandas.read_csv(file, header=None).to_csv(), file.seek(0), pandas.read_csv(file.stream).shape


def line_by_line(file: FileStorage) -> Any:
    """Loop over the FileStorage, then over its stream."""
    lines = list(file)
    file.seek(0)
    return lines, list(file.stream)


def by_everything_else(file: FileStorage) -> Any:
    """Call the other methods of a file."""
    stream: Any = file.stream
    buffer = bytearray(5)
    return (
        (stream.readline(), stream.tell(), stream.readinto(buffer), buffer, stream.read1(3)),
        (stream.seekable(), stream.readable(), stream.writable(), stream.isatty()),
        (stream.seek(0, io.SEEK_END), stream.seek(-3, io.SEEK_CUR), stream.read(), stream.closed),
        (stream.seek(2), stream.truncate(), stream.write(b"more"), stream.flush(), stream.seek(0), stream.read()),
        (isinstance(stream, io.IOBase), isinstance(stream._file, io.BufferedIOBase), type(stream).__name__),  # noqa: SLF001 - people do
    )


def in_threads(file: FileStorage) -> Any:
    """Read in another thread."""
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(file.read()))
    thread.start()
    thread.join()
    return read


USERS: dict[str, tuple[Callable[[FileStorage], Any], Callable[[int], bytes]]] = {
    "shutil": (copied, table),
    "csv by TextIOWrapper": (text, table),
    "TextIOWrapper of the storage": (text_of_the_storage, table),
    "zipfile": (unpacked, archive),
    "Pillow": (opened, picture),
    "pandas": (read_into_a_table, table),
    "iteration": (line_by_line, table),
    "all methods": (by_everything_else, table),
    "a thread": (in_threads, table),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("user", USERS)
def test_a_library_takes_an_explained_file_as_it_takes_a_plain_one(user: str, framework: str, rows: str) -> None:
    """A library's result is the same with and without explaining."""
    use, data = USERS[user]
    results: list[Any] = []
    for explained in (True, False):
        post(make_app(framework, lambda file: results.append(use(file)), explained=explained), data(ROWS[rows]))
    assert results[0] == results[1]
    assert results[0]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("of_the_stream", [True, False], ids=["stream", "storage"])
@pytest.mark.parametrize("method", ["put_object", "upload_fileobj"])
def test_boto3_takes_an_explained_file(s3: Store, method: str, of_the_stream: bool, rows: str) -> None:  # noqa: FBT001 - parametrised
    """boto3 stores the whole file."""
    data = table(ROWS[rows])

    def view(file: FileStorage) -> None:
        body: Any = file.stream if of_the_stream else file
        if method == "put_object":
            s3.client().put_object(Bucket="bucket", Key="boto3", Body=body)
        else:
            s3.client().upload_fileobj(body, "bucket", "boto3")

    s3.objects.clear()
    post(make_app("flask", view), data)
    assert s3.objects == {"/bucket/boto3": data}


@NEEDS_QUART
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("method", ["put_object", "upload_fileobj"])
def test_aioboto3_takes_an_explained_file(s3: Store, method: str, rows: str) -> None:
    """aioboto3 stores the whole file by put_object, from the stream, since it accepts no FileStorage."""
    data = table(ROWS[rows])

    async def view(file: FileStorage) -> None:
        body: Any = file
        async with aioboto3.Session().client("s3", endpoint_url=s3.url, **store.OPTIONS) as client:
            if method == "put_object":
                await client.put_object(Bucket="bucket", Key="aioboto3", Body=file.stream)
            else:
                await client.upload_fileobj(body, "bucket", "aioboto3")

    s3.objects.clear()
    post(make_app("quart", view), data)
    assert s3.objects == {"/bucket/aioboto3": data}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_frameworks_save_writes_the_whole_file(framework: str, rows: str, tmp_path: Any) -> None:
    """`file.save()`, awaited in Quart, writes the whole file."""
    data = table(ROWS[rows])
    post(make_app(framework, lambda file: file.save(tmp_path / "saved")), data)
    assert (tmp_path / "saved").read_bytes() == data


@NEEDS_QUART
@pytest.mark.parametrize("rows", ROWS)
def test_reading_in_an_executor_is_as_before(rows: str) -> None:
    """asyncio.to_thread reads the whole file, as async views do."""
    data = table(ROWS[rows])
    read: list[bytes] = []

    async def view(file: FileStorage) -> None:
        read.append(await asyncio.to_thread(file.read))

    post(make_app("quart", view), data)
    assert read == [data]
