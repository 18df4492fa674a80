"""Clients that read a large object slowly, or not to its end: little of it is in memory, and S3 is let go of.

The apps are ended in the last test.
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
from filehandoff.cleanup import END_SECONDS
from filehandoff.keys import new_key
from filehandoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
SIZE = 200 * MIB
#: More than the sockets on the way from the store to a client hold.
LEFT_SIZE = 24 * MIB
#: What a client reads before it pauses or leaves; and what its system may take in for it, or that would be megabytes.
FIRST_BYTES = 64 * 1024
#: Seconds that a client pauses: long enough to get all of the object from the store, were it to wait in the app.
PAUSE_SECONDS = 1.5
#: Seconds that a client may take nothing; PAUSE_SECONDS stays below them on a busy machine as well.
IDLE_SECONDS = 5.0
#: How long downloads get when the process is to end, in seconds.
DRAIN_SECONDS = 1.0
#: Seconds after which gunicorn kills a worker that does not end, less some.
STUCK_SECONDS = END_SECONDS - 3
#: By how much a download may make a process grow: a few chunks, and what the allocator keeps of them.
ALLOWED = 4 * MIB


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps, with the default time for moto to copy a large object before it answers."""
    log = tmp_path_factory.mktemp("downloads") / "servers.log"
    environ = {"UPLOAD_S3": "moto", "UPLOAD_BUCKET": "faults"}
    environ |= {"UPLOAD_IDLE_TIMEOUT": str(IDLE_SECONDS), "UPLOAD_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with stack.running(environ, log_path=log) as started:
        yield started


def put(running: stack.Stack, size: int) -> tuple[str, str]:
    """Store an object of this size; its key and SHA-256."""
    key, data = new_key("", "large.bin"), os.urandom(MIB) * (size // MIB)
    with closing(running.store.client()) as client:
        client.put_object(Bucket="faults", Key=key, Body=data)
    return key, hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def left(running: stack.Stack) -> str:
    """The key of an object that nobody reads to its end."""
    return put(running, LEFT_SIZE)[0]


def ask(running: stack.Stack, framework: str, key: str) -> socket.socket:
    """Ask for the object; the answer is still to be read."""
    url = urlsplit(running.apps[framework].url)
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FIRST_BYTES)
    connection.connect((url.hostname, url.port))
    connection.sendall(f"GET /objects/{key} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    return connection


def to_store(running: stack.Stack, framework: str) -> int:
    """How many connections to the store an app has; moto keeps none that is not in use."""
    port = urlsplit(running.store.endpoint_url).port
    assert port is not None
    return Processes(running.apps[framework].pid).connections(port)


def wait_for_connections(running: stack.Stack, framework: str, expected: int) -> None:
    """Wait until an app has so many connections to the store."""
    wait_until(
        lambda: to_store(running, framework) == expected,
        lambda: f"{to_store(running, framework)} connections, not {expected}",
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_goes_away_ends_the_transfer_from_s3(running: stack.Stack, left: str, framework: str) -> None:
    """The store's answer is closed when the client leaves in the middle of it, and not read to its end."""
    wait_for_connections(running, framework, 0)
    with closing(ask(running, framework, left)) as connection:
        assert connection.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        wait_for_connections(running, framework, 1)
    wait_for_connections(running, framework, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_does_not_wait_ends_it_too(running: stack.Stack, left: str, framework: str) -> None:
    """Nothing of S3's is left open by clients that leave before the first byte, wherever the app is then."""
    for step in range(20):
        with closing(ask(running, framework, left)):
            time.sleep(step / 500)
    wait_for_connections(running, framework, 0)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps, each of which may have one connection to it for each purpose."""
    log = tmp_path_factory.mktemp("narrow") / "servers.log"
    few = {"UPLOAD_MAX_CONCURRENT": "1", "UPLOAD_PARTS_IN_FLIGHT": "1", **SHORT_STORE_TIMEOUTS}
    with stack.running({"UPLOAD_S3": "moto", "UPLOAD_BUCKET": "faults", **few}, log_path=log) as started:
        yield started


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_slow_download_keeps_nothing_else_waiting(narrow: stack.Stack, framework: str) -> None:
    """While one client has all the connections for downloads, there is HEAD, and a file is stored and completed."""
    key = put(narrow, LEFT_SIZE)[0]
    with closing(ask(narrow, framework, key)) as slow, closing(Api(narrow.apps[framework].url)) as app:
        assert slow.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        assert app.send("HEAD", f"/objects/{key}").status_code == 200
        for handoff in ("stream", "presigned"):
            assert app.upload_file(b"a small file", handoff).status_code == 201


def test_a_download_waits_for_a_connection_as_long_as_for_s3(narrow: stack.Stack) -> None:
    """Then it is 503, in Quart, where slow clients can hold all connections; in Flask a thread has its own."""
    key = put(narrow, LEFT_SIZE)[0]
    with closing(ask(narrow, "quart", key)) as slow, closing(Api(narrow.apps["quart"].url)) as app:
        assert slow.recv(FIRST_BYTES).startswith(b"HTTP/1.1 200")
        check_problem(app.send("GET", f"/objects/{key}"), 503, "store-unavailable")


def read_slowly(running: stack.Stack, framework: str, key: str) -> str:
    """The SHA-256 of the object as a client gets it that pauses after the first bytes."""
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
    """While a client pauses, its object waits in S3: no app grows by more than a few chunks of it."""
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
    """Wait until the app ends a download, of which the client reads so much every half second."""
    deadline = time.monotonic() + PATIENCE
    with suppress(ConnectionError):
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if bytes_at_once and not connection.recv(bytes_at_once):
                return
            connection.sendall(b"\r\n")  # what comes after a request is not read, but a reset shows
        pytest.fail("the download does not end")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_stops_reading_is_cut_off(running: stack.Stack, left: str, framework: str) -> None:
    """When it has taken nothing for UPLOAD_IDLE_TIMEOUT its connection ends, and the one to the store with it."""
    wait_for_connections(running, framework, 0)
    with closing(ask(running, framework, left)) as connection:
        wait_for_connections(running, framework, 1)
        wait_for_end(connection)
        wait_for_connections(running, framework, 0)


def test_sigterm_ends_downloads(running: stack.Stack, left: str) -> None:
    """A client that takes its time is cut off only when the process is to end, and so is one that takes nothing then.

    Both apps end by themselves, in the time that running downloads get.
    """
    with ExitStack() as exits, ThreadPoolExecutor(2 * len(FRAMEWORKS)) as pool:

        def asked() -> list[socket.socket]:
            return [exits.enter_context(closing(ask(running, name, left))) for name in FRAMEWORKS]

        moving = [pool.submit(wait_for_end, connection, FIRST_BYTES) for connection in asked()]
        list(pool.map(wait_for_end, asked()))  # these were idle for too long, which the others are not
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
