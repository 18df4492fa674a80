"""A lean load generator: `python -m benchmarks.load` reads one job as JSON, and answers with a JSON line a request.

Raw sockets and one epoll loop; bodies go from a memory file into the socket by sendfile(2), so that sending costs far
less than receiving. Answers are only kept while it runs and judged afterwards. Linux only.
"""

import errno
import heapq
import itertools
import json
import mmap
import os
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import Any

BOUNDARY = "benchmark-2f6d1c"
FIELD = "file"

#: A body up to this size goes out with its head by one call.
_AT_ONCE_BYTES = 256 * 1024
_SENDFILE_BYTES = 1024 * 1024
_ANSWER_BYTES = 64 * 1024
#: For how long a paced connection may catch up what a late timer missed.
_KEPT_SECONDS = 0.02
#: An open loop whose queue has not drained after so many times its duration is not going to.
_OVERTIME = 2.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CREATED = 201


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
        as_form: whether it goes as multipart/form-data; otherwise as the body of a PUT.
        receipts: whether the answer is to hold a receipt with the file's size and SHA-256.
        pool_fd: the file that bodies come from.
        pool_bytes: its size; a body that is longer begins again.
        seconds: for how long new requests are begun.
        timeout: after how many seconds without any progress a request has failed.
    """

    port: int
    path: str
    as_form: bool
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


@dataclass
class Sent:
    """One request. Times in nanoseconds of CLOCK_MONOTONIC; `intended` is when it should have begun."""

    group: str
    name: str
    size: int
    digest: str
    intended: int
    began: int = 0
    ended: int = 0
    status: int = 0
    error: str | None = None
    answer: bytes = b""

    def judge(self, *, receipts: bool) -> None:
        """Look at the answer: it is 201, well-formed, and says of the file what was sent."""
        if self.error is not None:
            return
        try:
            with HTTPResponse(_Socket(self.answer)) as response:  # type: ignore[arg-type] # all that it asks of a socket
                response.begin()
                self.status, body = response.status, response.read()
            if self.status != _CREATED:
                self.error = f"answered {self.status}: {body[:200].decode(errors='replace')}"
            elif receipts:
                (receipt,) = json.loads(body)["receipts"]
                told = {"filename": receipt["filename"], "size": receipt["size"], "sha256": receipt["sha256"]}
                if told != {"filename": self.name, "size": self.size, "sha256": self.digest}:
                    self.error = f"the receipt is another file's: {told}"
        except (HTTPException, ValueError, KeyError, TypeError) as error:
            self.error = f"the answer cannot be read: {error!r}"
        finally:
            self.answer = b""

    def to_line(self, origin: int) -> dict[str, Any]:
        """As it is written: times in microseconds since the job began."""
        return {
            "group": self.group,
            "name": self.name,
            "size": self.size,
            "intended_us": (self.intended - origin) // 1000,
            "began_us": (self.began - origin) // 1000,
            "ended_us": (self.ended - origin) // 1000,
            "status": self.status,
            "error": self.error,
        }


class _Socket:
    """Bytes that came, for http.client to parse."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


@dataclass
class Pool:
    """Where bodies come from: a body begins somewhere in it, and goes on at its beginning after its end."""

    fd: int
    size: int
    view: memoryview

    @classmethod
    def open(cls, fd: int, size: int) -> "Pool":
        """Map the file into memory, for small bodies."""
        return cls(fd, size, memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)))


class Request:
    """The bytes of a request, of which so many are sent."""

    def __init__(self, job: Job, pool: Pool, sent: Sent, at: int) -> None:
        self.sent = sent
        self._pool = pool
        self._at = at
        self._head, self._tail = _frame(job, sent)
        self._size = sent.size
        self._done = 0
        self.length = len(self._head) + sent.size + len(self._tail)

    @property
    def is_whole(self) -> bool:
        """Whether all of it was sent."""
        return self._done == self.length

    def send(self, connection: socket.socket, most: int) -> int:
        """Send some of it, at most so many bytes of the file; how many went."""
        done, head, size = self._done, len(self._head), self._size
        if done == 0 and size <= min(_AT_ONCE_BYTES, most) and self._at + size <= self._pool.size:
            count = connection.sendmsg([self._head, self._pool.view[self._at : self._at + size], self._tail])
        elif done < head:
            count = connection.send(self._head[done:], socket.MSG_MORE)
        elif done < head + size:
            at = (self._at + done - head) % self._pool.size
            count = min(size - (done - head), self._pool.size - at, most)
            count = os.sendfile(connection.fileno(), self._pool.fd, at, count)
        else:
            count = connection.send(self._tail[done - head - size :])
        self._done += count
        return count


def _frame(job: Job, sent: Sent) -> tuple[bytes, bytes]:
    """What stands before and after the file in a request."""
    before = after = b""
    content_type, method = "application/octet-stream", "PUT"
    if job.as_form:
        method = "POST"
        content_type = f"multipart/form-data; boundary={BOUNDARY}"
        disposition = f'form-data; name="{FIELD}"; filename="{sent.name}"'
        lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}", "Content-Type: application/octet-stream"]
        before = "\r\n".join([*lines, "", ""]).encode()
        after = f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        f"{method} {job.path.format(name=sent.name)} HTTP/1.1",
        f"Host: 127.0.0.1:{job.port}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(before) + sent.size + len(after)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + before, after


class Connection:
    """One client: a connection that sends one request after the other, made anew when it broke."""

    def __init__(self, load: "Load", source: "Source") -> None:
        self._load = load
        self._source = source
        self._pace = source.group.bytes_per_second
        self._most = _SENDFILE_BYTES if self._pace is None else max(min(self._pace // 100, _SENDFILE_BYTES), 1024)
        self._socket: socket.socket | None = None
        self._request: Request | None = None
        self._answer = b""
        self._paid_until = 0.0
        self._waiting = False
        self.moved = 0.0

    def begin(self, request: Request) -> None:
        """Send a request."""
        self._request = request
        self._answer = b""
        self.moved = time.monotonic()
        request.sent.began = time.monotonic_ns()
        if self._socket is None:
            self._connect()
        else:
            self._send()

    def _connect(self) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._socket.connect_ex(("127.0.0.1", self._load.job.port))
        if code not in {0, errno.EINPROGRESS}:
            self.fail(OSError(code, os.strerror(code)))
            return
        self._load.watch(self._socket, self)
        self._listen_for(select.EPOLLIN | select.EPOLLOUT)

    def _listen_for(self, events: int) -> None:
        assert self._socket is not None
        self._load.epoll.modify(self._socket, events)

    def ready(self, events: int) -> None:
        """The socket can be read or written."""
        try:
            if events & ~select.EPOLLOUT:
                self._receive()
            if events & select.EPOLLOUT and self._request is not None and not self._waiting:
                self._send()
        except OSError as error:
            self.fail(error)

    def _send(self) -> None:
        request, connection = self._request, self._socket
        assert request is not None
        assert connection is not None
        try:
            while not request.is_whole:
                count = request.send(connection, self._most)
                self.moved = time.monotonic()
                if self._pace is not None and not request.is_whole and self._must_wait(count):
                    return
        except BlockingIOError:
            self._listen_for(select.EPOLLIN | select.EPOLLOUT)
        except OSError as error:
            self._receive_refusal(error)
        else:
            self._listen_for(select.EPOLLIN)

    def _receive_refusal(self, error: OSError) -> None:
        """Sending failed: an answer may have come before that."""
        try:
            self._receive()
        except OSError:
            self.fail(error)
        else:
            if self._request is not None:
                self.fail(error)

    def _must_wait(self, count: int) -> bool:
        """Whether what was sent has yet to be paid for: then go on when it is."""
        assert self._pace is not None
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - _KEPT_SECONDS) + count / self._pace
        if self._paid_until <= now:
            return False
        self._waiting = True
        self._listen_for(select.EPOLLIN)
        self._load.at(self._paid_until, self._go_on)
        return True

    def _go_on(self) -> None:
        self._waiting = False
        if self._request is not None and self._socket is not None:
            self._send()

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        self.moved = time.monotonic()
        if self._request is None:  # the server closes a connection that has nothing to do
            self._close()
            return
        if not data:
            self.fail(ConnectionError("the connection was closed without a whole answer"))
            return
        self._answer += data
        if is_whole(self._answer):
            self._end()

    def _end(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        sent = request.sent
        sent.ended = time.monotonic_ns()
        sent.answer = self._answer
        if not request.is_whole:
            sent.judge(receipts=False)
            sent.error = sent.error or "answered before the file had been sent"
        if not request.is_whole or b"\r\nconnection: close" in self._answer.lower():
            self._close()
        self._load.ended(sent)
        self._source.free(self)

    def fail(self, error: Exception) -> None:
        """The request has failed, if there is one; the connection is over."""
        self._close()
        request, self._request = self._request, None
        if request is not None:
            request.sent.ended = time.monotonic_ns()
            request.sent.error = f"{type(error).__name__}: {error}"
            self._load.ended(request.sent)
            self._source.free(self)

    def check_timeout(self, now: float) -> None:
        """Fail if nothing has moved for too long."""
        if self._request is not None and now - self.moved > self._load.job.timeout:
            self.fail(TimeoutError(f"nothing moved for {self._load.job.timeout:g} s"))

    def _close(self) -> None:
        if self._socket is not None:
            self._load.forget(self._socket)
            self._socket.close()
            self._socket = None


def is_whole(answer: bytes) -> bool:
    """Whether an answer has come to its end."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if length := _LENGTH.search(head):
        return len(body) >= int(length[1])
    return not _CHUNKED.search(head) or body.endswith(b"0\r\n\r\n")


class Source:
    """The requests of a group, and its clients."""

    def __init__(self, load: "Load", group: Group) -> None:
        self.group = group
        self._load = load
        self._digests = list(group.digests.items())
        self._number = 0
        self._due: deque[int] = deque()
        self._idle: list[Connection] = []
        self.clients = [Connection(load, self) for _ in range(group.clients)]

    def start(self) -> None:
        """Begin."""
        if self.group.rate is None:
            for client in self.clients:
                self.free(client)
        else:
            self._idle = list(self.clients)
            self._load.at(self._load.origin / 1e9, self._arrive)

    def free(self, client: Connection) -> None:
        """A client has nothing to do: give it the next request, if there is one."""
        now = time.monotonic_ns()
        if self.group.rate is not None:
            self._idle.append(client)
            self._serve()
        elif self._may_begin(now):
            self._load.later(lambda: client.begin(self._next(now)))

    def _may_begin(self, now: int) -> bool:
        if self.group.in_background:
            return self._load.has_foreground
        if self.group.at_most is not None and self._number >= self.group.at_most:
            return False
        return self._number < self.group.at_least or now < self._load.deadline

    def _next(self, intended: int) -> Request:
        number, self._number = self._number, self._number + 1
        at, digest = self._digests[number % len(self._digests)]
        name = f"{self.group.prefix}{number:07d}.bin"
        sent = Sent(self.group.name, name, self.group.size, digest, intended)
        self._load.began(sent)
        return Request(self._load.job, self._load.pool, sent, at)

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
            client.begin(self._next(due))

    @property
    def waits(self) -> bool:
        """Whether requests are due that no client was free for, or some are yet to come."""
        is_open = self.group.rate is not None and time.monotonic_ns() < self._load.deadline
        return is_open or bool(self._due)

    def give_up(self, reason: str) -> None:
        """Report what was due and never sent as failed."""
        while self._due:
            sent = self._next(self._due.popleft()).sent
            sent.began = sent.ended = time.monotonic_ns()
            sent.error = reason
            self._load.ended(sent)


@dataclass
class Load:
    """One job while it runs."""

    job: Job
    pool: Pool
    epoll: select.epoll = field(default_factory=select.epoll)
    requests: list[Sent] = field(default_factory=list)
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

    def began(self, sent: Sent) -> None:
        """A request is being sent."""
        self.requests.append(sent)
        self._in_flight += 1
        self._foreground += sent.group not in self._background

    def ended(self, sent: Sent) -> None:
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
                client.check_timeout(now)
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
        sent.judge(receipts=job.receipts)
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
