"""Above its limit a process serves the admitted clients, refuses the others, and stays up."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import httpx
import pytest
from contract.api import TLS, form, part
from faults import raw
from faults.health import watched
from faults.load import Connection, Load, answer_of, begin
from faults.processes import Processes
from faults.raw import is_closed
from patience import PATIENCE

from benchmarks import null_store
from demo import stack
from evidence import figures
from filehandoff.parts import peak_memory
from filehandoff.settings import MIB, Settings

FRAMEWORKS = ("flask", "quart")
AT_ONCE = 4
#: Most attempts until a freed place reaches a waiting upload in time.
TRIES = 10
#: Number of connections that send nothing, and of clients that stop during an upload.
SILENT = 100
SLOW = 300
PART = 5 * MIB
#: Rate for both apps together, so that uploads overlap.
BYTES_PER_SECOND = 100_000_000
#: Timeouts that only a fault reaches, because clients stop for the whole test.
PATIENT = {
    "UPLOAD_IDLE_TIMEOUT": str(PATIENCE),
    "UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE),
    "UPLOAD_S3_READ_TIMEOUT": str(PATIENCE),
    "UPLOAD_DRAIN_SECONDS": "1",
}
#: Each server's option for how long it keeps an idle connection. A starved client may pause for longer than the usual
#: 5 s, and its next request on such a connection would get no answer.
KEEP_ALIVE = {
    "flask": "--keep-alive",
    "quart": "--timeout-keep-alive" if stack.QUART_SERVER == "uvicorn" else "--keep-alive",
}
COMMANDS = {name: [*command, KEEP_ALIVE[name], f"{PATIENCE:.0f}"] for name, command in stack.COMMANDS.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A slow store, and both apps with few concurrent uploads."""
    with null_store.running(bytes_per_second=BYTES_PER_SECOND) as store:
        environ = {
            **store.environ,
            "UPLOAD_S3": store.endpoint_url,
            "UPLOAD_PART_BYTES": str(PART),
            "UPLOAD_MAX_CONCURRENT": str(AT_ONCE),
            **PATIENT,
        }
        log = tmp_path_factory.mktemp("overload") / "servers.log"
        with stack.running(environ, log_path=log, commands=COMMANDS) as started:
            yield store, started


def test_ten_times_the_load(running: tuple[null_store.NullStore, stack.Stack], pytestconfig: pytest.Config) -> None:
    """With ten times the admitted clients, each gets 201 or 503 overloaded.

    S3 has only the objects of 201 answers, no app's memory grows beyond the formula, and /healthz always answers.
    """
    store, started = running
    files = [os.urandom(1000), os.urandom(2 * PART + 1)]
    before = store.stats().objects
    with ExitStack() as exits:
        loads, healths, apps, idle = {}, {}, {}, {}
        for name in FRAMEWORKS:
            server = started.apps[name]
            httpx.get(f"{server.url}/readyz", verify=TLS, timeout=PATIENCE)
            apps[name] = Processes(server.pid)
            apps[name].forget_peak()
            idle[name] = apps[name].resident()
            loads[name] = Load(server.url, files)
            healths[name] = exits.enter_context(watched(server.url))
            exits.enter_context(loads[name].running(10 * AT_ONCE))
        time.sleep(pytestconfig.getoption("overload_seconds"))
    allowed = peak_memory(AT_ONCE, Settings().parts_in_flight, Settings(part_bytes=PART).part_sizes)
    for name, load in loads.items():
        *_, ninety = quantiles(healths[name].seconds, n=10, method="inclusive")
        milliseconds = {
            "median": median(healths[name].seconds),
            "ninety": ninety,
            "slowest": max(healths[name].seconds),
        }
        print(  # noqa: T201 - `make evidence` makes a table of it
            figures.line(
                "overload",
                app=name,
                stored=len(load.with_status(201)),
                refused=len(load.with_status(503)),
                memory=round((apps[name].peak() - idle[name]) / MIB),
                allowed=round(allowed / MIB),
                **{key: round(seconds * 1000) for key, seconds in milliseconds.items()},
            )
        )
    for name, load in loads.items():
        assert {one.problem for one in load.with_status(None)} == set(), f"{name} gave no answer"
        assert {one.status for one in load.outcomes} == {201, 503}
        assert {(one.problem, one.retry_after) for one in load.with_status(503)} == {("overloaded", "5")}
        assert healths[name].failures == []
    assert {name: app.peak() - idle[name] for name, app in apps.items() if app.peak() - idle[name] > allowed} == {}
    stats = store.stats()
    assert stats.unfinished == {}
    named = before | {one.key: one.size for load in loads.values() for one in load.with_status(201)}
    assert sorted(stats.objects.items() ^ named.items())[:3] == []


def ask(url: str, body: bytes, sent: int, path: str) -> tuple[int, bytes]:
    """Send this many bytes of an upload, then read the answer."""
    with closing(begin(url, body, sent, path)) as connection:
        return answer_of(connection)


def hold_all_places(url: str, body: bytes) -> list[socket.socket]:
    """Open connections that hold all upload places, each without the last bytes of its body."""
    held = [begin(url, body, len(body) - 5) for _ in range(AT_ONCE)]
    while ask(url, body, len(body), "/uploads")[0] == httpx.codes.CREATED:
        pass  # one of them is still being admitted
    return held


@pytest.mark.every_other
@pytest.mark.parametrize("path", ["/uploads", "/uploads/file", "/causes/copied_context"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_upload_too_many_is_refused_before_its_body_is_read(
    running: tuple[null_store.NullStore, stack.Stack], name: str, path: str
) -> None:
    """While idle clients hold all places, others get 503 before their body is read.

    The same holds for clients that send the whole body first. The idle clients are served when they continue.
    """
    _, started = running
    url = started.apps[name].url
    small, large = form(part("file", b"small", "small.txt")), form(part("file", bytes(12 * MIB), "large.bin"))
    with ExitStack() as exits:
        held = [exits.enter_context(closing(connection)) for connection in hold_all_places(url, small)]
        sent = [0] * AT_ONCE + [len(large)] * 2 * AT_ONCE
        with ThreadPoolExecutor(len(sent)) as pool:
            refused = list(pool.map(lambda size: ask(url, large, size, path), sent))
        assert httpx.get(f"{url}/healthz", verify=TLS, timeout=PATIENCE).is_success
        for connection in held:
            connection.sendall(small[-5:])
        assert [answer_of(connection)[0] for connection in held] == [201] * AT_ONCE
    assert {status for status, _ in refused} == {503}
    for _, answer in refused:
        assert b'"overloaded"' in answer
        assert b"\r\nretry-after: 5\r\n" in answer.lower()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_upload_too_many_is_not_asked_for_its_body(
    running: tuple[null_store.NullStore, stack.Stack], name: str
) -> None:
    """While all places are held, a client that expects 100 Continue gets 503 overloaded instead."""
    _, started = running
    url = started.apps[name].url
    small = form(part("file", b"small", "small.txt"))
    with ExitStack() as exits:
        held = [exits.enter_context(closing(connection)) for connection in hold_all_places(url, small)]
        expecting = exits.enter_context(closing(raw.connect(url)))
        expecting.sendall(raw.head("stream", f"Content-Length: {len(small)}", "Expect: 100-continue"))
        assert answer_of(expecting)[0] == httpx.codes.SERVICE_UNAVAILABLE
        for connection in held:
            connection.sendall(small[-5:])
        assert [answer_of(connection)[0] for connection in held] == [201] * AT_ONCE


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_waiting_upload_gets_a_freed_place(running: tuple[null_store.NullStore, stack.Stack], name: str) -> None:
    """A waiting upload is served if a place becomes free within WAIT_SECONDS.

    A busy machine may miss that.
    """
    _, started = running
    assert any(place_is_given_on(started.apps[name].url) for _ in range(TRIES))


def place_is_given_on(url: str) -> bool:
    """Whether a waiting upload was served when a place became free."""
    small = form(part("file", b"small", "small.txt"))
    with ExitStack() as exits:
        held = [exits.enter_context(closing(connection)) for connection in hold_all_places(url, small)]
        waiting = exits.enter_context(closing(begin(url, small, len(small))))
        assert httpx.get(
            f"{url}/healthz", verify=TLS, timeout=PATIENCE
        ).is_success  # by now the waiting upload has been read
        for connection in held:
            connection.sendall(small[-5:])
        assert [answer_of(connection)[0] for connection in held] == [201] * AT_ONCE
        return answer_of(waiting)[0] == httpx.codes.CREATED


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_silent_clients_do_not_block_others(running: tuple[null_store.NullStore, stack.Stack], name: str) -> None:
    """With more silent connections than threads, /healthz answers before they time out."""
    _, started = running
    address = urlsplit(started.apps[name].url)
    with ExitStack() as exits:
        at = str(address.hostname), address.port or 80
        silent = [exits.enter_context(closing(socket.create_connection(at))) for _ in range(SILENT)]
        assert httpx.get(f"{started.apps[name].url}/healthz", verify=TLS, timeout=PATIENCE).is_success
        # gunicorn alone waits 5 s for each in a thread, and would close nearly all before
        assert sum(map(is_closed, silent)) < SILENT / 2


def test_slow_clients_do_not_stop_fast_ones(tmp_path: Path) -> None:
    """With UPLOAD_MAX_CONCURRENT above hundreds of slow clients, both apps serve a fast one beside them."""
    slow = form(part("file", bytes(1000), "slow.bin"))
    with null_store.running() as store:
        environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_MAX_CONCURRENT": str(SLOW + 10)}
        with (
            stack.running(environ | PATIENT, log_path=tmp_path / "servers.log") as started,
            ExitStack() as exits,
        ):
            for name in FRAMEWORKS:
                url = started.apps[name].url
                held = [exits.enter_context(closing(begin(url, slow, 200))) for _ in range(SLOW)]
                with closing(Connection(url)) as fast:
                    answers = [fast.upload("/uploads", slow, f"fast-{n}")[0].status for n in range(20)]
                assert answers == [201] * len(answers)
                for connection in held:  # one after another, because the store is not under test
                    connection.sendall(slow[200:])
                    assert answer_of(connection)[0] == 201
