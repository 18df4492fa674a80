"""A lean load generator: `python -m benchmarks.load` reads a job and writes JSON lines.

Raw sockets and one epoll loop. Bodies go from a memory file into the socket by sendfile(2), so that sending costs far
less than receiving. Answers are stored during the load and checked afterwards. Linux only.
"""

import heapq
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.clients import Client, Destination, PresignedClient, SentFile, TusClient
from benchmarks.connection import Connection, Pool
from benchmarks.counters import busy_seconds
from benchmarks.timer import Timer
from demo.processes import ROOT, StartError, python

#: The record of one request.
Line = dict[str, Any]

#: Clients of several requests, by the kind of their uploads.
CLIENTS = {"presigned": PresignedClient, "tus": TusClient}
#: An open loop stops waiting for its queue after this multiple of its duration.
_OVERTIME = 2.0


@dataclass(frozen=True)
class Group:
    """Clients with the same behaviour.

    Args:
        name: the name in the record of their requests.
        clients: number of concurrent clients; in an open loop, the most.
        size: bytes of each file.
        prefix: start of each file's name.
        digests: SHA-256 in hex by the body's offset in the pool; request i sends number i modulo their count.
        rate: requests begun per second (open loop); None for one after another (closed loop).
        bytes_per_second: rate of each connection; None for no limit.
        at_least: requests sent even after the time is over.
        at_most: requests after which the group stops early.
        in_background: send only while other groups send.
    """

    name: str
    clients: int
    size: int
    prefix: str
    digests: dict[int, str]
    rate: float | None = None
    bytes_per_second: int | None = None
    at_least: int = 1
    at_most: int | None = None
    in_background: bool = False


@dataclass(frozen=True)
class Job:
    """Where to send which files.

    Args:
        port: a port on loopback.
        path: the URL path of a file; `{name}` is replaced by its name.
        upload_kind: `form` for multipart/form-data, `bare` for the body of a PUT, `presigned` for S3's own URLs,
            `tus` for chunks.
        receipts: whether each answer must contain a receipt with the file's size and SHA-256.
        pool_fd: descriptor of the memory file of bodies.
        pool_bytes: its size; a longer body wraps around.
        seconds: time during which requests begin.
        timeout: seconds without progress after which a request fails.
    """

    port: int
    path: str
    upload_kind: str
    receipts: bool
    pool_fd: int
    pool_bytes: int
    seconds: float
    timeout: float
    groups: list[Group]

    def to_json(self) -> str:
        """Serialize the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Parse the output of `to_json`."""
        values = json.loads(text)
        groups = [
            Group(**{**group, "digests": {int(at): digest for at, digest in group["digests"].items()}})
            for group in values.pop("groups")
        ]
        return cls(**values, groups=groups)


class Source:
    """A group's requests and clients while the job runs."""

    def __init__(self, load: "Load", group: Group) -> None:
        self.group = group
        self._load = load
        self._digests = list(group.digests.items())
        self._number = 0
        self._due: deque[int] = deque()
        self._idle: list[Client] = []
        kind = CLIENTS.get(load.job.upload_kind, Client)
        destination = Destination(load.job.port, load.job.path, load.job.upload_kind)
        self.clients = [
            kind(load, load.pool, destination, group.bytes_per_second, self._on_end) for _ in range(group.clients)
        ]

    def start(self) -> None:
        """Send the first requests."""
        if self.group.rate is None:
            for client in self.clients:
                self.free(client)
        else:
            self._idle = list(self.clients)
            self._load.at(self._load.origin / 1e9, self._arrive)

    def _on_end(self, client: Client, sent: SentFile) -> None:
        self._load.ended(sent)
        self.free(client)

    def free(self, client: Client) -> None:
        """Give an idle client its next request, if there is one."""
        now = time.monotonic_ns()
        if self.group.rate is not None:
            self._idle.append(client)
            self._serve()
        elif self._may_begin(now):
            self._load.later(lambda: client.begin(*self._next(now)))

    def _may_begin(self, now: int) -> bool:
        if self.group.in_background:
            return self._load.has_foreground
        if self.group.at_most is not None and self._number >= self.group.at_most:
            return False
        return self._number < self.group.at_least or now < self._load.deadline

    def _next(self, intended: int) -> tuple[SentFile, int]:
        number, self._number = self._number, self._number + 1
        at, digest = self._digests[number % len(self._digests)]
        name = f"{self.group.prefix}{number:07d}.bin"
        sent = SentFile(self.group.name, name, self.group.size, digest, intended)
        self._load.began(sent)
        return sent, at

    def _arrive(self) -> None:
        """Queue the requests that are due, and set the timer for the next one."""
        assert self.group.rate is not None
        due = self._load.origin + int((self._number + len(self._due)) * 1e9 / self.group.rate)
        while due <= time.monotonic_ns() and due < self._load.deadline:
            self._due.append(due)
            due = self._load.origin + int((self._number + len(self._due)) * 1e9 / self.group.rate)
        self._serve()
        if due < self._load.deadline:
            self._load.at(due / 1e9, self._arrive)

    def _serve(self) -> None:
        while self._due and self._idle:
            client, due = self._idle.pop(), self._due.popleft()
            client.begin(*self._next(due))

    @property
    def waits(self) -> bool:
        """Whether requests are queued or still to come."""
        is_open = self.group.rate is not None and time.monotonic_ns() < self._load.deadline
        return is_open or bool(self._due)

    def give_up(self, reason: str) -> None:
        """Record the queued requests as failed."""
        while self._due:
            sent, _ = self._next(self._due.popleft())
            sent.began = sent.ended = time.monotonic_ns()
            sent.error = reason
            self._load.ended(sent)


@dataclass
class Load:
    """A running job."""

    job: Job
    pool: Pool
    epoll: select.epoll = field(default_factory=select.epoll)
    requests: list[SentFile] = field(default_factory=list)
    origin: int = 0
    deadline: int = 0

    def __post_init__(self) -> None:
        self._by_fd: dict[int, Connection] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._timer = Timer()
        self.epoll.register(self._timer.fd, select.EPOLLIN)
        self._in_flight = 0
        self._foreground = 0
        self._background = {group.name for group in self.job.groups if group.in_background}
        self._sources = [Source(self, group) for group in self.job.groups]

    @property
    def has_foreground(self) -> bool:
        """Whether groups outside the background still have something to send or to receive."""
        now = time.monotonic_ns()
        return now < self.deadline or self._foreground > 0 or self._waiting

    @property
    def _waiting(self) -> bool:
        return any(source.waits for source in self._sources if not source.group.in_background)

    def watch(self, connection: socket.socket, client: Connection) -> None:
        """Call the client's `ready` on each event of its socket."""
        self._by_fd[connection.fileno()] = client
        self.epoll.register(connection, select.EPOLLIN)

    def forget(self, connection: socket.socket) -> None:
        """Stop watching a socket."""
        if self._by_fd.pop(connection.fileno(), None) is not None:
            self.epoll.unregister(connection)

    def at(self, moment: float, then: Callable[[], None]) -> None:
        """Call `then` at a moment of CLOCK_MONOTONIC, in seconds."""
        heapq.heappush(self._timers, (moment, next(self._numbers), then))

    def later(self, then: Callable[[], None]) -> None:
        """Call `then` in the next turn of the loop, outside the caller's stack."""
        self._soon.append(then)

    def began(self, sent: SentFile) -> None:
        """Count a request that begins."""
        self.requests.append(sent)
        self._in_flight += 1
        self._foreground += sent.group not in self._background

    def ended(self, sent: SentFile) -> None:
        """Count a request that was answered or failed."""
        self._in_flight -= 1
        self._foreground -= sent.group not in self._background

    def run(self) -> None:
        """Send all requests and wait for the last answer."""
        self.origin = time.monotonic_ns()
        self.deadline = self.origin + int(self.job.seconds * 1e9)
        for source in self._sources:
            source.start()
        self.at(time.monotonic() + 1, self._check_timeouts)
        while self._in_flight or self._soon or self._waiting:
            while self._soon:
                self._soon.popleft()()
            self._arm()
            for fd, events in self.epoll.poll():
                if fd == self._timer.fd:
                    os.read(fd, 8)
                elif fd in self._by_fd:
                    self._by_fd[fd].ready(events)
            self._fire()

    def _arm(self) -> None:
        self._timer.set(0 if self._soon else self._timers[0][0])

    def _fire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _check_timeouts(self) -> None:
        now = time.monotonic()
        for source in self._sources:
            for client in source.clients:
                for connection in client.connections:
                    connection.check_timeout(now, self.job.timeout)
            if now > self.deadline / 1e9 + max(self.job.seconds * _OVERTIME, self.job.timeout):
                source.give_up("not sent: no client became free in time")
        self.at(now + 1, self._check_timeouts)


def run(job: Job) -> Iterable[Line]:
    """Run a job; yield a record per request and one for the whole job."""
    load = Load(job, Pool.open(job.pool_fd, job.pool_bytes))
    before, cpu, busy = time.monotonic(), time.process_time(), busy_seconds()
    load.run()
    seconds, cpu, busy = time.monotonic() - before, time.process_time() - cpu, busy_seconds() - busy
    last = max((sent.ended for sent in load.requests), default=load.origin)
    for sent in load.requests:
        sent.check_answer(receipts=job.receipts)
        yield sent.to_line(load.origin)
    machine = {"machine_cpu_seconds": busy, "machine_seconds": seconds}
    yield {"cpu_seconds": cpu, "seconds": (last - load.origin) / 1e9, **machine}


def send(job: Job) -> tuple[list[Line], dict[str, float]]:
    """Run a job in a load generator process.

    Return a record per request and one for the whole job.

    Raises:
        StartError: the load generator died; a one-line message.
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
        raise StartError(f"the load generator ended with {process.returncode}")
    *lines, total = (json.loads(line) for line in output.splitlines())
    return lines, total


def main() -> None:
    """Run the job that arrives on standard input."""
    job = Job.from_json(sys.stdin.readline())
    print("ready", flush=True)  # the load begins after the next line, so that this interpreter's start is not measured
    sys.stdin.readline()
    for line in run(job):
        print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main()
