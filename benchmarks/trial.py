"""One trial to a cell: its store and its server are started anew, what they do is checked, and then it is measured."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks import backends, loop_lag
from benchmarks.backends import Backend
from benchmarks.bodies import POOL_BYTES, Bodies
from benchmarks.counters import ProcessTree, busy_seconds
from benchmarks.load import Group, Job
from benchmarks.null_s3 import KEPT
from benchmarks.plans import (
    LEVELS,
    SCENARIOS,
    SLOW_CLIENT_BYTES,
    SLOW_CLIENT_BYTES_PER_SECOND,
    Cell,
    Scenario,
)
from benchmarks.profiles import Profile, profiling
from benchmarks.targets import Target
from demo.processes import ROOT, Server, StartError, ending, listen, python
from demo.stack import tail
from filehandoff.admission import threads
from filehandoff.settings import GIB, MIB, Settings

START_SECONDS = 180.0
#: For how long a cell is profiled at least.
PROFILED_SECONDS = 4.0
#: After how many seconds without any progress a request has failed.
REQUEST_TIMEOUT = 60.0
#: The first upload of a process, before its idle memory is looked at.
FIRST_BYTES = 4096
#: How many files are read back of what was measured, and how many bytes of them at most, where the store keeps them.
READ_BACK_FILES, READ_BACK_BYTES = 8, 64 * MIB
#: More clients than that never send at once in an open loop; what arrives then waits, and its latency counts that.
OPEN_LOOP_CLIENTS = 32
#: A level whose latencies are looked at has so many uploads at least, for the 99th percentile, if they can be sent in
#: this many seconds, and in so many times those that the run gives to a level.
LATENCIES, LATENCIES_SECONDS, LATENCIES_TIMES = 120, 10.0, 20
#: The largest file that is read back before the measurement: the null store has it in memory, more than once.
_KEPT_BYTES = GIB
_SAMPLE_SECONDS = 0.1
_LARGE = 64 * MIB
_STALL_AFTER_SECONDS = 0.5

Line = dict[str, Any]


class Skipped(Exception):
    """The cell cannot be measured here; the message is the reason, one line."""


class Failed(Exception):
    """What is to be measured does not do what it should; the message is the reason, one line."""


@dataclass
class Level:
    """What was measured at one level of load. Sizes in bytes, times in seconds, `latencies` are in the request lines.

    `cpu_seconds` are those of the server's processes, and for comparison the store's, the load generator's and the
    whole machine's. `peak_bytes` is above the idle process.
    """

    requests: int
    errors: int
    seconds: float
    rate: float
    offered_rate: float | None
    bytes_per_second: float
    cpu_seconds: float
    store_cpu_seconds: float
    load_cpu_seconds: float
    machine_cpu_seconds: float
    peak_bytes: int
    disk_bytes: int
    threads: int
    loop_lag_median: float | None
    loop_lag_p99: float | None
    loop_lag_most: float | None
    first_error: str | None


@dataclass
class Workbench:
    """What all trials share: random bodies, a folder for what the servers write, how long to measure."""

    bodies: Bodies
    folder: Path
    seconds: float

    def run_trial(self, cell: Cell, target: Target, *, thorough: bool) -> tuple[dict[str, Any], list[Line]]:
        """Measure a cell once; what is to be recorded of it, and a line for each request.

        Args:
            cell: what to measure.
            target: its target.
            thorough: whether the files that are read back beforehand have the cell's own size, be it large.
        """
        began = time.monotonic()
        lines: list[Line] = []
        levels: dict[str, Level] = {}
        record: dict[str, Any] = {"status": "measured", "reason": None}
        try:
            with self._running(cell, target) as one, _failing():
                one.check(thorough=thorough)
                one.measure(levels, lines)
        except (Skipped, StartError) as error:
            record = {"status": "skipped", "reason": str(error)}
        except (Failed, OSError) as error:
            record = {"status": "failed", "reason": str(error) or repr(error)}
        seconds = time.monotonic() - began
        return record | {"seconds": seconds, "levels": {name: asdict(level) for name, level in levels.items()}}, lines

    def profile(self, cell: Cell, target: Target) -> Profile:
        """Where the time goes while a cell is under load."""
        try:
            with self._running(cell, target) as one, _failing():
                one.check(thorough=False)
                with profiling(one.server.pid) as profile:
                    one.send_closed(PROFILED_SECONDS)
                return profile
        except (Skipped, StartError, Failed, OSError) as error:
            return Profile(reason=str(error) or repr(error))

    @contextmanager
    def _running(self, cell: Cell, target: Target) -> Iterator["Trial"]:
        if missing := target.missing():
            raise Skipped(f"the module {missing} is not installed")
        scenario = SCENARIOS[cell.scenario]
        with ExitStack() as exits:
            log = exits.enter_context(tempfile.TemporaryFile())
            temporary = exits.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
            backend = exits.enter_context(backends.running(cell.store, scenario, log))
            server = start(target, scenario, {**backend.environ, "TMPDIR": temporary}, log)
            exits.enter_context(ending([server]))
            # it has been measured, and how it ends is none of our questions
            exits.callback(server.kill)
            one = Trial(self, cell, target, scenario, backend, server, log)
            one.wait_until_ready()
            yield one


@contextmanager
def _failing() -> Iterator[None]:
    """What goes wrong once everything runs is a failure: of the server, or of the store."""
    try:
        yield
    except (StartError, OSError, HTTPException, BotoCoreError, ClientError, ValueError) as error:
        raise Failed(str(error).partition("\n")[0] or repr(error)) from error


def start(target: Target, scenario: Scenario, environ: Mapping[str, str], log: IO[bytes]) -> Server:
    """Start a target's server with the settings of a scenario.

    Raises:
        StartError: it cannot be started; one line.
    """
    environ = {**os.environ, **scenario.environ, **environ}
    app = target.app
    if target.server.interface == "asgi":
        environ["BENCHMARK_APP"], app = app, "benchmarks.loop_lag_app:app"
    count = str(threads(Settings.from_env(environ).max_concurrent))  # as many as flask_app/gunicorn.conf.py has
    command = [part.replace("{app}", app).replace("{threads}", count) for part in target.server.command]
    listener = listen(target.name, "nothing", 0)
    return Server(target.name, command, listener, environ, log=log, drain_seconds=0, inherits=target.server.inherits)


@dataclass
class Trial:
    """A store and a server that run."""

    workbench: Workbench
    cell: Cell
    target: Target
    scenario: Scenario
    backend: Backend
    server: Server
    log: IO[bytes]

    def __post_init__(self) -> None:
        self.tree = ProcessTree(self.server.pid)
        self.idle_bytes = 0

    @property
    def port(self) -> int:
        """Where the server listens, on loopback."""
        return int(self.server.url.rpartition(":")[2])

    def wait_until_ready(self) -> None:
        """Wait until the server answers, and not that it cannot serve yet."""
        deadline = time.monotonic() + START_SECONDS
        path = "/readyz" if self.target.is_ours else "/"
        while time.monotonic() < deadline:
            if self.server.returncode is not None:
                raise Skipped(f"{self.target.name} did not start{self._last_words()}")
            with suppress(OSError, HTTPException):
                # another process may have the port, and never answer: look again whether ours has ended
                status, _ = ask(self.port, path, timeout=1)
                if not self.target.is_ours or status < 500:  # noqa: PLR2004 - 503 is not ready
                    return
            time.sleep(0.02)
        raise Skipped(f"{self.target.name} was not ready within {START_SECONDS:g} s{self._last_words()}")

    def _last_words(self) -> str:
        """The last line that it printed."""
        lines = tail(self.log).strip(":\n").splitlines()
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def check(self, *, thorough: bool) -> None:
        """Upload files and read them back; then the server is warm, and so is the store.

        Raises:
            Failed: one of them is not in the store as it was sent.
        """
        size = min(self.cell.size, _KEPT_BYTES if thorough else 16 * MIB)
        self._must_store(Group("first", 1, FIRST_BYTES, f"{KEPT}first-", self._digests(FIRST_BYTES), at_most=1))
        self.idle_bytes = self.tree.counts().resident_bytes
        self.tree.forget_peak()
        clients = 1 if size > _LARGE else self.cell.clients
        warm = Group("warm-up", clients, size, f"{KEPT}warm-", self._digests(size), at_least=clients)
        if size > _LARGE:
            warm = replace(warm, at_most=1)
        self._must_store(warm)

    def _must_store(self, group: Group) -> None:
        lines, _ = self._send([group], min(self.workbench.seconds / 3, 0.3))
        if error := next((line["error"] for line in lines if line["error"]), None):
            raise Failed(f"a file before the measurement was not stored: {error}{self._crash()}")
        keys = self._compare(lines)
        for number, line in enumerate(lines):
            key, _ = keys[line["name"]]
            if self.backend.sha256(key) != self.workbench.bodies.digest(group, number):
                raise Failed(f"the object of {line['name']} does not hold the bytes that were sent")
        self.backend.delete([key for key, _ in keys.values()])

    def _digests(self, size: int) -> dict[int, str]:
        return self.workbench.bodies.digests(size)

    def _compare(self, lines: Sequence[Line]) -> dict[str, tuple[str, int]]:
        """See that every file that was answered by 201 is in the store, with its size; the objects of all lines."""
        keys = self.backend.keys()
        for line in lines:
            if line["error"] is None and line["name"] not in keys:
                raise Failed(f"{line['name']} was answered by 201 and is not in the store")
            if line["error"] is None and keys[line["name"]][1] != line["size"]:
                has = keys[line["name"]][1]
                raise Failed(f"the object of {line['name']} has {has:,} bytes where {line['size']:,} were sent")
        return {line["name"]: keys[line["name"]] for line in lines if line["name"] in keys}

    def measure(self, levels: dict[str, Level], lines: list[Line]) -> None:
        """Measure every level of the cell, and see that what was stored is right.

        Raises:
            Failed: something was lost, or is wrong, or the server died.
        """
        for name in self.cell.levels:
            share = LEVELS[name]
            ceiling = levels["closed"].rate if share else 0.0
            rate = share and share * ceiling
            most = min(LATENCIES_SECONDS, LATENCIES_TIMES * self.workbench.seconds)
            level, sent = self._level(self._groups(name, rate), min(LATENCIES / rate, most) if rate else 0)
            lines += [{"level": name, **line} for line in sent]
            levels[name] = level
            if crash := self._crash():
                raise Failed(crash.lstrip("; "))
            self._check_stored(sent)
            if level.requests == 0:
                raise Failed(f"no upload succeeded: {level.first_error}")

    def send_closed(self, seconds: float) -> None:
        """Load it as fast as it goes, and look at nothing."""
        self._send(self._groups("profile", None), seconds)

    def _groups(self, name: str, rate: float | None) -> list[Group]:
        cell, digests = self.cell, self._digests(self.cell.size)
        if rate is not None:
            return [Group("measured", OPEN_LOOP_CLIENTS, cell.size, f"{name}-", digests, rate=rate)]
        pace = self.scenario.client_bytes_per_second
        at_least = LATENCIES if len(cell.levels) > 1 and cell.size <= MIB else cell.clients
        groups = [
            Group("measured", cell.clients, cell.size, f"{name}-", digests, at_least=at_least, bytes_per_second=pace)
        ]
        if self.scenario.slow_clients:
            slow = Group(
                "slow",
                self.scenario.slow_clients,
                SLOW_CLIENT_BYTES,
                f"{name}-slow-",
                self._digests(SLOW_CLIENT_BYTES),
                bytes_per_second=SLOW_CLIENT_BYTES_PER_SECOND,
                in_background=True,
            )
            groups.append(slow)
        return groups

    def _level(self, groups: list[Group], at_least_seconds: float) -> tuple[Level, list[Line]]:
        seconds = max(self.workbench.seconds, self.scenario.seconds, at_least_seconds)
        store = ProcessTree(self.backend.server.pid) if self.backend.server is not None else None
        self._loop_lags()
        threads: list[int] = []
        before, before_store, busy = self.tree.counts(), store and store.counts(), busy_seconds()
        with self._meanwhile(threads):
            lines, total = self._send(groups, seconds)
        after, after_store, busy = self.tree.counts(), store and store.counts(), busy_seconds() - busy
        measured = [line for line in lines if line["group"] == "measured"]
        good = [line for line in measured if line["error"] is None]
        # those in the background end later than what is measured
        last = max((line["ended_us"] for line in measured), default=0) / 1e6
        lags = self._loop_lags()
        return Level(
            requests=len(good),
            errors=len(measured) - len(good),
            seconds=last,
            rate=len(good) / last if last else 0.0,
            offered_rate=groups[0].rate,
            bytes_per_second=len(good) * self.cell.size / last if last else 0.0,
            cpu_seconds=after.cpu_seconds - before.cpu_seconds,
            store_cpu_seconds=after_store.cpu_seconds - before_store.cpu_seconds
            if after_store and before_store
            else 0.0,
            load_cpu_seconds=total["cpu_seconds"],
            machine_cpu_seconds=busy,
            peak_bytes=max(after.peak_bytes - self.idle_bytes, 0),
            disk_bytes=after.disk_bytes - before.disk_bytes,
            threads=max([*threads, after.threads]),
            loop_lag_median=statistics.median(lags) / 1e6 if lags else None,
            loop_lag_p99=lags[len(lags) * 99 // 100] / 1e6 if lags else None,
            loop_lag_most=lags[-1] / 1e6 if lags else None,
            first_error=next((line["error"] for line in measured if line["error"]), None),
        ), lines

    def _loop_lags(self) -> list[int]:
        """How late the event loop was since this was last asked, in microseconds, sorted; none without a loop."""
        if self.target.server.interface != "asgi":
            return []
        try:
            return sorted(json.loads(ask(self.port, loop_lag.PATH)[1]))
        except (OSError, HTTPException, ValueError):
            return []  # a crash is seen elsewhere

    @contextmanager
    def _meanwhile(self, threads: list[int]) -> Iterator[None]:
        """Look at the number of threads while the load runs, and let the store stall where that is to be."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_SAMPLE_SECONDS):
                threads.append(self.tree.counts().threads)

        tasks = [threading.Thread(target=watch)]
        if self.scenario.stall_seconds:
            tasks.append(threading.Thread(target=self._stall, args=[over]))
        for task in tasks:
            task.start()
        try:
            yield
        finally:
            over.set()
            for task in tasks:
                task.join()

    def _stall(self, over: threading.Event) -> None:
        server = self.backend.server
        if server is None or over.wait(_STALL_AFTER_SECONDS):
            return
        os.killpg(server.pid, signal.SIGSTOP)
        over.wait(self.scenario.stall_seconds)
        os.killpg(server.pid, signal.SIGCONT)

    def _send(self, groups: list[Group], seconds: float) -> tuple[list[Line], dict[str, float]]:
        target, bodies = self.target, self.workbench.bodies
        job = Job(
            self.port,
            target.path,
            target.upload_kind,
            target.is_ours,
            bodies.fd,
            POOL_BYTES,
            seconds,
            REQUEST_TIMEOUT,
            groups,
        )
        return send(job)

    def _check_stored(self, lines: list[Line]) -> None:
        """See that what was measured is in the store, by its size, and by its bytes where they were kept."""
        keys = self._compare(lines)
        # a line's number among its group's is in its name
        size = self.cell.size
        readable = [line for line in lines if line["error"] is None and self.backend.can_read(line["name"])]
        measured = [line for line in readable if line["group"] == "measured"]
        digests = list(self._digests(size).values())
        for line in measured[-min(READ_BACK_FILES, max(READ_BACK_BYTES // size, 1)) :]:
            number = int(line["name"].rpartition("-")[2].removesuffix(".bin"))
            if self.backend.sha256(keys[line["name"]][0]) != digests[number % len(digests)]:
                raise Failed(f"the object of {line['name']} does not hold the bytes that were sent")
        if readable:
            self.backend.delete([key for key, _ in keys.values()])

    def _crash(self) -> str:
        if self.server.returncode is not None:
            return f"; the server ended with {self.server.returncode}{self._last_words()}"
        return ""


def send(job: Job) -> tuple[list[Line], dict[str, float]]:
    """Run a job in a load generator of its own; a line for each request, and what is told of the whole.

    Raises:
        Failed: the load generator died.
    """
    with subprocess.Popen(  # noqa: S603 - our own command
        python("benchmarks.load"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        pass_fds=[job.pool_fd],
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.to_json() + "\n")
            process.stdin.flush()
            process.stdout.readline()
            output, _ = process.communicate("\n")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Failed(f"the load generator ended with {process.returncode}")
    *lines, total = (json.loads(line) for line in output.splitlines())
    return lines, total


def ask(port: int, path: str, timeout: float = REQUEST_TIMEOUT) -> tuple[int, bytes]:
    """GET something from a server on loopback; the status and the body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
