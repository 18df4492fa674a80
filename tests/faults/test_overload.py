"""More clients than a process takes on: those that are admitted are served, the others are told so, and it stays up."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from contract.api import TLS, form, part
from faults import raw
from faults.load import Connection, Load, answer_of, begin
from faults.processes import Processes
from faults.raw import is_closed
from patience import PATIENCE

from benchmarks import null_store
from demo import stack
from filehandoff.parts import peak_memory
from filehandoff.settings import MIB, Settings

FRAMEWORKS = ("flask", "quart")
AT_ONCE = 4
#: How often a place is given back in time, at the most, until an upload that waits for it has it.
TRIES = 10
#: Connections that send nothing, and clients that stand still in the middle of an upload.
SILENT = 100
SLOW = 300
PART = 5 * MIB
#: For both apps together, so that an upload takes its time and the next ones come meanwhile.
BYTES_PER_SECOND = 100_000_000
#: Limits that only a fault reaches: clients stand still here for as long as a test takes.
PATIENT = {
    "UPLOAD_IDLE_TIMEOUT": str(PATIENCE),
    "UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE),
    "UPLOAD_S3_READ_TIMEOUT": str(PATIENCE),
    "UPLOAD_DRAIN_SECONDS": "1",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[null_store.NullStore, stack.Stack]]:
    """A store that takes its time, and both apps, which take on few uploads at once."""
    with null_store.running(bytes_per_second=BYTES_PER_SECOND) as store:
        environ = {
            **store.environ,
            "UPLOAD_S3": store.endpoint_url,
            "UPLOAD_PART_BYTES": str(PART),
            "UPLOAD_MAX_CONCURRENT": str(AT_ONCE),
            **PATIENT,
        }
        with stack.running(environ, log_path=tmp_path_factory.mktemp("overload") / "servers.log") as started:
            yield store, started


@dataclass
class Health:
    """What /healthz answered while the block ran, each time on a connection of its own."""

    url: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask again and again."""
        done = threading.Event()

        def ask() -> None:
            while not done.wait(0.1):
                began = time.monotonic()
                try:
                    httpx.get(f"{self.url}/healthz", timeout=PATIENCE, verify=TLS).raise_for_status()
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.seconds.append(time.monotonic() - began)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_ten_times_the_load(running: tuple[null_store.NullStore, stack.Stack], pytestconfig: pytest.Config) -> None:
    """With ten times as many clients as are admitted, each gets 201 or 503 overloaded, and /healthz always answers.

    S3 has what the 201s name and nothing else; no app's memory grows by more than the formula.
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
            healths[name] = Health(server.url)
            exits.enter_context(healths[name].watched())
            exits.enter_context(loads[name].running(10 * AT_ONCE))
        time.sleep(pytestconfig.getoption("overload_seconds"))
    allowed = peak_memory(AT_ONCE, Settings().parts_in_flight, Settings(part_bytes=PART).part_sizes)
    for name, load in loads.items():
        print(  # noqa: T201 - the README's figures, shown by pytest -rP
            f"{name}: {len(load.with_status(201))} × 201, {len(load.with_status(503))} × 503, /healthz at most "
            f"{max(healths[name].seconds):.3f} s, memory +{(apps[name].peak() - idle[name]) / MIB:.0f} MiB"
        )
    for name, load in loads.items():
        assert Counter(one.status for one in load.outcomes).keys() == {201, 503}
        assert {(one.problem, one.retry_after) for one in load.with_status(503)} == {("overloaded", "5")}
        assert healths[name].failures == []
    assert {name: app.peak() - idle[name] for name, app in apps.items() if app.peak() - idle[name] > allowed} == {}
    stats = store.stats()
    assert stats.unfinished == {}
    named = before | {one.key: one.size for load in loads.values() for one in load.with_status(201)}
    assert sorted(stats.objects.items() ^ named.items())[:3] == []


def ask(url: str, body: bytes, sent: int, path: str) -> tuple[int, bytes]:
    """The answer to an upload of which so many bytes were sent before it is looked for."""
    with closing(begin(url, body, sent, path)) as connection:
        return answer_of(connection)


def hold_all_places(url: str, body: bytes) -> list[socket.socket]:
    """Connections that have the places to upload in, all but the last bytes of the body sent."""
    held = [begin(url, body, len(body) - 5) for _ in range(AT_ONCE)]
    while ask(url, body, len(body), "/uploads")[0] == httpx.codes.CREATED:
        pass  # one of them is still on its way in
    return held


@pytest.mark.parametrize("path", ["/uploads", "/uploads/file", "/causes/copied_context"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_upload_too_many_is_refused_before_its_body_is_read(
    running: tuple[null_store.NullStore, stack.Stack], name: str, path: str
) -> None:
    """While the places are held by clients that stand still, others get 503 overloaded without a byte of their body.

    So do those that send all of it before they look. The ones that hold the places are served when they go on.
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
    """While the places are held, a client that expects 100 Continue gets 503 overloaded in its place."""
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
def test_who_waits_gets_the_place_that_is_given_back(
    running: tuple[null_store.NullStore, stack.Stack], name: str
) -> None:
    """An upload that finds no place is served if one comes free within WAIT_SECONDS, which a busy machine may miss."""
    _, started = running
    assert any(place_is_given_on(started.apps[name].url) for _ in range(TRIES))


def place_is_given_on(url: str) -> bool:
    """Whether an upload that found no place was served when one came free."""
    small = form(part("file", b"small", "small.txt"))
    with ExitStack() as exits:
        held = [exits.enter_context(closing(connection)) for connection in hold_all_places(url, small)]
        waiting = exits.enter_context(closing(begin(url, small, len(small))))
        assert httpx.get(f"{url}/healthz", verify=TLS, timeout=PATIENCE).is_success  # that one has been read by now
        for connection in held:
            connection.sendall(small[-5:])
        assert [answer_of(connection)[0] for connection in held] == [201] * AT_ONCE
        return answer_of(waiting)[0] == httpx.codes.CREATED


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_clients_that_say_nothing_hold_up_nobody(running: tuple[null_store.NullStore, stack.Stack], name: str) -> None:
    """With many more silent connections than threads, /healthz answers before they are given up."""
    _, started = running
    address = urlsplit(started.apps[name].url)
    with ExitStack() as exits:
        at = str(address.hostname), address.port or 80
        silent = [exits.enter_context(closing(socket.create_connection(at))) for _ in range(SILENT)]
        assert httpx.get(f"{started.apps[name].url}/healthz", verify=TLS, timeout=PATIENCE).is_success
        # gunicorn alone has a thread wait 5 s for each; with as many in front, nearly all are closed by then
        assert sum(map(is_closed, silent)) < SILENT / 2


def test_slow_clients_do_not_stop_fast_ones(tmp_path: Path) -> None:
    """Where UPLOAD_MAX_CONCURRENT has room for hundreds of slow clients, a fast one is served beside them by both."""
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
                for connection in held:  # one after the other: the store is not what is tested
                    connection.sendall(slow[200:])
                    assert answer_of(connection)[0] == 201
