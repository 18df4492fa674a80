"""Clients that stop and clients that are slow: raw sockets, every hand-off."""

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import NamedTuple, TypeVar

import pytest
from contract.api import form, part
from faults import raw
from faults.app import LARGE, App, check_nothing_left, warmed_up
from faults.behind import watchable
from faults.raw import LAST_CHUNK, Answer, head, is_closed, sent_in, whole
from faults.settings import SHORT_IDLE_TIMEOUT
from faults.store_faults import FRAMEWORKS
from patience import PATIENCE, wait_until

from filehandoff.strategies import FORM_HANDOFFS
from flask_app.request import DISCARD_IDLE_SECONDS

K = TypeVar("K")
V = TypeVar("V")

DATA = os.urandom(LARGE)
BODY = form(part("file", DATA, "name"))
SMALL_DATA = os.urandom(1000)
SMALL = form(part("file", SMALL_DATA, "name"))
FRAMINGS = ("declared", "chunked")
JSON = json.dumps({"filename": "name", "size": 5, "content_type": "text/plain", "sha256": 64 * "0"}).encode()
#: Number of connections equal to gunicorn's threads.
CROWD = 40
#: Seconds between two bytes of a slow client, far below the idle timeout.
PAUSE_SECONDS = 0.2


class Kind(NamedTuple):
    """A kind of upload among many at once."""

    app: str
    handoff: str
    framing: str
    body: bytes
    sent: int

    def __repr__(self) -> str:
        return f"{self.app} {self.handoff} {self.framing}: {self.sent} of {len(self.body)} bytes"

    def begin(self, app: App) -> tuple[socket.socket, Callable[[bytes], bytes]]:
        """Open a connection with the first bytes sent.

        Return it with the function that frames pieces.
        """
        connection = app.connect()
        beginning, frame = sent_in(self.framing, self.handoff, self.body)
        connection.sendall(beginning + frame(self.body[: self.sent]))
        return connection, frame


def at_once(run: Callable[[K], V], kinds: list[K]) -> dict[K, V]:
    """Run all at once; return the results."""
    with ThreadPoolExecutor(len(kinds)) as pool:
        return dict(zip(kinds, pool.map(run, kinds), strict=True))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, App]]:
    """Both apps with a short idle timeout."""
    with watchable(tmp_path_factory.mktemp("slow"), SHORT_IDLE_TIMEOUT) as started, warmed_up(started) as apps:
        yield apps


@pytest.fixture
def clean(both: dict[str, App]) -> Iterator[dict[str, App]]:
    """Both apps; after the test, nothing is left in S3 or in a process."""
    yield both
    check_nothing_left(both.values())


def test_an_upload_that_stops_moving_is_answered(clean: dict[str, App]) -> None:
    """A body that stops at any point gets 408 request-timeout, by every hand-off."""
    stops = [
        Kind(app, handoff, framing, BODY, sent)
        for app, handoff, framing, sent in itertools.product(
            clean, FORM_HANDOFFS, FRAMINGS, (0, LARGE // 2, len(BODY) - 1)
        )
    ]

    def stop(kind: Kind) -> Answer:
        connection, _ = kind.begin(clean[kind.app])
        with closing(connection):
            return raw.read_answer(connection)

    answers = at_once(stop, stops)
    assert {kind: answer for kind, answer in answers.items() if answer.code != "request-timeout"} == {}
    assert {answer.status for answer in answers.values()} == {408}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(raw.head("presigned", f"Content-Length: {len(JSON)}", content_type="application/json"), id="JSON"),
        pytest.param(
            raw.head("presigned", f"Content-Length: {len(JSON)}", content_type="application/json") + JSON[:-9],
            id="cut JSON",
        ),
    ],
)
def test_a_request_that_stops_moving_is_answered(clean: dict[str, App], sent: bytes) -> None:
    """A request for URLs whose body stops gets 408 request-timeout."""

    def stop(name: str) -> tuple[int, str | None]:
        with clean[name].connected() as connection:
            connection.sendall(sent)
            answer = raw.read_answer(connection)
            return answer.status, answer.code

    assert at_once(stop, list(clean)) == dict.fromkeys(clean, (408, "request-timeout"))


def test_an_upload_that_is_slow_but_moving_is_stored(clean: dict[str, App]) -> None:
    """A slow body is stored, while a later one that stops is aborted."""
    movers = [
        Kind(app, handoff, framing, body, len(body) // 2)
        for app, handoff, framing, body in itertools.product(clean, FORM_HANDOFFS, FRAMINGS, (SMALL, BODY))
    ]
    given_up = threading.Event()
    begun = threading.Barrier(len(movers) + 1)

    def dawdle(kind: Kind) -> Answer:
        connection, frame = kind.begin(clean[kind.app])
        with closing(connection):
            begun.wait(PATIENCE)
            at = kind.sent
            while not given_up.wait(PAUSE_SECONDS):
                connection.sendall(frame(kind.body[at : at + 1]))
                at += 1
            connection.sendall(frame(kind.body[at:]) + (LAST_CHUNK if kind.framing == "chunked" else b""))
            return raw.read_answer(connection)

    def stand_still() -> list[Answer]:
        begun.wait(PATIENCE)
        with ExitStack() as exits:
            exits.callback(given_up.set)
            stops = [Kind(name, "stream", "declared", BODY, 1000).begin(app)[0] for name, app in clean.items()]
            return [raw.read_answer(exits.enter_context(closing(connection))) for connection in stops]

    with ThreadPoolExecutor(1) as pool:
        still = pool.submit(stand_still)
        answers = at_once(dawdle, movers)
    assert [answer.status for answer in still.result()] == [408] * len(clean)
    for kind, answer in answers.items():
        clean[kind.app].check_stored(answer, [DATA if kind.body is BODY else SMALL_DATA])


def test_a_head_that_is_slow_is_read(clean: dict[str, App]) -> None:
    """A head that arrives byte by byte is accepted."""

    def dawdle(name: str) -> Answer:
        with clean[name].connected() as connection:
            request = whole("stream", SMALL)
            for byte in request[:20]:
                connection.sendall(bytes([byte]))
                time.sleep(0.03)
            connection.sendall(request[20:])
            return raw.read_answer(connection)

    for name, answer in at_once(dawdle, list(clean)).items():
        clean[name].check_stored(answer, [SMALL_DATA])


def test_heads_that_never_end_hold_nobody_up_for_long(clean: dict[str, App]) -> None:
    """As many unfinished heads as gunicorn has threads are closed in time.

    Then others are served.
    """

    def hold_up(name: str) -> None:
        with ExitStack() as exits:
            crowd = [exits.enter_context(clean[name].connected()) for _ in range(CROWD)]
            for connection in crowd:
                connection.sendall(b"POST /uploads HTTP/1.1\r\nHost: here\r\nX-A: a")

            def all_closed() -> bool:
                for connection in crowd[::2]:
                    raw.send(connection, b"a")
                return all(map(is_closed, crowd))

            wait_until(all_closed, lambda: f"{CROWD - sum(map(is_closed, crowd))} of {CROWD} heads are not ended")

    at_once(hold_up, list(clean))
    for app in clean.values():
        with app.connected() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert raw.read_answer(connection).status == 200


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_clients_that_stay_after_their_answer_hold_nobody_up(clean: dict[str, App], name: str) -> None:
    """The server waits a while for clients to read their answer, and serves others meanwhile."""
    with ExitStack() as exits:
        stayers = [exits.enter_context(clean[name].connected()) for _ in range(10)]
        for connection in stayers:
            connection.sendall(b"\0\r\n\r\n")
            assert raw.read_answer(connection).status == 400
        with clean[name].connected() as connection:
            connection.settimeout(15)  # gunicorn alone would accept no connection for 20 s
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert raw.read_answer(connection).status == 200


def test_an_early_answer_waits_for_a_client_that_is_slow(clean: dict[str, App]) -> None:
    """A refused client that sends on with short pauses reads its answer."""
    pauses = round(DISCARD_IDLE_SECONDS / PAUSE_SECONDS) + 2

    def talk_on(name: str) -> Answer:
        with clean[name].connected() as connection:
            connection.sendall(head("nonsense", f"Content-Length: {pauses * 100_000}"))
            for _ in range(pauses):
                connection.sendall(bytes(100_000))
                time.sleep(PAUSE_SECONDS)
            return raw.read_answer(connection)

    for answer in at_once(talk_on, list(clean)).values():
        assert (answer.status, answer.code) == (404, "unknown-handoff")


def test_a_client_that_sends_on_byte_by_byte_is_left(clean: dict[str, App]) -> None:
    """The server does not wait forever for the end of an unwanted body."""

    def send_on(name: str) -> None:
        with clean[name].connected() as connection:
            connection.sendall(head("nonsense", "Content-Length: 700000"))
            assert raw.read_answer(connection).code == "unknown-handoff"

            def is_left() -> bool:
                raw.send(connection, b"a")
                return is_closed(connection)

            wait_until(is_left, lambda: f"{name} does not close the connection")

    at_once(send_on, list(clean))
