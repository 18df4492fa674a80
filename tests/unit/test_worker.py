"""gunicorn's worker after an answer, and its threads where the system has no more."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from patience import PATIENCE

from flask_app.request import DISCARD_IDLE_SECONDS, DISCARD_SECONDS
from flask_app.worker import Lingering, ThreadPool

MANY = 10
#: More bytes than a socket pair buffers.
SENT = bytes(10**6)


@pytest.fixture
def lingering() -> Iterator[Lingering]:
    """No connection yet; none is left after the test."""
    lingering = Lingering(MANY)
    yield lingering
    lingering.finish()


def hand_over(lingering: Lingering) -> socket.socket:
    """Have a connection read on; its client's side."""
    ours, theirs = socket.socketpair()
    lingering.take(ours)
    theirs.settimeout(PATIENCE)
    assert theirs.recv(1) == b""  # our side was ended
    return theirs


def send(lingering: Lingering, client: socket.socket) -> None:
    """Send a lot, of which a part is read each time."""
    left = memoryview(SENT)
    client.settimeout(0)
    while left:
        left = left[client.send(left) :]
        lingering.read()


def test_a_client_that_sends_on_is_read(lingering: Lingering) -> None:
    """The data after the answer is discarded, and the connection closed when the client has ended its side."""
    with closing(hand_over(lingering)) as client:
        send(lingering, client)


def test_a_client_that_has_gone_is_closed(lingering: Lingering) -> None:
    """A connection that was closed already is not read on."""
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    lingering.take(ours)


@pytest.mark.parametrize("seconds", [DISCARD_IDLE_SECONDS, DISCARD_SECONDS])
def test_an_overdue_connection_ends(lingering: Lingering, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """One that sends nothing has a short time, and one that sends on a longer one."""
    now = 0.0
    monkeypatch.setattr("flask_app.worker.time.monotonic", lambda: now)
    with closing(hand_over(lingering)) as client:
        while now < seconds:
            lingering.end_overdue(now)
            client.sendall(b"x")  # it is still read
            if seconds == DISCARD_SECONDS:
                lingering.read()
            now += DISCARD_IDLE_SECONDS / 2
        lingering.end_overdue(seconds + 0.1)
        with pytest.raises(BrokenPipeError):
            client.sendall(b"x")


def test_as_many_as_may_be_are_read_on(lingering: Lingering) -> None:
    """The oldest connection ends for one more."""
    with ExitStack() as exits:
        clients = [exits.enter_context(closing(hand_over(lingering))) for _ in range(MANY + 1)]
        with pytest.raises(BrokenPipeError):
            clients[0].sendall(b"x")
        send(lingering, clients[-1])


def refuse_threads(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Start no thread from here on."""

    def fail(_thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", fail)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["thread", "memory"])
def test_a_pool_makes_do_with_the_threads_that_it_has(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Work that finds no free thread waits for one where the system starts no more; the first ones all run."""
    pool = ThreadPool(10, 3)
    refuse_threads(monkeypatch, error)
    together = threading.Barrier(3)
    done = [pool.submit(together.wait, 5) for _ in range(9)]
    assert sorted(one.result(5) for one in done) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pool.shutdown()


def test_a_pool_without_any_thread_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not one thread to serve a request ends at its start."""
    refuse_threads(monkeypatch, RuntimeError("can't start new thread"))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ThreadPool(10, 3)


def test_a_pool_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is none of the system's is a fault of the code."""
    pool = ThreadPool(10, 1)
    held = threading.Event()
    refuse_threads(monkeypatch, RuntimeError("threads can only be started once"))
    with pytest.raises(RuntimeError, match="only be started once"):
        for _ in pool.map(lambda _: held.wait(5), range(3)):  # the first thread may be free for one of them
            pass
    held.set()
    pool.shutdown()
