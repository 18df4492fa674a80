"""Faults of gunicorn 27's own gthread, each shown beside `flask_app.worker.Worker`, which exists because of them."""

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from select import select
from typing import TypeVar

import pytest
from contract.api import Api, form, part
from contract.numbers import wait_for
from faults import raw
from faults.raw import in_chunks
from patience import wait_until

from benchmarks import null_store
from demo import stack, stores
from demo.processes import ROOT, Server, ending, family, listen, python
from filehandoff.admission import reads_at_once, threads
from filehandoff.settings import MIB, Settings

T = TypeVar("T")

#: One upload at once makes for the fewest threads.
AT_ONCE = 1
THREADS = threads(AT_ONCE)
#: Seconds after which a client that takes nothing of its answer is cut off.
IDLE_TIMEOUT = "2"
#: Seconds within which each worker must answer: ours may be slow on a busy machine, but not as slow as its own time
#: limits, after which a worker with these faults would answer too.
ANSWER_SECONDS = {"stock": 1.0, "ours": 8.0}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-A: a"
HALF_A_BODY = raw.head("presigned", "Content-Length: 50", content_type="application/json") + b"{"
BODY = form(part("file", b"some bytes", "file.bin"))
CONFIG = ["-c", "flask_app/gunicorn.conf.py", "-b", "fd://{fd}", "flask_app.wsgi:app"]
COMMANDS = {"stock": python("gunicorn", "-k", "gthread", *CONFIG), "ours": python("gunicorn", *CONFIG)}


@dataclass(frozen=True)
class Workers:
    """gunicorn with either worker, under the same configuration."""

    servers: Mapping[str, Server]
    log: Path
    no_threads: Path

    def of_each(self, exchange: Callable[[Server], T]) -> dict[str, T]:
        """The result of an exchange with each, both at the same time."""
        with ThreadPoolExecutor(len(self.servers)) as pool:
            return dict(zip(self.servers, pool.map(exchange, self.servers.values()), strict=True))

    def processes(self) -> dict[str, int]:
        """The process of each that serves."""
        return {name: max(family(server.pid)) for name, server in self.servers.items()}

    def has_logged(self, text: str) -> bool:
        """Whether either has logged this."""
        return text in self.log.read_text()


@contextmanager
def running(folder: Path, idle_timeout: str = "60") -> Iterator[Workers]:
    """Both, for the block, in front of a store that keeps little."""
    threadless = str(ROOT / "tests" / "faults" / "threadless")
    with null_store.running() as store, (folder / "log").open("w+b") as log:
        environ = {
            **os.environ,
            **store.environ,
            "UPLOAD_S3_ENDPOINT_URL": store.endpoint_url,
            "UPLOAD_MAX_CONCURRENT": str(AT_ONCE),
            "UPLOAD_PART_BYTES": "64 MiB",
            "UPLOAD_IDLE_TIMEOUT": idle_timeout,
            "UPLOAD_DRAIN_SECONDS": "60",
            "PYTHONPATH": os.pathsep.join(filter(None, [threadless, os.environ.get("PYTHONPATH")])),
            "NO_THREADS": str(folder / "no-threads"),
        }
        servers = {
            name: Server(name, command, listen(name, "PORT", 0), environ, log=log, drain_seconds=60)
            for name, command in COMMANDS.items()
        }
        with ending([*servers.values()]):
            for server in servers.values():
                started = stack.Stack(stores.Store("", ""), Settings(), environ, [server])
                stack.wait_until_ready(started, f"{server.url}/readyz", log)
            yield Workers(servers, folder / "log", folder / "no-threads")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Both, for all tests that leave them serving."""
    with running(tmp_path_factory.mktemp("stock"), IDLE_TIMEOUT) as workers:
        yield workers


def answers(server: Server, meanwhile: Callable[[], object] = lambda: None) -> bool:
    """Whether a new connection is answered before long."""
    with closing(raw.connect(server.url)) as connection:
        connection.sendall(HEALTH)
        deadline = time.monotonic() + ANSWER_SECONDS[server.name]
        while not select([connection], [], [], 0.1)[0]:
            meanwhile()
            if time.monotonic() > deadline:
                return False
        return True


@contextmanager
def crowd(server: Server, sent: bytes, count: int = THREADS) -> Iterator[list[socket.socket]]:
    """So many connections on which these bytes were sent."""
    with ExitStack() as exits:
        connections = [exits.enter_context(closing(raw.connect(server.url))) for _ in range(count)]
        for connection in connections:
            connection.sendall(sent)
        yield connections


def test_a_head_that_does_not_end_holds_a_thread(workers: Workers) -> None:
    """Stock gives a thread to a connection at its first bytes, and has no time limit for the head."""

    def beside_heads(server: Server) -> bool:
        with crowd(server, HALF_A_HEAD):
            return answers(server)

    assert workers.of_each(beside_heads) == {"stock": False, "ours": True}


def test_a_client_that_stays_after_its_answer_holds_up_all_others(workers: Workers) -> None:
    """Stock waits up to 2 s for each to close its side, in the thread that accepts connections."""

    def beside_stayers(server: Server) -> bool:
        with crowd(server, b"\0\r\n\r\n") as stayers:
            assert raw.read_answer(stayers[0]).status == 400
            return answers(server)

    assert workers.of_each(beside_stayers) == {"stock": False, "ours": True}


def test_a_client_that_sends_on_after_its_answer_holds_a_thread(workers: Workers) -> None:
    """Stock closes too early for a client that reads its answer last, so the thread must read on before."""

    def beside_talkers(server: Server) -> bool:
        with crowd(server, raw.head("nonsense", f"Content-Length: {MIB}")) as talkers:
            assert [raw.read_answer(connection).status for connection in talkers] == [404] * THREADS

            def send_on() -> None:
                for connection in talkers:
                    raw.send(connection, b"x")

            return answers(server, send_on)

    assert workers.of_each(beside_talkers) == {"stock": False, "ours": True}


def test_a_client_that_does_not_read_its_answer_holds_a_thread(workers: Workers) -> None:
    """Stock waits for it without end; all places for downloads stay taken."""
    keys = workers.of_each(upload_a_large_file)
    with ExitStack() as exits:
        for name, server in workers.servers.items():
            get = f"GET /objects/{keys[name]} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
            for connection in exits.enter_context(crowd(server, get, reads_at_once(AT_ONCE))):
                assert connection.recv(12) == b"HTTP/1.1 200"

        def status(name: str) -> int:
            with closing(Api(workers.servers[name].url)) as api:
                return api.send("HEAD", f"/objects/{keys[name]}").status_code

        wait_until(lambda: status("ours") == 200, lambda: "no place is given back")
        assert status("stock") == 503


def upload_a_large_file(server: Server) -> str:
    """Store more than sockets buffer; its key."""
    with closing(Api(server.url)) as api:
        answer = api.upload(form(part("file", bytes(32 * MIB), "kept-large.bin")))
        return str(answer.json()["receipts"][0]["key"])


def test_100_continue_comes_before_the_app_has_seen_the_request(workers: Workers) -> None:
    """Stock asks for a body that the app refuses by the head."""

    def first_line(server: Server) -> bytes:
        with closing(raw.connect(server.url)) as connection, connection.makefile("rb") as received:
            connection.sendall(raw.head("nonsense", "Content-Length: 9", "Expect: 100-continue"))
            return received.readline().strip()

    assert workers.of_each(first_line) == {"stock": b"HTTP/1.1 100 Continue", "ours": b"HTTP/1.1 404 NOT FOUND"}


LAX = {
    "a fragment": HEALTH.replace(b"/healthz", b"/healthz#x"),
    "no Host": HEALTH.replace(b"Host: here\r\n", b""),
    "a Host with a path": HEALTH.replace(b"here", b"here/there"),
    "a URL of another host": HEALTH.replace(b"/healthz", b"http://there/healthz"),
    "HTTP/1.2": HEALTH.replace(b"1.1", b"1.2"),
}


def test_a_request_that_a_proxy_may_read_differently_is_taken(workers: Workers) -> None:
    """Stock takes heads with no meaning or two, a blank in front of a chunk's extension, and a request after the last.

    `tests/faults/test_framing.py` holds this worker to one meaning for each request.
    """
    blank = raw.head("stream", raw.CHUNKED) + in_chunks(BODY, extension=" ;a=b") + raw.LAST_CHUNK
    last = HEALTH.replace(b"here", b"here\r\nConnection: close, x") + HEALTH

    def statuses(server: Server) -> list[int]:
        return [converse(server, sent) for sent in LAX.values()]

    assert workers.of_each(statuses) == {"stock": [200] * len(LAX), "ours": [400] * len(LAX)}
    assert workers.of_each(lambda server: converse(server, blank)) == {"stock": 201, "ours": 400}
    assert workers.of_each(lambda server: converse(server, last, 2)) == {"stock": 200, "ours": 0}


def converse(server: Server, sent: bytes, nth: int = 1) -> int:
    """The status of the nth answer to these bytes; 0 without one."""
    with closing(raw.connect(server.url)) as connection:
        connection.sendall(sent)
        return [raw.read_answer(connection).status for _ in range(nth)][-1]


def check_only_stock_ends(workers: Workers, before: Mapping[str, int]) -> None:
    """Assert that the stock worker's place was taken by another process, and that ours serves on."""
    wait_until(lambda: workers.processes()["stock"] != before["stock"], workers.log.read_text)
    wait_until(lambda: all(workers.of_each(answers).values()), workers.log.read_text)
    assert workers.processes()["ours"] == before["ours"]


def test_a_process_without_a_descriptor_for_a_connection_ends(workers: Workers) -> None:
    """Stock's main thread ends with an exception: the process serves nothing, and ends when its threads have."""
    before = workers.processes()
    with ExitStack() as exits:
        for name, pid in before.items():
            exits.enter_context(few_descriptors(pid))
            exits.enter_context(crowd(workers.servers[name], HALF_A_HEAD, 20))
        for line in ("Exception in worker process", "no connection can be accepted for now"):
            wait_until(partial(workers.has_logged, line), workers.log.read_text)
    check_only_stock_ends(workers, before)


@contextmanager
def few_descriptors(pid: int) -> Iterator[None]:
    """Let a process have few more than it has."""
    open_ones = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_ones + 5, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_process_that_can_start_no_thread_ends(tmp_path: Path) -> None:
    """Stock's main thread ends with an exception here, too."""
    with running(tmp_path) as workers:
        before = workers.processes()
        workers.no_threads.touch()
        with ExitStack() as exits:
            exits.callback(workers.no_threads.unlink)
            for server in workers.servers.values():
                exits.enter_context(crowd(server, HALF_A_BODY))
            wait_until(lambda: workers.has_logged("Exception in worker process"), workers.log.read_text)
        check_only_stock_ends(workers, before)


def test_a_process_that_must_end_listens_on(tmp_path: Path) -> None:
    """After SIGTERM stock leaves new clients without an answer or a refusal until its last upload is over."""
    with running(tmp_path) as workers, ExitStack() as exits:
        begun = raw.whole("stream", BODY)
        uploads = [exits.enter_context(crowd(server, begun[:-5], 1))[0] for server in workers.servers.values()]
        for server in workers.servers.values():
            with closing(Api(server.url)) as api:
                wait_for(api, "uploads_in_flight", 1)
            server.terminate()
        wait_until(lambda: refuses(workers.servers["ours"]), workers.log.read_text)
        wait_until(lambda: not answers(workers.servers["stock"]), workers.log.read_text)
        for connection in uploads:
            connection.sendall(begun[-5:])
            assert raw.read_answer(connection).status == 201


def refuses(server: Server) -> bool:
    """Whether the system refuses a new connection."""
    try:
        raw.connect(server.url).close()
    except ConnectionRefusedError:
        return True
    return False
