"""A lean load generator: `python -m benchmarks.load` reads one job as JSON, and answers with a JSON line a request.

Raw sockets and one epoll loop; bodies go from a memory file into the socket by sendfile(2), so that sending costs far
less than receiving. Answers are only kept while it runs and judged afterwards. Linux only.
"""

import heapq
import itertools
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.clients import Client, Destination, PresignedClient, SentFile
from benchmarks.connection import Connection, Pool

#: An open loop whose queue has not drained after so many times its duration is not going to.
_OVERTIME = 2.0


@dataclass(frozen=True)
class Group:
    """Clients that do the same.

    Args:
        name: what their requests are reported under.
        clients: how many send at once; in an open loop, how many may.
        size: of each file in bytes.
        prefix: what each file's name begins with.
        digests: SHA-256 in hex by where in the pool a body begins; request i sends number i modulo their count.
        rate: how many requests are to begin in each second (open loop); None for one after the other (closed loop).
        bytes_per_second: how fast each connection sends; None for as fast as it can.
        at_least: how many requests are sent even if the time is over.
        at_most: how many are sent even if there is time left.
        in_background: whether they send only for as long as others do.
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
    """What to send where.

    Args:
        port: of loopback.
        path: where a file goes; `{name}` is replaced by the file's name.
        upload_kind: `form` for multipart/form-data, `bare` for the body of a PUT, `presigned` to S3 itself.
        receipts: whether the answer is to hold a receipt with the file's size and SHA-256.
        pool_fd: the file that bodies come from.
        pool_bytes: its size; a body that is longer begins again.
        seconds: for how long new requests are begun.
        timeout: after how many seconds without any progress a request has failed.
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
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """What `to_json` wrote."""
        values = json.loads(text)
        groups = [
            Group(**{**group, "digests": {int(at): digest for at, digest in group["digests"].items()}})
            for group in values.pop("groups")
        ]
        return cls(**values, groups=groups)


class Source:
    """The requests of a group, and its clients."""

    def __init__(self, load: "Load", group: Group) -> None:
        self.group = group
        self._load = load
        self._digests = list(group.digests.items())
        self._number = 0
        self._due: deque[int] = deque()
        self._idle: list[Client] = []
        kind = PresignedClient if load.job.upload_kind == "presigned" else Client
        destination = Destination(load.job.port, load.job.path, load.job.upload_kind)
        self.clients = [
            kind(load, load.pool, destination, group.bytes_per_second, self._on_end) for _ in range(group.clients)
        ]

    def start(self) -> None:
        """Begin."""
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
        """A client has nothing to do: give it the next request, if there is one."""
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
        """The time for a request has come, whether or not a client is free."""
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
        """Whether requests are due that no client was free for, or some are yet to come."""
        is_open = self.group.rate is not None and time.monotonic_ns() < self._load.deadline
        return is_open or bool(self._due)

    def give_up(self, reason: str) -> None:
        """Report what was due and never sent as failed."""
        while self._due:
            sent, _ = self._next(self._due.popleft())
            sent.began = sent.ended = time.monotonic_ns()
            sent.error = reason
            self._load.ended(sent)


@dataclass
class Load:
    """One job while it runs."""

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
        self._timer = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        self.epoll.register(self._timer, select.EPOLLIN)
        self._in_flight = 0
        self._foreground = 0
        self._background = {group.name for group in self.job.groups if group.in_background}
        self._sources = [Source(self, group) for group in self.job.groups]

    @property
    def has_foreground(self) -> bool:
        """Whether there is anything yet to send that is not in the background."""
        now = time.monotonic_ns()
        return now < self.deadline or self._foreground > 0 or self._waiting

    @property
    def _waiting(self) -> bool:
        return any(source.waits for source in self._sources if not source.group.in_background)

    def watch(self, connection: socket.socket, client: Connection) -> None:
        """Tell a client of what happens to its socket."""
        self._by_fd[connection.fileno()] = client
        self.epoll.register(connection, select.EPOLLIN)

    def forget(self, connection: socket.socket) -> None:
        """Tell it no more."""
        if self._by_fd.pop(connection.fileno(), None) is not None:
            self.epoll.unregister(connection)

    def at(self, moment: float, then: Callable[[], None]) -> None:
        """Do something at a moment of CLOCK_MONOTONIC, in seconds."""
        heapq.heappush(self._timers, (moment, next(self._numbers), then))

    def later(self, then: Callable[[], None]) -> None:
        """Do something soon, from the loop: not from within what called."""
        self._soon.append(then)

    def began(self, sent: SentFile) -> None:
        """A request is being sent."""
        self.requests.append(sent)
        self._in_flight += 1
        self._foreground += sent.group not in self._background

    def ended(self, sent: SentFile) -> None:
        """It was answered, or failed."""
        self._in_flight -= 1
        self._foreground -= sent.group not in self._background

    def run(self) -> None:
        """Send everything, until the last answer."""
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
                if fd == self._timer:
                    os.read(fd, 8)
                elif fd in self._by_fd:
                    self._by_fd[fd].ready(events)
            self._fire()

    def _arm(self) -> None:
        # a moment that has passed already would disarm it if it were 0
        moment = max(self._timers[0][0], 1e-9) if not self._soon else 1e-9
        os.timerfd_settime(self._timer, flags=os.TFD_TIMER_ABSTIME, initial=moment)

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
                source.give_up("never sent: no client was free in time")
        self.at(now + 1, self._check_timeouts)


def run(job: Job) -> Iterable[dict[str, Any]]:
    """Run a job; a line for each request, and one for the whole."""
    load = Load(job, Pool.open(job.pool_fd, job.pool_bytes))
    cpu = time.process_time()
    load.run()
    cpu = time.process_time() - cpu
    last = max((sent.ended for sent in load.requests), default=load.origin)
    for sent in load.requests:
        sent.check_answer(receipts=job.receipts)
        yield sent.to_line(load.origin)
    yield {"cpu_seconds": cpu, "seconds": (last - load.origin) / 1e9}


def main() -> None:
    """Read a job from the standard input."""
    job = Job.from_json(sys.stdin.readline())
    print("ready", flush=True)  # what follows is the load itself, and not this interpreter's start
    sys.stdin.readline()
    for line in run(job):
        print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main()
