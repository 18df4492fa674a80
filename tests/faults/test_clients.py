"""Clients that disconnect, ignore answers, or expect 100-continue: raw sockets, every hand-off."""

import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from contract.api import form, part
from faults import raw
from faults.app import LARGE, App, answers
from faults.raw import CHUNKED, LAST_CHUNK, Answer, head, in_chunks, sent_in, whole
from patience import wait_until

from filehandoff.settings import MIB

DATA = os.urandom(LARGE)
BODY = form(part("file", DATA, "name"))
SMALL = form(part("file", b"small", "name"))
CROWD = 40
#: Size of an unwanted body; more than the sockets between client and app can buffer.
UNWANTED = 12 * MIB


# Clients that disconnect


@pytest.mark.parametrize("by_reset", [pytest.param(False, id="close"), pytest.param(True, id="reset")])
@pytest.mark.parametrize("sent", [0, 50, LARGE // 2, len(BODY) - 1])
def test_a_client_that_goes_away_leaves_nothing(app: App, sent: int, *, by_reset: bool) -> None:
    """A connection that ends inside the body leaves nothing in S3 or process."""

    def leave(handoff: str) -> None:
        with app.connected() as connection:
            connection.sendall(head(handoff, f"Content-Length: {len(BODY)}") + BODY[:sent])
            if by_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    app.by_each(leave)


def test_a_client_that_does_not_wait_for_the_answer(app: App) -> None:
    """A client that leaves before its answer leaves a whole object, or nothing.

    Flask does not notice the end of the connection and stores the file; Quart is cancelled and cleans up.
    """
    data = 3 * DATA

    def leave(handoff: str) -> None:
        with app.connected() as connection:
            connection.sendall(whole(handoff, form(part("file", data, handoff))))
            wait_until(lambda: has_begun(app, handoff), lambda: f"{handoff} does not write to S3")

    app.by_each(leave)
    for size in app.stored_without_a_receipt():
        assert size == len(data)


def has_begun(app: App, filename: str) -> bool:
    """Whether S3 has an upload of this name or has finished it."""
    keys = [*(key for key, _ in app.bucket.unfinished()), *app.bucket.sizes()]
    return any(key.endswith(f"/{filename}") for key in keys)


# Clients that ignore an early answer

#: By error: a function that changes the hand-off, the first bytes of the body, and the answer.
ERRORS: dict[str, tuple[Callable[[str], str], bytes, int, str]] = {
    "no such hand-off": (lambda _: "nonsense", SMALL[:-9], 404, "unknown-handoff"),
    "a broken first part": (str, part(None, b""), 400, "form-malformed"),
    "too many parts": (str, 101 * part("note", b"x"), 413, "too-many-parts"),
    "a field that is too long": (str, part("note", 70_000 * b"x"), 413, "too-many-fields"),
}


@pytest.mark.parametrize("framing", ["declared", "chunked"])
@pytest.mark.parametrize("error", ERRORS)
def test_an_early_answer_waits_for_a_client_that_sends_on(app: App, error: str, framing: str) -> None:
    """A client that reads an early answer only after its whole body gets the answer."""
    name, beginning, status, code = ERRORS[error]
    body = beginning + bytes(UNWANTED)

    def talk_on(connection: socket.socket, handoff: str) -> Answer:
        begin, frame = sent_in(framing, name(handoff), body)
        connection.sendall(begin + frame(body) + (LAST_CHUNK if framing == "chunked" else b""))
        return raw.read_answer(connection)

    for answer in answers(app, talk_on):
        assert (answer.status, answer.code) == (status, code)


def test_a_body_that_is_too_long_is_answered_though_all_of_it_is_sent(app: App) -> None:
    """A client that sends all of a refused body gets the answer."""
    length = 2 * UNWANTED  # more than UPLOAD_MAX_FILE_BYTES too
    block = bytes(MIB)

    def talk_on(connection: socket.socket, handoff: str) -> Answer:
        connection.sendall(head(handoff, f"Content-Length: {length}"))
        for _ in range(length // len(block)):
            connection.sendall(block)
        return raw.read_answer(connection)

    for answer in answers(app, talk_on):
        assert (answer.status, answer.code) == (413, "body-too-large")


# Clients that expect 100-continue


def test_a_client_that_waits_to_be_asked_for_its_body_is(app: App) -> None:
    """A client that expects 100-continue gets it before it sends its body."""

    def wait(connection: socket.socket, handoff: str) -> Answer:
        connection.sendall(head(handoff, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert raw.read_head(connection).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        return raw.read_answer(connection)

    for answer in answers(app, wait):
        app.check_stored(answer, [DATA])


def test_a_client_that_waits_in_vain_gets_the_error(app: App) -> None:
    """An error that needs no body comes without a request for the body."""

    def wait(connection: socket.socket, _handoff: str) -> Answer:
        connection.sendall(head("nonsense", f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        return raw.read_answer(connection)

    for answer in answers(app, wait):
        assert (answer.status, answer.code) == (404, "unknown-handoff")


@pytest.mark.parametrize("asked", [pytest.param(False, id="before"), pytest.param(True, id="after")])
def test_a_client_that_goes_away_when_it_is_asked_leaves_nothing(app: App, *, asked: bool) -> None:
    """A connection that ends around 100 Continue leaves nothing in S3 or process."""

    def leave(handoff: str) -> None:
        with app.connected() as connection:
            connection.sendall(head(handoff, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
            if asked:
                raw.read_head(connection)

    app.by_each(leave)


def test_a_client_that_does_not_wait_to_be_asked_gets_the_error(app: App) -> None:
    """A client that sends its whole body without waiting for 100 Continue gets the answer."""

    def talk_on(connection: socket.socket, _handoff: str) -> Answer:
        connection.sendall(head("nonsense", f"Content-Length: {UNWANTED}", "Expect: 100-continue") + bytes(UNWANTED))
        return raw.read_answer(connection)

    for answer in answers(app, talk_on):
        assert (answer.status, answer.code) == (404, "unknown-handoff")


# All of them, repeatedly


def test_broken_clients_cost_no_memory(app: App) -> None:
    """Further rounds of broken clients do not increase Python's memory by more than a little."""
    early = part(None, b"") + bytes(8 * MIB)

    def break_off(handoff: str) -> None:
        for request in (
            head(handoff, f"Content-Length: {len(BODY)}") + BODY[:-1],
            head(handoff, CHUNKED) + in_chunks(BODY)[: LARGE // 2],
            whole(handoff, BODY[:-20] + bytes(20)),
            whole(handoff, early),
        ):
            with app.connected() as connection:
                raw.send(connection, request)

    def rounds(number: int) -> int:
        for _ in range(number):
            app.by_each(break_off)
        app.wait_until_at_rest()
        return app.watch.memory()

    rounds(1)
    before = rounds(3)
    assert rounds(4) - before < MIB


def test_a_crowd_that_leaves_at_once_leaves_nothing(app: App) -> None:
    """As many clients as gunicorn has threads disconnect at the same moment and leave nothing."""
    with ExitStack() as exits, ThreadPoolExecutor(CROWD) as pool:
        crowd = [exits.enter_context(app.connected()) for _ in range(CROWD)]
        beginning = head("stream", f"Content-Length: {len(BODY)}") + BODY[: MIB // 2]
        list(pool.map(lambda connection: connection.sendall(beginning), crowd))
