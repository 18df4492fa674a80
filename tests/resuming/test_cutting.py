"""The cutting proxy passes every byte, but for the cuts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from patience import PATIENCE
from resuming.cutting import Connection, CuttingProxy


def read_all(connection: socket.socket) -> bytes:
    """Read up to the end or a reset."""
    received = b""
    with suppress(OSError):
        while more := connection.recv(4096):
            received += more
    return received


@contextmanager
def naming(name: bytes) -> Iterator[str]:
    """A server that answers the bytes of each connection, with its name before them; yield its URL."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.sendall(name + read_all(connection))

        thread = threading.Thread(target=serve)
        thread.start()
        yield "http://{}:{}".format(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def ask(url: str, data: bytes) -> bytes:
    """Send bytes on a new connection, and return the answer up to its end or reset."""
    address = urlsplit(url)
    with closing(socket.create_connection((address.hostname or "", address.port or 80), PATIENCE)) as connection:
        with suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def test_bytes_pass_without_cuts() -> None:
    """Each connection goes to the next server, and comes back whole."""
    with naming(b"1") as first, naming(b"2") as second, CuttingProxy([first, second], seed=1) as proxy:
        answers = [ask(proxy.url, b"x" * 100_000) for _ in range(4)]
        assert sorted(answer[:1] for answer in answers) == [b"1", b"1", b"2", b"2"]
        assert {answer[1:] for answer in answers} == {b"x" * 100_000}
        assert proxy.cuts == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_takes_the_answer(seed: int) -> None:
    """A connection with more bytes than two cuts are apart ends without its answer."""
    with naming(b"") as server, CuttingProxy([server], seed) as proxy:
        proxy.cut_every(1000)
        assert len(ask(proxy.url, b"x" * 2000)) < 2000
        assert proxy.cuts > 0
        proxy.cut_every(0)
        assert ask(proxy.url, b"x" * 2000) == b"x" * 2000


def test_a_strike_comes_at_each_cut() -> None:
    """The function of a test is called once for each cut, before the connection ends."""
    struck = []
    with naming(b"") as server, CuttingProxy([server], seed=1) as proxy:
        proxy.strike = lambda: struck.append(proxy.cuts)
        proxy.cut_every(1000)
        for _ in range(10):
            ask(proxy.url, b"x" * 500)
        assert struck == list(range(1, proxy.cuts + 1))
        assert proxy.cuts >= 2


def test_strikes_leave_room_for_progress() -> None:
    """After a strike, at least half of the bytes between two cuts pass before the next one."""
    passed, struck_at = 0, list[int]()
    with naming(b"") as server, CuttingProxy([server], seed=1) as proxy:
        proxy.strike = lambda: struck_at.append(passed)
        proxy.cut_every(1000)
        while len(struck_at) < 50:
            ask(proxy.url, b"x" * 100)
            passed += 100
    assert min(after - before for before, after in pairwise(struck_at)) >= 400  # the cut one may pass a part of its 100


def test_a_server_that_is_down_ends_the_connection() -> None:
    """A client of a dead server gets no answer, and the next server one."""
    with naming(b"") as server, CuttingProxy(["http://127.0.0.1:1", server], seed=1) as proxy:
        assert sorted(ask(proxy.url, b"x") for _ in range(2)) == [b"", b"x"]


def test_a_reset_is_followed_by_another_end() -> None:
    """A client makes progress at least at every other cut."""
    with closing(socket.socket()) as one, closing(socket.socket()) as other, CuttingProxy([], seed=1) as proxy:
        connection = Connection(one, other)
        resets = [proxy._end_of(connection) == connection.reset for _ in range(100)]  # noqa: SLF001 - no seam
    assert True in resets
    assert (True, True) not in pairwise(resets)
