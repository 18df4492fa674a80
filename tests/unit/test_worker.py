"""What gunicorn's worker does after an answer: one thread for all connections, which nothing ends."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from patience import PATIENCE

from flask_app import worker
from flask_app.worker import Lingering, ThreadPool


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lingering]:
    """The thread that reads on."""
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.01)
    lingering = Lingering(at_most=10)
    yield lingering
    lingering.finish()


def hand_over(lingering: Lingering) -> socket.socket:
    """Have a connection read on; its client's side."""
    ours, theirs = socket.socketpair()
    with closing(ours):
        lingering.take(ours)
    theirs.settimeout(PATIENCE)
    assert theirs.recv(1) == b""  # our side was ended
    return theirs


def is_left(client: socket.socket) -> bool:
    """Whether the other side was closed, rather than read on: something that is sent there meets nobody."""
    try:
        for _ in range(1000):
            client.sendall(bytes(65536))
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_a_client_that_sends_on_is_read(lingering: Lingering) -> None:
    """What comes after the answer is taken, and the connection closed when the client has ended its side."""
    with closing(hand_over(lingering)) as client:
        client.sendall(bytes(10**6))


def test_an_unexpected_error_ends_the_connections_and_not_the_thread(
    lingering: Lingering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that were open then are let go, the error is told, and the next one is read on as ever."""
    with monkeypatch.context() as patch, closing(hand_over(lingering)) as client:
        patch.setattr(lingering, "_read", lambda _connection: 1 / 0)
        with caplog.at_level(logging.ERROR):
            client.sendall(b"x")
            assert is_left(client)
    assert [record.getMessage() for record in caplog.records] == ["1 connections that were answered are closed at once"]
    with closing(hand_over(lingering)) as client:
        client.sendall(bytes(10**6))


def test_as_many_as_may_be_are_read_on(lingering: Lingering) -> None:
    """The oldest is left for one that is more."""
    clients = [hand_over(lingering) for _ in range(11)]
    assert is_left(clients[0])
    clients[-1].sendall(bytes(10**6))
    for client in clients:
        client.close()


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
