"""Slow and broken downloads cost little memory and release their S3 connection.

The last test ends the apps.
"""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest
from contract.api import Api, check_problem
from faults.processes import Processes
from faults.settings import SHORT_STORE_TIMEOUTS
from patience import PATIENCE, wait_until

from demo import stack
from filehandoff.keys import new_key
from filehandoff.s3.cleanup import END_SECONDS
from filehandoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
SIZE = 200 * MIB
#: Bytes of an object; more than the sockets between store and client can buffer.
LEFT_SIZE = 24 * MIB
#: Bytes that a client reads before it pauses or leaves, and its receive buffer, which could be megabytes.
FIRST_BYTES = 64 * 1024
#: Seconds that a client pauses; in this time the app could read the whole object.
PAUSE_SECONDS = 1.5
#: Seconds until an idle client is cut off; longer than PAUSE_SECONDS even on a busy machine.
IDLE_SECONDS = 5.0
#: Seconds that downloads may take at shutdown.
DRAIN_SECONDS = 1.0
#: Seconds, with a margin, after which gunicorn kills a stuck worker.
STUCK_SECONDS = END_SECONDS - 3
#: Allowed growth of a process during a download: a few chunks, and the allocator's reserve.
ALLOWED = 4 * MIB


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps.

    Moto needs the default timeout to copy a large object before it answers.
    """
    log = tmp_path_factory.mktemp("downloads") / "servers.log"
    environ = {"UPLOAD_S3": "moto", "UPLOAD_BUCKET": "faults"}
    environ |= {"UPLOAD_IDLE_TIMEOUT": str(IDLE_SECONDS), "UPLOAD_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with stack.running(environ, log_path=log) as started:
        yield started


def put(running: stack.Stack, size: int) -> tuple[str, str]:
    """Store an object of this size; return its key and SHA-256."""
    key, data = new_key("", "large.bin"), os.urandom(MIB) * (size // MIB)
    with closing(running.store.client()) as client:
        client.put_object(Bucket="faults", Key=key, Body=data)
    return key, hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def left(running: stack.Stack) -> str:
    """The key of an object that no client reads to its end."""
    return put(running, LEFT_SIZE)[0]


def ask(running: stack.Stack, framework: str, key: str) -> socket.socket:
    """Request an object without reading the answer."""
    url = urlsplit(running.apps[framework].url)
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FIRST_BYTES)
    connection.connect((url.hostname, url.port))
    connection.sendall(f"GET /objects/{key} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    return connection


def to_store(running: stack.Stack, framework: str) -> int:
    """Number of an app's connections to the store; moto keeps no idle ones."""
    port = urlsplit(running.store.endpoint_url).port
    assert port is not None
    return Processes(running.apps[framework].pid).connections(port)


def wait_for_connections(running: stack.Stack, framework: str, expected: int) -> None:
    """Wait until an app has this many connections to the store."""
    wait_until(
        lambda: to_store(running, framework) == expected,
        lambda: f"{to_store(running, framework)} connections, not {expected}",
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_goes_away_ends_the_transfer_from_s3(running: stack.Stack, left: str, framework: str) -> None:
    """A client that leaves during its download makes the app close the store's answer early."""
    wait_for_connections(running, framework, 0)
    with closing(ask(running, framework, left)) as connection:
        assert connection.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        wait_for_connections(running, framework, 1)
    wait_for_connections(running, framework, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_does_not_wait_ends_it_too(running: stack.Stack, left: str, framework: str) -> None:
    """Clients that leave before the first byte leave no connection to S3 open."""
    for step in range(20):
        with closing(ask(running, framework, left)):
            time.sleep(step / 500)
    wait_for_connections(running, framework, 0)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps, with one S3 connection for each purpose."""
    log = tmp_path_factory.mktemp("narrow") / "servers.log"
    few = {"UPLOAD_MAX_CONCURRENT": "1", "UPLOAD_PARTS_IN_FLIGHT": "1", **SHORT_STORE_TIMEOUTS}
    with stack.running({"UPLOAD_S3": "moto", "UPLOAD_BUCKET": "faults", **few}, log_path=log) as started:
        yield started


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_slow_download_keeps_nothing_else_waiting(narrow: stack.Stack, framework: str) -> None:
    """While a download holds its only connection, HEAD and uploads work."""
    key = put(narrow, LEFT_SIZE)[0]
    with closing(ask(narrow, framework, key)) as slow, closing(Api(narrow.apps[framework].url)) as app:
        assert slow.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        assert app.send("HEAD", f"/objects/{key}").status_code == 200
        for handoff in ("stream", "presigned"):
            assert app.upload_file(b"a small file", handoff).status_code == 201


def test_a_download_waits_for_a_connection_as_long_as_for_s3(narrow: stack.Stack) -> None:
    """In Quart, a download without a free connection gets 503 after the S3 timeout.

    In Flask each thread has one.
    """
    key = put(narrow, LEFT_SIZE)[0]
    with closing(ask(narrow, "quart", key)) as slow, closing(Api(narrow.apps["quart"].url)) as app:
        assert slow.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        check_problem(app.send("GET", f"/objects/{key}"), 503, "store-unavailable")


def read_slowly(running: stack.Stack, framework: str, key: str) -> str:
    """Download an object with a pause after the first bytes; return its SHA-256."""
    with closing(ask(running, framework, key)) as connection, connection.makefile("rb") as answer:
        assert answer.readline().startswith(b"HTTP/1.1 200")
        while answer.readline().strip():
            pass
        digest = hashlib.sha256(answer.read(FIRST_BYTES))
        time.sleep(PAUSE_SECONDS)
        while chunk := answer.read(FIRST_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def test_a_slow_client_costs_no_memory(running: stack.Stack) -> None:
    """While a client pauses, no app holds more than a few chunks."""
    key, sha256 = put(running, SIZE)
    apps = {name: Processes(running.apps[name].pid) for name in FRAMEWORKS}
    idle = {}
    for name, app in apps.items():
        app.forget_peak()
        idle[name] = app.resident()
    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        digests = list(pool.map(lambda name: read_slowly(running, name, key), FRAMEWORKS))
    assert digests == [sha256] * len(FRAMEWORKS)
    grown = {name: app.peak() - idle[name] for name, app in apps.items()}
    assert {name: size for name, size in grown.items() if size > ALLOWED} == {}


def wait_for_end(connection: socket.socket, bytes_at_once: int = 0) -> None:
    """Wait until the app ends a download that the client reads slowly."""
    deadline = time.monotonic() + PATIENCE
    with suppress(ConnectionError):
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if bytes_at_once and not connection.recv(bytes_at_once):
                return
            connection.sendall(b"\r\n")  # pipelined bytes are not read, but a reset shows
        pytest.fail("the download does not end")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_stops_reading_is_cut_off(running: stack.Stack, left: str, framework: str) -> None:
    """A client that stops reading is cut off, with its S3 connection."""
    wait_for_connections(running, framework, 0)
    with closing(ask(running, framework, left)) as connection:
        wait_for_connections(running, framework, 1)
        wait_for_end(connection)
        wait_for_connections(running, framework, 0)


def test_sigterm_ends_downloads(running: stack.Stack, left: str) -> None:
    """At shutdown, slow and idle downloads are cut off.

    Both apps end by themselves within the drain time.
    """
    with ExitStack() as exits, ThreadPoolExecutor(2 * len(FRAMEWORKS)) as pool:

        def asked() -> list[socket.socket]:
            return [exits.enter_context(closing(ask(running, name, left))) for name in FRAMEWORKS]

        moving = [pool.submit(wait_for_end, connection, FIRST_BYTES) for connection in asked()]
        list(pool.map(wait_for_end, asked()))  # these were idle too long; the others were not
        assert not any(end.done() for end in moving)
        asked()
        for name in FRAMEWORKS:
            wait_for_connections(running, name, 2)
            running.apps[name].terminate()
        began = time.monotonic()
        for name in FRAMEWORKS:
            running.apps[name].wait()
        assert time.monotonic() - began < DRAIN_SECONDS + STUCK_SECONDS
    assert [running.apps[name].returncode for name in FRAMEWORKS] == [0, 0]
