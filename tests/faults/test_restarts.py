"""After repeated restarts under load, S3 has the objects of 201 answers and no others."""

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from select import select
from typing import IO

import httpx
import pytest
from contract.api import TLS, form, part
from contract.bucket import Bucket
from contract.nginx import in_front, needs_nginx
from faults import raw
from faults.load import Connection, Load, Outcome, answer_of, begin
from faults.proxy import Proxy
from faults.script import Answer, LostAnswer, Reset, When
from faults.sweep import sweep
from patience import PATIENCE, wait_until

from demo import stack, stores
from demo.processes import Server, StartError, ending, family, listen
from filehandoff.admission import LATE_SECONDS
from filehandoff.settings import MIB, Settings
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")
#: Files to upload: four of one put, one of two parts.
FILES = (*[os.urandom(20_000) for _ in range(4)], os.urandom(5 * MIB + 1))
PATHS = tuple(f"/uploads/{handoff}" for handoff in FORM_HANDOFFS)
CLIENTS = 4
#: Number of uploads that an app stores before its next restart.
STORED = 4
#: One in this many restarts is a kill.
KILL_EVERY = 4
DRAIN_SECONDS = 2.0
#: Most objects that a failure names.
NAMED = 3
#: Number of successive processes to observe.
RECYCLED = 3


class App:
    """An app on one port that can be started and ended repeatedly.

    Each server of it stores under a key prefix of its own. The store may handle a killed server's last request after
    the next server has started, and the prefix shows which of them left an upload.
    """

    def __init__(self, name: str, environ: dict[str, str], log: IO[bytes]) -> None:
        self.name = name
        self.environ = environ
        self.prefix = f"{name}/"
        self.server_prefix = ""
        self._starts = 0
        self._killed = list[str]()
        self._log = log
        # bound all the time, or a client could get the port between two servers
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._port.getsockname())
        self.server: Server | None = None

    def start(self, *arguments: str) -> None:
        """Start it and wait until it is ready."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                listener = listen(self.name, "PORT", self._port.getsockname()[1])
                break
            except StartError:  # gunicorn's killed worker may take a moment to end
                assert time.monotonic() < deadline
                time.sleep(0.02)
        self._starts += 1
        self.server_prefix = f"{self.prefix}{self._starts}/"
        environ = self._environ_with(self.server_prefix)
        command = [*stack.COMMANDS[self.name], *arguments]
        self.server = Server(self.name, command, listener, environ, log=self._log, drain_seconds=DRAIN_SECONDS)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it is ready; fail if it ends."""
        assert self.server is not None
        deadline = time.monotonic() + PATIENCE
        while not ready(self):
            assert self.server.returncode is None, f"{self.name} ended with {self.server.returncode}"
            assert time.monotonic() < deadline, f"{self.name} is not ready"
            time.sleep(0.02)

    def end(self) -> None:
        """Send SIGTERM and wait; it must end by itself."""
        assert self.server is not None
        self.server.terminate()
        self.server.wait()
        assert self.server.returncode == 0

    def close(self) -> None:
        """Release the port."""
        self._port.close()

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()
        self._killed.append(self.server_prefix)

    def sweep(self) -> None:
        """Abort the unfinished uploads of the killed servers."""
        for prefix in self._killed:
            sweep(self.name, self._environ_with(prefix))

    def _environ_with(self, prefix: str) -> dict[str, str]:
        return self.environ | {"UPLOAD_KEY_PREFIX": prefix}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """A store; each test makes its own bucket in it."""
    with (tmp_path_factory.mktemp("restarts") / "store.log").open("w+b") as log:
        store = stores.start("moto", {}, log)
        assert store.server is not None
        with ending([store.server]):
            yield store


@pytest.fixture
def environ(store: stores.Store, tmp_path: Path) -> dict[str, str]:
    """The environment of an app on a store with an empty bucket."""
    assert store.server is not None
    settings = Settings(bucket=f"restarts-{uuid.uuid4()}")
    stack.create_bucket(stack.Stack(store, settings, {}, [store.server]), None)
    return {
        **os.environ,
        **store.environ,
        "UPLOAD_S3_ENDPOINT_URL": store.endpoint_url,
        "UPLOAD_BUCKET": settings.bucket,
        "UPLOAD_PART_BYTES": "5 MiB",
        "UPLOAD_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE),
        "TMPDIR": str(tmp_path),
    }


@pytest.fixture
def bucket(store: stores.Store, environ: dict[str, str]) -> Iterator[Bucket]:
    """The test's bucket, read directly."""
    with closing(store.client()) as client:
        yield Bucket(client, environ["UPLOAD_BUCKET"], None)


@contextmanager
def started(name: str, environ: dict[str, str], log_path: Path) -> Iterator[App]:
    """An app without a server; its server is killed after the block."""
    with log_path.open("w+b") as log:
        app = App(name, environ, log)
        try:
            yield app
        finally:
            if app.server is not None:
                app.server.terminate()
                app.server.wait()
            app.close()


def restart(app: App, load: Load, bucket: Bucket, restarts: int) -> set[int]:
    """Restart the app under load; return the eras that ended with a kill."""
    killed = set()
    app.start()
    with load.running(CLIENTS):
        for era in range(restarts):
            wait_until_stored(load, era)
            if era % KILL_EVERY == KILL_EVERY - 1:
                killed.add(era)
                app.kill()
            else:
                app.end()
                assert unfinished(bucket, app.server_prefix) == set()
            load.era = era + 1
            app.start()
        wait_until_stored(load, restarts)
    app.end()
    return killed


def wait_until_stored(load: Load, era: int) -> None:
    """Wait until some uploads that began in this era are stored."""

    def stored() -> int:
        return sum(outcome.eras[0] == era for outcome in load.with_status(httpx.codes.CREATED))

    wait_until(lambda: stored() >= STORED, lambda: f"{stored()} uploads are stored after {era} restarts, not {STORED}")


def unfinished(bucket: Bucket, prefix: str) -> set[str]:
    """The ids of the unfinished uploads under a prefix."""
    return {upload_id for key, upload_id in bucket.unfinished() if key.startswith(prefix)}


def check(bucket: Bucket, app: App, outcomes: list[Outcome], killed: set[int]) -> None:
    """Assert that S3 has the objects of 201 answers, and other leftovers only from kills."""
    named = {outcome.key: outcome.sha256 for outcome in outcomes if outcome.status == httpx.codes.CREATED}
    stored = {key for key in bucket.files() if key.startswith(app.prefix)}
    assert sorted(named.keys() - stored)[:NAMED] == []
    assert [key for key, sha256 in named.items() if bucket.sha256(key) != sha256][:NAMED] == []
    cut_off = {
        outcome.request_id
        for outcome in outcomes
        if outcome.status in {None, httpx.codes.BAD_GATEWAY}
        and killed & set(range(outcome.eras[0], outcome.eras[1] + 1))
    }
    assert [key for key in stored - named.keys() if bucket.request_id(key) not in cut_off][:NAMED] == []


def test_restarts_lose_nothing(
    environ: dict[str, str], bucket: Bucket, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Every received 201 is in S3.

    Only kills leave more, and the sweep removes their unfinished uploads.

    SIGTERM leaves nothing. SIGKILL, every fourth time, may leave unfinished uploads, and an object without a sent
    answer.
    """

    def run(name: str) -> None:
        with started(name, environ, tmp_path / f"{name}.log") as app:
            load = Load(app.url, FILES, PATHS)
            killed = restart(app, load, bucket, pytestconfig.getoption("restarts"))
            assert {outcome.status for outcome in load.outcomes} <= {201, 503, None}
            check(bucket, app, load.outcomes, killed)
            app.sweep()
            assert unfinished(bucket, app.prefix) == set()

    with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
        list(pool.map(run, FRAMEWORKS))


@needs_nginx
@pytest.mark.thorough
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_restarts_behind_nginx_lose_nothing(
    name: str, environ: dict[str, str], bucket: Bucket, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """The same through nginx, where a client of no process gets 502."""
    with started(name, environ, tmp_path / "app.log") as app, in_front(app.url, tmp_path / "nginx") as url:
        load = Load(url, FILES, PATHS)
        killed = restart(app, load, bucket, pytestconfig.getoption("restarts"))
        assert {outcome.status for outcome in load.outcomes} <= {201, 502, 503, None}
        assert load.with_status(502)
        check(bucket, app, load.outcomes, killed)
        app.sweep()
        assert unfinished(bucket, app.prefix) == set()


@needs_nginx
@pytest.mark.parametrize("name", ["flask", pytest.param("quart", marks=pytest.mark.thorough)])
def test_a_kill_behind_nginx_is_a_bad_gateway(
    name: str, environ: dict[str, str], bucket: Bucket, tmp_path: Path
) -> None:
    """The client of a killed app gets 502, and no object is stored; the next process serves again."""
    body = form(part("file", 2 * FILES[-1], "file.bin"))
    with started(name, environ, tmp_path / "app.log") as app, in_front(app.url, tmp_path / "nginx") as url:
        app.start()
        with closing(begin(url, body, 7 * MIB)) as connection:
            wait_until(lambda: unfinished(bucket, app.prefix), lambda: "nginx holds the body back")
            app.kill()
            assert raw.read_answer(connection).status == httpx.codes.BAD_GATEWAY
        assert httpx.get(f"{url}/healthz", verify=TLS).status_code == httpx.codes.BAD_GATEWAY
        assert bucket.stored_keys() == set()
        app.sweep()
        assert unfinished(bucket, app.prefix) == set()
        app.start()
        with closing(begin(url, body, len(body))) as connection:
            assert raw.read_answer(connection).status == httpx.codes.CREATED
        app.end()


def test_restarts_with_a_broken_store_leave_nothing(environ: dict[str, str], bucket: Bucket, tmp_path: Path) -> None:
    """With failing cleanups too, SIGTERM leaves only the objects of 201 answers."""
    with Proxy(environ["UPLOAD_S3_ENDPOINT_URL"]) as proxy:
        broken = environ | {"UPLOAD_S3_ENDPOINT_URL": proxy.url, "UPLOAD_S3_ATTEMPTS": "2"}
        for nth in range(1, 2000):
            if nth % 8 < 4:  # so many in a row that they exhaust the attempts of some uploads
                proxy.on("put_object", LostAnswer(), nth=nth)
            if nth % 3 == 1:
                proxy.on("complete_multipart_upload", Answer(500, "InternalError", When.DONE), nth=nth)
                proxy.on("create_multipart_upload", LostAnswer(), nth=nth)
                proxy.on("delete_object", Reset(), nth=nth)
                proxy.on("abort_multipart_upload", Reset(), nth=nth)

        def run(name: str) -> None:
            with started(name, broken, tmp_path / f"{name}.log") as app:
                load = Load(app.url, FILES, PATHS)
                assert restart(app, load, bucket, 1) == set()
                assert {outcome.status for outcome in load.outcomes} <= {201, 503, None}
                check(bucket, app, load.outcomes, set())

        with ThreadPoolExecutor(len(FRAMEWORKS)) as pool:
            list(pool.map(run, FRAMEWORKS))
    assert [call for call in proxy.calls if call.operation == "delete_object" and call.fault]
    assert bucket.unfinished() == []


#: Each server's option to replace its process after some requests.
RECYCLING = {
    "flask": ("--max-requests", "20"),
    "quart": ("--workers", "1", "--limit-max-requests" if stack.QUART_SERVER == "uvicorn" else "--max-requests", "20"),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_recycling_loses_nothing(name: str, environ: dict[str, str], bucket: Bucket, tmp_path: Path) -> None:
    """While the server repeatedly replaces its process, S3 has only the objects of 201 answers."""
    with started(name, environ, tmp_path / "app.log") as app:
        load, processes = Load(app.url, FILES, PATHS), set[int]()
        app.start(*RECYCLING[name])
        assert app.server is not None
        with load.running(CLIENTS):
            server = app.server

            def recycled() -> bool:
                processes.update(pid for pid in family(server.pid) if pid != server.pid)
                return len(processes) >= RECYCLED

            wait_until(recycled, lambda: f"there were {len(processes)} processes, not {RECYCLED}")
        app.end()
        assert {outcome.status for outcome in load.outcomes} <= {201, 503, None}
        assert load.with_status(201)
        check(bucket, app, load.outcomes, set())
        assert unfinished(bucket, app.prefix) == set()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_upload_that_stands_still_does_not_hold_up_recycling(
    name: str, environ: dict[str, str], bucket: Bucket, tmp_path: Path
) -> None:
    """At recycling, an idle upload gets UPLOAD_DRAIN_SECONDS; then it gets 503 and is cleaned up."""
    body = form(part("file", FILES[-1], "file.bin"))
    with started(name, environ, tmp_path / "app.log") as app:
        app.start(*RECYCLING[name])
        with closing(begin(app.url, body, len(body) - 5)) as connection:
            while not select([connection], [], [], 0)[0]:  # enough requests to cause the recycling
                with suppress(httpx.HTTPError):  # no process answers at that moment
                    httpx.get(f"{app.url}/healthz", verify=TLS, timeout=1)
            status, answer = answer_of(connection)
        assert (status, b'"overloaded"' in answer) == (503, True)
        app.wait_until_ready()
        app.end()
        assert unfinished(bucket, app.prefix) == set()
        assert bucket.stored_keys() == set()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_ending_process_is_not_ready(name: str, environ: dict[str, str], bucket: Bucket, tmp_path: Path) -> None:
    """After SIGTERM, /readyz soon fails, while a running upload is stored.

    Some moments later, a kept connection accepts no new upload either.
    """
    body = form(part("file", b"some bytes", "file.bin"))
    with started(name, environ | {"UPLOAD_DRAIN_SECONDS": "60"}, tmp_path / "app.log") as app:
        app.start()
        assert app.server is not None
        with closing(begin(app.url, body, len(body) - 5)) as running, closing(Connection(app.url)) as kept:
            assert kept.upload("/uploads/nonsense", b"", "kept")[0].status == 404
            app.server.terminate()
            wait_until(lambda: not any(ready(app) for _ in range(10)), lambda: "the app says that it is ready")
            time.sleep(LATE_SECONDS + 0.3)
            with suppress(OSError, HTTPException):
                assert kept.upload("/uploads", body, "kept")[0].status == 503
            running.sendall(body[-5:])
            assert answer_of(running)[0] == 201
        app.server.wait()
        assert app.server.returncode == 0
        assert len(bucket.stored_keys()) == 1


def ready(app: App) -> bool:
    """Whether a new connection gets a ready answer."""
    try:
        return httpx.get(f"{app.url}/readyz", verify=TLS, timeout=5).is_success
    except httpx.HTTPError:
        return False
