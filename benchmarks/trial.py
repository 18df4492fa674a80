"""One trial of a cell on a running server: verify some uploads, then measure."""

import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from typing import IO

from benchmarks import loop_lag
from benchmarks.backends import Backend
from benchmarks.bodies import POOL_BYTES, Bodies
from benchmarks.counters import ProcessTree
from benchmarks.load import Group, Job, Line, send
from benchmarks.null_s3 import KEPT
from benchmarks.plans import (
    LEVELS,
    SLOW_CLIENT_BYTES,
    SLOW_CLIENT_BYTES_PER_SECOND,
    Cell,
    Scenario,
)
from benchmarks.targets import Target
from demo.processes import Server
from demo.stack import tail
from filehandoff.settings import GIB, MIB

START_SECONDS = 180.0
#: Seconds without progress after which a request fails.
REQUEST_TIMEOUT = 60.0
#: Size of the first upload, after which the idle memory is read.
FIRST_BYTES = 4096
#: Most measured files that are read back from a store that keeps them, and most bytes of them.
READ_BACK_FILES, READ_BACK_BYTES = 8, 64 * MIB
#: Most concurrent clients in an open loop; later arrivals wait, and their latency includes the wait.
OPEN_LOOP_CLIENTS = 32
#: Fewest uploads at a level whose 99th percentile is reported, unless they take longer than this many seconds or
#: this multiple of the run's duration of a level.
LATENCIES, LATENCIES_SECONDS, LATENCIES_TIMES = 120, 10.0, 20
#: Largest file that is read back before the measurement; the null store holds it in memory, more than once.
_KEPT_BYTES = GIB
_SAMPLE_SECONDS = 0.1
_LARGE = 64 * MIB
_STALL_AFTER_SECONDS = 0.5


class Skipped(Exception):
    """The cell cannot be measured here; the message is the one-line reason."""


class Failed(Exception):
    """The server or store misbehaved; the message is the one-line reason."""


@dataclass
class Level:
    """Measurements at one level, in bytes and seconds.

    `cpu_seconds` is that of the server's processes; the store's, the load generator's and the whole machine's stand
    beside it, the last during `machine_seconds`. `peak_bytes` is above the idle process. Latencies are in the request
    records.
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
    machine_seconds: float
    peak_bytes: int
    disk_bytes: int
    threads: int
    loop_lag_median: float | None
    loop_lag_p99: float | None
    loop_lag_most: float | None
    first_error: str | None


@dataclass
class Trial:
    """A trial with its store and server running."""

    bodies: Bodies
    seconds: float
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
        """The server's port on loopback."""
        return int(self.server.url.rpartition(":")[2])

    def wait_until_ready(self) -> None:
        """Wait until the server is ready to serve."""
        deadline = time.monotonic() + START_SECONDS
        path = "/readyz" if self.target.is_ours else "/"
        while time.monotonic() < deadline:
            if self.server.returncode is not None:
                raise Skipped(f"{self.target.name} did not start{self._last_words()}")
            with suppress(OSError, HTTPException):
                # if another process owns the port, it may never answer; check that our server is alive
                status, _ = ask(self.port, path, timeout=1)
                if not self.target.is_ours or status < 500:  # noqa: PLR2004 - 503 means not ready
                    return
            time.sleep(0.02)
        raise Skipped(f"{self.target.name} was not ready within {START_SECONDS:g} s{self._last_words()}")

    def _last_words(self) -> str:
        """The last line that the server printed."""
        lines = tail(self.log).strip(":\n").splitlines()
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def check(self, *, thorough: bool) -> None:
        """Upload files and read them back, which also warms up server and store.

        Raises:
            Failed: a stored file differs from the sent one.
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
        lines, _ = self._send([group], min(self.seconds / 3, 0.3))
        if error := next((line["error"] for line in lines if line["error"]), None):
            raise Failed(f"a file before the measurement was not stored: {error}{self._crash()}")
        keys = self._compare(lines)
        for number, line in enumerate(lines):
            key, _ = keys[line["name"]]
            if self.backend.sha256(key) != self.bodies.digest(group, number):
                raise Failed(f"the object of {line['name']} differs from the bytes sent")
        self.backend.delete([key for key, _ in keys.values()])

    def _digests(self, size: int) -> dict[int, str]:
        return self.bodies.digests(size)

    def _compare(self, lines: Sequence[Line]) -> dict[str, tuple[str, int]]:
        """Check that each file answered with 201 is stored in its size.

        Return all files' objects.
        """
        keys = self.backend.keys()
        for line in lines:
            if line["error"] is None and line["name"] not in keys:
                raise Failed(f"{line['name']} was answered with 201 but is not in the store")
            if line["error"] is None and keys[line["name"]][1] != line["size"]:
                has = keys[line["name"]][1]
                raise Failed(f"the object of {line['name']} has {has:,} bytes, but {line['size']:,} were sent")
        return {line["name"]: keys[line["name"]] for line in lines if line["name"] in keys}

    def measure(self, levels: dict[str, Level], lines: list[Line]) -> None:
        """Measure every level of the cell, and verify the stored files.

        Raises:
            Failed: a file is missing or wrong, or the server died.
        """
        for name in self.cell.levels:
            share = LEVELS[name]
            ceiling = levels["closed"].rate if share else 0.0
            rate = share and share * ceiling
            most = min(LATENCIES_SECONDS, LATENCIES_TIMES * self.seconds)
            level, sent = self._level(self._groups(name, rate), min(LATENCIES / rate, most) if rate else 0)
            lines += [{"level": name, **line} for line in sent]
            levels[name] = level
            if crash := self._crash():
                raise Failed(crash.lstrip("; "))
            self._check_stored(sent)
            if level.requests == 0:
                raise Failed(f"no upload succeeded: {level.first_error}")

    def send_closed(self, seconds: float) -> None:
        """Send uploads in a closed loop without measuring."""
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
        seconds = max(self.seconds, self.scenario.seconds, at_least_seconds)
        store = ProcessTree(self.backend.server.pid) if self.backend.server is not None else None
        self._loop_lags()
        threads: list[int] = []
        before, before_store = self.tree.counts(), store and store.counts()
        with self._meanwhile(threads):
            lines, total = self._send(groups, seconds)
        after, after_store = self.tree.counts(), store and store.counts()
        measured = [line for line in lines if line["group"] == "measured"]
        good = [line for line in measured if line["error"] is None]
        # background requests may end after the measured ones
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
            machine_cpu_seconds=total["machine_cpu_seconds"],
            machine_seconds=total["machine_seconds"],
            peak_bytes=max(after.peak_bytes - self.idle_bytes, 0),
            disk_bytes=after.disk_bytes - before.disk_bytes,
            threads=max([*threads, after.threads]),
            loop_lag_median=statistics.median(lags) / 1e6 if lags else None,
            loop_lag_p99=lags[len(lags) * 99 // 100] / 1e6 if lags else None,
            loop_lag_most=lags[-1] / 1e6 if lags else None,
            first_error=next((line["error"] for line in measured if line["error"]), None),
        ), lines

    def _loop_lags(self) -> list[int]:
        """The event loop's lags since the last call, in sorted microseconds; empty without one loop."""
        if not has_loop_lag(self.target, self.scenario):
            return []
        try:
            return sorted(json.loads(ask(self.port, loop_lag.PATH)[1]))
        except (OSError, HTTPException, ValueError):
            return []  # a crash is reported elsewhere

    @contextmanager
    def _meanwhile(self, threads: list[int]) -> Iterator[None]:
        """Sample the number of threads during the load, and stall the store if required."""
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
        target = self.target
        job = Job(
            self.port,
            target.path,
            target.upload_kind,
            target.is_ours,
            self.bodies.fd,
            POOL_BYTES,
            seconds,
            REQUEST_TIMEOUT,
            groups,
        )
        return send(job)

    def _check_stored(self, lines: list[Line]) -> None:
        """Check that the measured files are stored in their size, some by their bytes."""
        keys = self._compare(lines)
        # the file name contains the number of its request
        size = self.cell.size
        readable = [line for line in lines if line["error"] is None and self.backend.can_read(line["name"])]
        measured = [line for line in readable if line["group"] == "measured"]
        digests = list(self._digests(size).values())
        for line in measured[-min(READ_BACK_FILES, max(READ_BACK_BYTES // size, 1)) :]:
            number = int(line["name"].rpartition("-")[2].removesuffix(".bin"))
            if self.backend.sha256(keys[line["name"]][0]) != digests[number % len(digests)]:
                raise Failed(f"the object of {line['name']} differs from the bytes sent")
        if readable:
            self.backend.delete([key for key, _ in keys.values()])

    def _crash(self) -> str:
        if self.server.returncode is not None:
            return f"; the server ended with {self.server.returncode}{self._last_words()}"
        return ""


def has_loop_lag(target: Target, scenario: Scenario) -> bool:
    """Whether the server has one event loop, whose lag is measured."""
    return target.server.interface == "asgi" and scenario.workers == 1


def ask(port: int, path: str, timeout: float = REQUEST_TIMEOUT) -> tuple[int, bytes]:
    """GET a path from a server on loopback; return status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
