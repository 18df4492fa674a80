"""After SIGTERM, uploads finish in time, or get 503 and are cleaned up."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from contract.api import CONTENT_TYPE, Api, form, part
from contract.numbers import wait_for
from faults.settings import SETTINGS
from patience import PATIENCE

from benchmarks import null_store
from demo import stack
from filehandoff.settings import MIB

FRAMEWORKS = ("flask", "quart")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A store that reads 4 MB/s, and both apps with a short drain time."""
    with null_store.running(bytes_per_second=4_000_000) as store:
        environ = SETTINGS | {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_MAX_FILE_BYTES": "64 MiB"}
        with stack.running(environ | {"UPLOAD_DRAIN_SECONDS": "4"}, log_path=tmp_path / "servers.log") as started:
            yield store, started


def begin(url: str, handoff: str, body: bytes, sent: int) -> socket.socket:
    """A connection with this many bytes of an upload's body sent."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(
        f"POST /uploads/{handoff} HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    connection.sendall(body[:sent])
    return connection


def answer(connection: socket.socket) -> bytes:
    """All bytes received until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_sigterm_undoes_what_takes_too_long(slow: tuple[null_store.NullStore, stack.Stack]) -> None:
    """An idle client and a file that S3 reads slowly get 503 overloaded.

    A small file is stored.

    Afterwards S3 has the small file and no unfinished upload, and both apps have ended by themselves.
    """
    store, started = slow
    large = form(part("file", os.urandom(48 * MIB), "large.bin"))
    small = form(part("file", b"small", "small.txt"))
    with ExitStack() as connections:

        def upload(name: str, handoff: str, body: bytes, sent: int) -> socket.socket:
            return connections.enter_context(closing(begin(started.apps[name].url, handoff, body, sent)))

        cut = [upload(name, "stream", large, 12 * MIB) for name in FRAMEWORKS]
        cut += [upload(name, "file", large, len(large)) for name in FRAMEWORKS]
        kept = [upload(name, "stream", small, len(small) - 5) for name in FRAMEWORKS]
        for name in FRAMEWORKS:
            with closing(Api(started.apps[name].url)) as app:
                wait_for(app, "uploads_in_flight", 3)
            started.apps[name].terminate()
        for connection in kept:
            connection.sendall(small[-5:])
        with ThreadPoolExecutor(len(cut) + len(kept)) as pool:
            answers = list(pool.map(answer, [*cut, *kept]))
    assert [text[9:12] for text in answers] == [b"503"] * len(cut) + [b"201"] * len(kept)
    for text in answers[: len(cut)]:
        assert b'"overloaded"' in text
        assert b"retry-after: 5\r\n" in text.lower()
    for name in FRAMEWORKS:
        started.apps[name].wait()
    stats = store.stats()
    assert stats.unfinished == {}
    assert sorted(stats.objects.values()) == [5] * len(kept)
    assert [started.apps[name].returncode for name in FRAMEWORKS] == [0, 0]
