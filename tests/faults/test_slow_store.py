"""With a slow store, `stream` holds only the parts in flight and no file."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from contract.api import CONTENT_TYPE, Api, form, part
from faults.processes import Processes
from patience import PATIENCE

from benchmarks import null_store
from demo import stack
from evidence import figures
from filehandoff.parts import PartSizes, peak_memory
from filehandoff.settings import MIB, Settings

FRAMEWORKS = ("flask", "quart")
SIZE = 96 * MIB
#: Bytes per second that the store reads of each app.
BYTES_PER_SECOND = 40_000_000
#: The app whose sockets count as written: uvloop calls `write` for them.
WRITES_TO_SOCKETS = "quart" if stack.QUART_SERVER == "uvicorn" else None


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A slow store that keeps nothing, and both apps with their default parts."""
    log = tmp_path_factory.mktemp("slow") / "servers.log"
    with null_store.running(bytes_per_second=len(FRAMEWORKS) * BYTES_PER_SECOND) as store:
        patient = {"UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE), "UPLOAD_S3_READ_TIMEOUT": str(PATIENCE)}
        environ = {**store.environ, **patient, "UPLOAD_S3": store.endpoint_url}
        with stack.running(environ, log_path=log) as started:
            yield store, started


def send(url: str, path: str, size: int) -> bytes:
    """Upload random bytes as fast as the app accepts them; return the answer."""
    host, port = url.removeprefix("http://").split(":")
    block = os.urandom(MIB)
    before, after = form(part("file", b"|", "large.bin")).split(b"|")
    length = len(before) + size + len(after)
    with closing(socket.create_connection((host, int(port)), timeout=PATIENCE)) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
        )
        connection.sendall(before)
        for start in range(0, size, MIB):
            connection.sendall(block[: size - start])
        connection.sendall(after)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def to_sockets(framework: str, size: int) -> int:
    """Bytes that count as written while an app sends this many to the store."""
    return size if framework == WRITES_TO_SOCKETS else 0


@pytest.mark.parametrize("at_once", [1, 4])
def test_memory_stays_below_the_formula(slow: tuple[null_store.NullStore, stack.Stack], at_once: int) -> None:
    """With a slow store, neither app exceeds the formula or writes a file."""
    store, started = slow
    apps = {name: Processes(started.apps[name].pid) for name in FRAMEWORKS}
    for name in FRAMEWORKS:
        assert b"201" in send(started.apps[name].url, "/uploads", 1000)[:20]
    for app in apps.values():
        app.forget_peak()
    idle = {name: app.resident() for name, app in apps.items()}
    written = {name: app.written() for name, app in apps.items()}
    with ThreadPoolExecutor(at_once * len(FRAMEWORKS)) as pool:
        urls = [started.apps[name].url for name in FRAMEWORKS] * at_once
        answers = list(pool.map(lambda url: send(url, "/uploads", SIZE), urls))
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"201"] * len(answers)
    settings = Settings()
    allowed = peak_memory(at_once, settings.parts_in_flight, settings.part_sizes)
    grown = {name: app.peak() - idle[name] for name, app in apps.items()}
    sizes = {name: round(size / MIB) for name, size in {"allowed": allowed, "size": SIZE, **grown}.items()}
    print(figures.line("part-memory", at_once=at_once, rate=BYTES_PER_SECOND // 10**6, **sizes))  # noqa: T201 - a table's
    assert {name: size for name, size in grown.items() if size > allowed} == {}
    on_disk = {name: app.written() - written[name] - to_sockets(name, at_once * SIZE) for name, app in apps.items()}
    assert {name: size for name, size in on_disk.items() if size > MIB} == {}
    assert store.stats().unfinished == {}


def test_a_file_on_disk_counts_as_written(slow: tuple[null_store.NullStore, stack.Stack]) -> None:
    """The check above can fail: `temp_file` writes a file twice, and it shows."""
    _, started = slow
    for name in FRAMEWORKS:
        app = Processes(started.apps[name].pid)
        before = app.written()
        send(started.apps[name].url, "/uploads/temp_file", 10 * MIB)
        assert app.written() - before - to_sockets(name, 10 * MIB) >= 20 * MIB


def test_the_formula_is_reported(slow: tuple[null_store.NullStore, stack.Stack]) -> None:
    """/strategies reports the peak memory for the process's limit of uploads."""
    _, started = slow
    for name in FRAMEWORKS:
        with closing(Api(started.apps[name].url)) as app:
            formula = app.strategies["peak_memory"]
        assert formula["bytes"] == peak_memory(formula["uploads"], 4, PartSizes(formula["largest_part_bytes"], 1))
