"""stream by itself, in both apps: files come out while the body goes in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.errors import FormMalformed
from filehandoff.form import FileStart, FormParser
from filehandoff.settings import Limits
from flask_app.handoffs import stream as threaded
from quart_app.handoffs import stream as tasked

FILES = {"a.bin": b"first\r\n--A\rfile", "empty": b"", "b.bin": bytes(range(256))}


def form(files: dict[str, bytes]) -> bytes:
    """A form with a field before, between and after the files, and a file in another field."""
    field = b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\ntext\r\n'
    other = b'--B\r\nContent-Disposition: form-data; name="other"; filename="other"\r\n\r\nnot for us\r\n'
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files.items()
    ]
    return field + other + (field + other).join(parts) + field + b"--B--\r\n"


def parser() -> FormParser:
    """A parser for such a form."""
    return FormParser("multipart/form-data", "B", None, Limits())


def by_thread(chunks: list[bytes]) -> dict[str, bytes]:
    """The files that the Flask hand-off gives to its `upload`."""
    found: dict[str, bytes] = {}

    def upload(start: FileStart, file: Iterator[bytes]) -> None:
        found[start.filename] = b"".join(file)

    threaded.hand_off(chunks, parser(), upload)
    return found


def by_task(chunks: list[bytes]) -> dict[str, bytes]:
    """The files that the Quart hand-off gives to its `upload`."""
    found: dict[str, bytes] = {}

    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def upload(start: FileStart, file: AsyncIterator[bytes]) -> None:
        found[start.filename] = b"".join([chunk async for chunk in file])

    asyncio.run(tasked.hand_off(arriving(), parser(), upload))
    return found


FilesOf: TypeAlias = Callable[[list[bytes]], dict[str, bytes]]
SHELLS = [pytest.param(by_thread, id="flask"), pytest.param(by_task, id="quart")]


@pytest.mark.parametrize("files_of", SHELLS)
@given(places=st.sets(st.integers(1, len(form(FILES)) - 1), max_size=20))
def test_files_come_whole_in_any_chunking(files_of: FilesOf, places: set[int]) -> None:
    """Each file of the field `file` comes once with its own bytes, however the body is split, and no other does."""
    body = form(FILES)
    ends = [*sorted(places), len(body)]
    chunks = [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert files_of(chunks) == FILES


@pytest.mark.parametrize("files_of", SHELLS)
def test_a_form_cut_short_is_an_error(files_of: FilesOf) -> None:
    """A body that ends before its last boundary raises, also if every file of it has ended."""
    with pytest.raises(FormMalformed):
        files_of([form(FILES)[:-10]])


def test_bytes_are_passed_on_before_the_next_are_requested() -> None:
    """Each received chunk is passed on at once, before the end of the file or the form."""
    events: list[str] = []
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

    def arriving() -> Iterator[bytes]:
        for chunk in (head, b"one" * 100, b"two" * 100, b"\r\n--B--\r\n"):
            events.append("asked")
            yield chunk

    def upload(_start: FileStart, file: Iterator[bytes]) -> None:
        events.extend("given" for _ in file)

    threaded.hand_off(arriving(), parser(), upload)
    assert events[:5] == ["asked", "asked", "given", "asked", "given"]
