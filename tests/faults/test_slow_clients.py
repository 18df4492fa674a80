"""Clients that stop, and clients that are slow, by raw sockets and by every hand-off."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from contract.api import form, part
from faults import raw
from faults.app import LARGE, App, answers
from faults.raw import LAST_CHUNK, Answer, head, is_closed, sent_in, whole

DATA = os.urandom(LARGE)
BODY = form(part("file", DATA, "name"))
SMALL = form(part("file", b"small", "name"))
#: As many connections as gunicorn has threads.
CROWD = 40
#: How long a request's head may take, in seconds: 10 on gunicorn, 5 on hypercorn; and a body that is not wanted: 10.
#: And what a busy machine adds.
TOO_LONG = 20.0


@pytest.mark.parametrize("sent", [0, LARGE // 2, len(BODY) - 1])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_an_upload_that_stops_moving_is_answered(app: App, framing: str, sent: int) -> None:
    """A body that stops arriving gets 408 request-timeout; one idle timeout later, not never."""

    def stop(connection: socket.socket, handoff: str) -> Answer:
        begin, frame = sent_in(framing, handoff, BODY)
        connection.sendall(begin + frame(BODY[:sent]))
        return raw.read_answer(connection)

    for answer in answers(app, stop):
        assert (answer.status, answer.code) == (408, "request-timeout")


@pytest.mark.parametrize("body", [pytest.param(SMALL, id="a few bytes"), pytest.param(BODY, id="parts")])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_an_upload_that_is_slow_but_moving_is_stored(app: App, framing: str, body: bytes) -> None:
    """A body that takes longer than the idle timeout as a whole, but never pauses that long, arrives."""
    step = -(-len(body) // 4)

    def dawdle(connection: socket.socket, handoff: str) -> Answer:
        begin, frame = sent_in(framing, handoff, body)
        connection.sendall(begin)
        for start in range(0, len(body), step):
            connection.sendall(frame(body[start : start + step]))
            time.sleep(0.4)
        connection.sendall(LAST_CHUNK if framing == "chunked" else b"")
        return raw.read_answer(connection)

    for answer in answers(app, dawdle):
        app.check_stored(answer, [DATA if body is BODY else b"small"])


def test_a_head_that_is_slow_is_read(app: App) -> None:
    """A head that takes a while, byte by byte, is one."""

    def dawdle(connection: socket.socket, handoff: str) -> Answer:
        request = whole(handoff, SMALL)
        for byte in request[:40]:
            connection.sendall(bytes([byte]))
            time.sleep(0.03)
        connection.sendall(request[40:])
        return raw.read_answer(connection)

    for answer in answers(app, dawdle):
        app.check_stored(answer, [b"small"])


def test_heads_that_never_end_hold_nobody_up_for_long(both: dict[str, App]) -> None:
    """As many of them as gunicorn has threads, moving or not, are ended in time, and then others are served."""

    def hold_up(app: App) -> int:
        deadline = time.monotonic() + TOO_LONG
        with ExitStack() as exits:
            crowd = [exits.enter_context(app.connected()) for _ in range(CROWD)]
            for connection in crowd:
                connection.sendall(b"POST /uploads HTTP/1.1\r\nHost: here\r\nX-A: a")
            while time.monotonic() < deadline and not all(map(is_closed, crowd)):
                for connection in crowd[::2]:
                    raw.send(connection, b"a")
                time.sleep(0.5)
            return sum(map(is_closed, crowd))

    with ThreadPoolExecutor(len(both)) as pool:
        assert list(pool.map(hold_up, both.values())) == [CROWD, CROWD]
    for app in both.values():
        with app.connected() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert raw.read_answer(connection).status == 200
        app.check_nothing_left()


def test_clients_that_stay_after_their_answer_hold_nobody_up(app: App) -> None:
    """The server waits for them to read it, for a while, and serves the others meanwhile."""
    with ExitStack() as exits:
        stayers = [exits.enter_context(app.connected()) for _ in range(10)]
        for connection in stayers:
            connection.sendall(b"\0\r\n\r\n")
            assert raw.read_answer(connection).status == 400
        with app.connected() as connection:
            connection.settimeout(5)  # gunicorn alone would accept nobody for 20 seconds
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert raw.read_answer(connection).status == 200


def test_an_early_answer_waits_for_a_client_that_is_slow(app: App) -> None:
    """As long as something of the body arrives, for some seconds."""

    def talk_on(connection: socket.socket, _handoff: str) -> Answer:
        connection.sendall(head("nonsense", "Content-Length: 700000"))
        for _ in range(7):
            connection.sendall(bytes(100_000))
            time.sleep(0.5)
        return raw.read_answer(connection)

    for answer in answers(app, talk_on):
        assert (answer.status, answer.code) == (404, "unknown-handoff")


def test_a_client_that_sends_on_byte_by_byte_is_left(both: dict[str, App]) -> None:
    """Nobody waits for ever for the end of a body that is not wanted."""

    def send_on(app: App) -> bool:
        with app.connected() as connection:
            connection.sendall(head("nonsense", "Content-Length: 700000"))
            assert raw.read_answer(connection).code == "unknown-handoff"
            deadline = time.monotonic() + TOO_LONG
            while not is_closed(connection) and time.monotonic() < deadline:
                raw.send(connection, b"a")
                time.sleep(0.5)
            return is_closed(connection)

    with ThreadPoolExecutor(len(both)) as pool:
        assert all(pool.map(send_on, both.values()))
    for app in both.values():
        app.check_nothing_left()
