"""The Quart app's servers: no signal and no lost process interrupts an upload."""

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from alive import alive
from contract.api import TLS, Api, form, part
from contract.numbers import numbers, stored, wait_for
from faults.load import answer_of, begin
from patience import PATIENCE, wait_until

from demo import stack, stores
from demo.processes import Server, ending, family, listen, python
from filehandoff.settings import Settings

BODY = form(part("file", b"some bytes", "file.bin"))
#: Both servers by our command, with one process and with two, and by their own commands, with one.
COMMANDS = {
    "hypercorn": python("quart_app", "--bind=fd://{fd}"),
    "hypercorn-workers": python("quart_app", "--bind=fd://{fd}", "--workers=2"),
    "uvicorn": python("quart_app", "--server=uvicorn", "--bind=fd://{fd}"),
    "uvicorn-workers": python("quart_app", "--server=uvicorn", "--bind=fd://{fd}", "--workers=2"),
    "hypercorn's own": python("hypercorn", "-c", "quart_app/hypercorn.toml", "-b", "fd://{fd}", "quart_app.asgi:app"),
    "uvicorn's own": python("uvicorn", "--fd={fd}", "quart_app.asgi:app"),
}
HYPERCORNS_OWN = COMMANDS["hypercorn's own"]
#: One of each kind for `make test`; `make waiting-all` runs all.
EACH = [name for name in COMMANDS if "workers" in name or "own" in name]
SUPERVISED = [name for name in COMMANDS if name.endswith("-workers")]


class App:
    """A running app with its processes and its log."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server = server
        self.url = server.url
        self.log = log

    def workers(self) -> set[int]:
        """The processes below the started one."""
        return {pid for pid in family(self.server.pid) if pid != self.server.pid}

    def everyone(self) -> set[int]:
        """All processes."""
        return set(family(self.server.pid))

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        for pid in self.everyone():
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, number)

    def wait_until(self, happened: Callable[[], object]) -> None:
        """Wait for an event; after the time limit, fail with the end of the log."""
        wait_until(happened, lambda: self.log.read_text()[-2000:])

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        self.wait_until(lambda: self.server.returncode is not None)
        assert self.server.returncode is not None
        return self.server.returncode

    def lines(self, text: str) -> list[str]:
        """The lines of the log that contain this text."""
        return [line for line in self.log.read_text().splitlines() if text in line]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an app on a store with a bucket."""
    with (tmp_path_factory.mktemp("servers") / "store.log").open("w+b") as log:
        store = stores.start("moto", {}, log)
        assert store.server is not None
        with ending([store.server]):
            stack.create_bucket(stack.Stack(store, Settings(), {}, [store.server]), log)
            settings = {"UPLOAD_S3_ENDPOINT_URL": store.endpoint_url, "UPLOAD_IDLE_TIMEOUT": "60"}
            yield {**os.environ, **store.environ, **settings, "UPLOAD_DRAIN_SECONDS": "60"}


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Start an app by a command and wait for all its workers.

    Kill it after the test if it still runs.
    """
    servers: list[Server] = []
    with (tmp_path / "log").open("w+b") as log:

        def start(command: Sequence[str], **more: str) -> App:
            listener = listen("the app", "PORT", 0)
            server = Server(
                "app", command, listener, environ | {"TMPDIR": str(tmp_path)} | more, log=log, drain_seconds=60
            )
            servers.append(server)
            stack.wait_until_ready(
                stack.Stack(stores.Store("", ""), Settings(), environ, servers), f"{server.url}/readyz", log
            )
            app = App(server, tmp_path / "log")
            workers = 2 if "--workers=2" in command else 1
            app.wait_until(lambda: len(app.lines("Running on http") + app.lines("startup complete")) >= workers)
            return app

        try:
            yield start
        finally:
            for server in servers:
                server.kill()
                server.wait()


@contextmanager
def half_sent(app: App) -> Iterator[Callable[[], int]]:
    """A running upload; the function sends the rest and returns the status of the answer."""
    with closing(begin(app.url, BODY, len(BODY) - 5)) as connection:
        with closing(Api(app.url)) as api:
            wait_for(api, "uploads_in_flight", 1)

        def finish() -> int:
            connection.sendall(BODY[-5:])
            return answer_of(connection)[0]

        yield finish


def healthy(app: App) -> bool:
    """Whether a new connection is served."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"{app.url}/healthz", verify=TLS, timeout=5).is_success
    return False


@pytest.mark.parametrize(
    "command", [pytest.param(it, marks=() if it in EACH[::3] else pytest.mark.thorough) for it in COMMANDS]
)
def test_a_signal_that_asks_for_a_reload_changes_nothing(start: Callable[..., App], command: str) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 to every process change nothing, not even an upload."""
    app = start(COMMANDS[command])
    before = app.everyone()
    with half_sent(app) as finish:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            app.send(number)
            assert healthy(app)
        assert finish() == 201
    assert app.everyone() == before


#: For `make test`: each signal to one of our commands and to one of theirs.
QUICK = {*zip(EACH, (signal.SIGTERM, signal.SIGQUIT, signal.SIGQUIT, signal.SIGTERM), strict=True)}
ENDS = [
    pytest.param(*end, id=f"{end[0]}-{end[1].name}", marks=() if end in QUICK else pytest.mark.thorough)
    for end in itertools.product(COMMANDS, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
]


@pytest.mark.parametrize(("command", "number"), ENDS)
def test_a_signal_that_ends_lets_uploads_finish(
    start: Callable[..., App], command: str, number: signal.Signals
) -> None:
    """SIGINT, SIGQUIT and SIGTERM stop new connections but let uploads finish."""
    app = start(COMMANDS[command])
    with half_sent(app) as finish:
        app.send(number)
        app.wait_until(lambda: not healthy(app))
        app.send(number)
        assert finish() == 201
    # uvicorn's own command ends with the signal that it received
    assert app.status() in ({0, -signal.SIGTERM, -signal.SIGINT} if command == "uvicorn's own" else {0})


@pytest.mark.parametrize("command", SUPERVISED)
def test_a_lost_worker_is_replaced(start: Callable[..., App], command: str) -> None:
    """A killed worker has one line in the log and is replaced; the others continue."""
    app = start(COMMANDS[command], UPLOAD_LOG="json")
    before = app.workers()
    lost = min(before)
    os.kill(lost, signal.SIGKILL)
    app.wait_until(lambda: app.lines(f"worker {lost} was killed by SIGKILL; another one replaces it"))
    app.wait_until(lambda: len(app.workers() - before) == 1)
    app.wait_until(lambda: healthy(app))
    app.server.terminate()
    assert app.status() == 0


@pytest.mark.parametrize("command", SUPERVISED)
def test_workers_drain_when_their_supervisor_is_lost(start: Callable[..., App], command: str) -> None:
    """After SIGKILL of the supervisor, an upload finishes, and then no process is left."""
    app = start(COMMANDS[command])
    workers = app.workers()
    with half_sent(app) as finish:
        os.kill(app.server.pid, signal.SIGKILL)
        app.wait_until(lambda: not healthy(app))
        assert finish() == 201
    app.wait_until(lambda: not alive(workers))


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *[pytest.param(one, marks=pytest.mark.thorough) for one in (signal.SIGUSR1, signal.SIGTERM)]],
)
def test_hypercorns_own_workers_drain_without_their_parent(
    start: Callable[..., App], tmp_path: Path, number: signal.Signals
) -> None:
    """After the end of hypercorn's parent, an upload finishes and no process is left."""
    (tmp_path / "numbers").mkdir()  # otherwise the metrics of the wrong process might be read
    app = start([*HYPERCORNS_OWN, "--workers=2"], PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "numbers"))
    workers = app.workers()
    with half_sent(app) as finish:
        os.kill(app.server.pid, number)
        app.wait_until(lambda: not healthy(app))
        assert finish() == 201
    app.wait_until(lambda: not alive(workers))


def test_hypercorns_own_workers_warn(start: Callable[..., App]) -> None:
    """`hypercorn --workers 2` warns about its command, and about each worker's metrics."""
    app = start([*HYPERCORNS_OWN, "--workers=2"])
    assert len(app.lines("start several with: python -m quart_app --workers NUMBER")) == 1
    assert len(app.lines("to cover all workers, set PROMETHEUS_MULTIPROC_DIR")) == 2


def test_workers_share_their_numbers_without_a_setting(start: Callable[..., App]) -> None:
    """/metrics of each worker counts the uploads of both, without PROMETHEUS_MULTIPROC_DIR."""
    app = start(COMMANDS["hypercorn-workers"])
    for _ in range(10):
        with closing(Api(app.url)) as api:
            assert api.upload(BODY).status_code == 201
    for _ in range(10):
        with closing(Api(app.url)) as api:
            seen = numbers(api)
            expected = stored("read_early", *[10] * 10, uploads=10)
            assert {series: seen[series] for series in expected} == expected


@pytest.mark.parametrize("server", ["hypercorn", "uvicorn"])
def test_a_start_that_cannot_work_is_one_line(environ: dict[str, str], server: str) -> None:
    """Two workers without a bucket end with an error status and give the reason once."""
    ended = run(["--server", server, "--workers", "2", "--bind", "127.0.0.1:0"], environ | {"UPLOAD_BUCKET": "nowhere"})
    assert ended.returncode == 1
    assert ended.stderr.count("there is no bucket 'nowhere'") == 1
    assert "could not start; the service ends" in ended.stderr


def test_an_address_that_cannot_be_had_is_one_line(environ: dict[str, str]) -> None:
    """An address in use ends the start with one line that names address and reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = "127.0.0.1:{1}".format(*taken.getsockname())
        ended = run(["--bind", bind], environ)
    assert ended.returncode == 1
    assert ended.stderr == f"quart_app: cannot listen on {bind}: Address already in use\n"


def run(arguments: Sequence[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run our command, which must end by itself."""
    return subprocess.run(  # noqa: S603 - our own command
        python("quart_app", *arguments),
        cwd=stack.__file__.rpartition("/demo/")[0],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
