"""Clients that are killed at any byte, again and again: afterwards nothing is left of them anywhere."""

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from contract.api import CONTENT_TYPE, form, part
from faults.processes import Processes

from benchmarks import null_store
from demo import stack
from handoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
#: Three parts of the smallest size.
BODY = form(part("note", b"before"), part("file", os.urandom(12 * MIB), "large.bin"), part("note", b"after"))
AT_ONCE = 8
SETTLE_SECONDS = 20.0
#: By how much memory may grow from one hundred to the next: by what the allocator has in use when it needs more. What
#: is held on to of each upload is ten times that.
KEPT_BYTES = 80 * MIB


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A store that keeps nothing, and both apps."""
    with null_store.running() as store:
        environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_PART_BYTES": "5 MiB"}
        with stack.running(environ | {"UPLOAD_DRAIN_SECONDS": "1"}, log_path=tmp_path / "servers.log") as started:
            yield store, started


def kill(url: str, seed: int) -> None:
    """Send an upload up to a random byte, at most all but the last, and go: by a reset or by an orderly close."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST /uploads HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    with closing(socket.create_connection((host, int(port)), timeout=60)) as connection:
        connection.sendall(head.encode() + BODY[: chance.randrange(len(BODY))])
        if chance.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def clients_of(url: str) -> int:
    """How many connections from clients a server holds open, from the kernel's own table."""
    port = f":{int(url.rsplit(':', 1)[1]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established, close_wait = "01", "08"
    return sum(line[1].endswith(port) and line[3] in {established, close_wait} for line in lines)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_killed_client_leaves_nothing(
    running: tuple[null_store.NullStore, stack.Stack], name: str, pytestconfig: pytest.Config
) -> None:
    """S3 holds no object and no unfinished upload, the app no connection and no more threads and memory than before."""
    store, started = running
    server = started.apps[name]
    app = Processes(server.pid)
    kills = pytestconfig.getoption("kills")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(kill, [server.url] * kills, range(kills)))
        settle(store, server.url)
        threads, memory = app.threads(), app.resident()
        list(pool.map(kill, [server.url] * kills, range(kills, 2 * kills)))
    settle(store, server.url)
    stats = store.stats()
    assert (stats.objects, stats.unfinished, clients_of(server.url)) == ({}, {}, 0)
    assert stats.requests["CreateMultipartUpload"] > kills / 2  # many were killed in the middle of parts
    assert app.threads() <= threads + AT_ONCE  # gunicorn's pool grows to what is asked of it at once
    assert app.resident() - memory < KEPT_BYTES


def settle(store: null_store.NullStore, url: str) -> None:
    """Wait until no upload is unfinished and no client connected, or for as long as that may take."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline and (store.stats().unfinished or clients_of(url)):
        time.sleep(0.1)
