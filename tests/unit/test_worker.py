"""gunicorn's worker before and after a response, and its threads at the system's limit."""

import itertools
import logging
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn
from patience import PATIENCE

from filehandoff.settings import Settings
from filehandoff.web.request import EXTENSION
from flask_app.request import DISCARD_IDLE_SECONDS, DISCARD_SECONDS
from flask_app.worker import HEAD_SECONDS, Lingering, ThreadPool, Worker

MANY = 10
#: More bytes than a socket pair buffers.
SENT = bytes(10**6)


@pytest.fixture
def worker(lingering: Lingering, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Make a worker without a process, whose one thread is busy; each look at its connections is a second later."""
    clock = itertools.count()
    monkeypatch.setattr("flask_app.worker.time.monotonic", lambda: float(next(clock)))
    worker = Worker(1, os.getppid(), [], None, 30, Config(), logging.getLogger(__name__))
    service = SimpleNamespace(cleaner=SimpleNamespace(resume=lambda: None), settings=Settings())
    worker.wsgi = SimpleNamespace(extensions={EXTENSION: service})
    worker._lingering = lingering  # noqa: SLF001 - `run` makes it
    busy = threading.Event()
    with selectors.DefaultSelector() as worker.poller, ThreadPool(1, 1) as worker.tpool:
        worker.tpool.submit(busy.wait)
        yield worker
        worker.tpool.shutdown(wait=False, cancel_futures=True)
        busy.set()
    worker.tmp.close()


@pytest.mark.parametrize(
    ("rest", "ends"), [(b"\r\n\r\n", False), (b"\r\n", True)], ids=["complete head", "incomplete head"]
)
def test_only_an_incomplete_head_has_a_time_limit(worker: Worker, rest: bytes, *, ends: bool) -> None:
    """A complete one waits for a thread as long as all are busy."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        worker.enqueue_req(TConn(worker.cfg, ours, ("127.0.0.1", 1), ("127.0.0.1", 2)))
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: here" + rest)
        worker.wait_for_and_dispatch_events(PATIENCE)
        for _ in range(int(HEAD_SECONDS) + 2):
            worker.notify()
        theirs.settimeout(0)
        if ends:
            assert theirs.recv(1) == b""
        else:
            with pytest.raises(BlockingIOError):
                theirs.recv(1)


@pytest.mark.parametrize(
    ("sent", "force", "ends"),
    [(b"GET / HTTP/1.1\r\n", False, False), (b"", False, True), (b"GET / HTTP/1.1\r\n", True, True)],
    ids=["a request", "no request", "the end of the process"],
)
def test_an_idle_connection_ends_unless_its_next_request_has_arrived(
    worker: Worker, sent: bytes, *, force: bool, ends: bool
) -> None:
    """On a busy machine, the main thread may see the time limit before the request."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        conn = TConn(worker.cfg, ours, ("127.0.0.1", 1), ("127.0.0.1", 2))
        worker.poller.register(ours, selectors.EVENT_READ)
        worker.keepalived_conns.append(conn)
        conn.timeout = 0.0  # the worker's clock is later
        theirs.sendall(sent)
        worker.murder_keepalived(force)
        assert list(worker.keepalived_conns) == ([] if ends else [conn])
        assert (ours.fileno() == -1) == ends


@pytest.fixture
def lingering() -> Iterator[Lingering]:
    """Make an empty `Lingering`, and close its connections after the test."""
    lingering = Lingering(MANY)
    yield lingering
    lingering.finish()


def hand_over(lingering: Lingering) -> socket.socket:
    """Pass a connection to `lingering`, and return the client's end."""
    ours, theirs = socket.socketpair()
    lingering.take(ours)
    theirs.settimeout(PATIENCE)
    assert theirs.recv(1) == b""  # our end is shut down for writing
    return theirs


def send(lingering: Lingering, client: socket.socket) -> None:
    """Send `SENT`, and read after each piece."""
    left = memoryview(SENT)
    client.settimeout(0)
    while left:
        left = left[client.send(left) :]
        lingering.read()


def test_data_after_the_response_is_discarded(lingering: Lingering) -> None:
    """A client can send more than a socket buffers, because the worker keeps reading."""
    with closing(hand_over(lingering)) as client:
        send(lingering, client)


def test_a_closed_connection_is_accepted(lingering: Lingering) -> None:
    """A connection that was closed before raises no error."""
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    lingering.take(ours)


def test_a_silent_connection_ends_after_a_short_time(lingering: Lingering, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time starts again with each byte, also with one that is not read before the check."""
    now = 0.0
    monkeypatch.setattr("flask_app.worker.time.monotonic", lambda: now)
    with closing(hand_over(lingering)) as client:
        for _ in range(3):
            client.sendall(b"x")  # the connection is still open
            lingering.end_overdue(now)
            now += DISCARD_IDLE_SECONDS
            lingering.end_overdue(now)
        lingering.end_overdue(now + 0.1)
        with pytest.raises(BrokenPipeError):
            client.sendall(b"x")


def test_a_sending_connection_ends_after_a_longer_time(lingering: Lingering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if bytes have just come."""
    now = 0.0
    monkeypatch.setattr("flask_app.worker.time.monotonic", lambda: now)
    with closing(hand_over(lingering)) as client:
        while now <= DISCARD_SECONDS:
            client.sendall(b"x")
            lingering.end_overdue(now)
            now += DISCARD_IDLE_SECONDS / 2
        client.sendall(b"x")
        lingering.end_overdue(now)
        with pytest.raises(BrokenPipeError):
            client.sendall(b"x")


def test_the_oldest_connection_ends_above_the_limit(lingering: Lingering) -> None:
    """The newest connection is still read."""
    with ExitStack() as exits:
        clients = [exits.enter_context(closing(hand_over(lingering))) for _ in range(MANY + 1)]
        with pytest.raises(BrokenPipeError):
            clients[0].sendall(b"x")
        send(lingering, clients[-1])


def refuse_threads(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make each later start of a thread fail."""

    def fail(_thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", fail)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_pool_runs_all_work_without_new_threads(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """If the system starts no more threads, work waits for one of the first threads."""
    pool = ThreadPool(10, 3)
    refuse_threads(monkeypatch, error)
    together = threading.Barrier(3)
    done = [pool.submit(together.wait, 5) for _ in range(9)]
    assert sorted(one.result(5) for one in done) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pool.shutdown()


def test_a_pool_without_any_thread_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool raises the system's error at its start if it cannot start one thread."""
    refuse_threads(monkeypatch, RuntimeError("can't start new thread"))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ThreadPool(10, 3)


def test_a_pool_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the system's is a fault of the code."""
    pool = ThreadPool(10, 1)
    held = threading.Event()
    refuse_threads(monkeypatch, RuntimeError("threads can only be started once"))
    with pytest.raises(RuntimeError, match="only be started once"):
        for _ in pool.map(lambda _: held.wait(5), range(3)):  # the first thread may be free for one of them
            pass
    held.set()
    pool.shutdown()
