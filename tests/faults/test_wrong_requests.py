"""Malformed requests on raw sockets get the right answer or an error, by every hand-off.

Differences of the two servers, and errors that a server returns before the app, are listed here.
"""

import gzip
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest
from contract.api import BOUNDARY, CONTENT_TYPE, form, part
from faults import raw
from faults.app import App
from faults.raw import CHUNKED, LAST_CHUNK, Answer, head, in_chunks, whole

DATA = os.urandom(3000)
FILE = part("file", DATA, "name")
BODY = form(FILE)
DELIMITER = b"--" + BOUNDARY.encode()


@dataclass(frozen=True)
class Stored:
    """201, with these files in S3."""

    files: tuple[bytes, ...] = (DATA,)


@dataclass(frozen=True)
class Refused:
    """An error; without a code it is the server's own."""

    status: int
    code: str | None = None


@dataclass(frozen=True)
class CutOff:
    """hypercorn's answer to a client that half-closes inside a body: an empty 400, or none."""


Outcome: TypeAlias = Stored | Refused | CutOff

STORED = Stored()
MALFORMED = Refused(400, "form-malformed")
UNREADABLE = Refused(400)


@dataclass(frozen=True)
class Case:
    """The request of a hand-off, and the answers in order.

    A single one holds for both apps.
    """

    sent: Callable[[str], bytes]
    flask: tuple[Outcome, ...]
    quart: tuple[Outcome, ...]
    half_closed: bool = False


def case(
    name: str,
    sent: Callable[[str], bytes],
    flask: Outcome,
    quart: Outcome | None = None,
    *more: Outcome,
    half: bool = False,
) -> object:
    """A parameter of the test below; `more` are the answers to pipelined requests."""
    return pytest.param(Case(sent, (flask, *more), (quart or flask, *more), half), id=name)


def body(data: bytes) -> Callable[[str], bytes]:
    """An upload with this body."""
    return lambda handoff: whole(handoff, data)


def headers(*lines: str) -> Callable[[str], bytes]:
    """A valid upload with these additional headers."""
    return lambda handoff: whole(handoff, BODY, *lines)


def chunks(data: bytes) -> Callable[[str], bytes]:
    """An upload with these raw chunks."""
    return lambda handoff: head(handoff, CHUNKED) + data


def lengths(*lengths: object, data: bytes = BODY) -> Callable[[str], bytes]:
    """An upload with these declared lengths."""
    return lambda handoff: head(handoff, *(f"Content-Length: {length}" for length in lengths)) + data


def replaced(old: bytes, new: bytes) -> Callable[[str], bytes]:
    """An upload with a replacement in its first part."""
    assert old in BODY
    return body(BODY.replace(old, new, 1))


def types(*values: str) -> Callable[[str], bytes]:
    """An upload with these Content-Types."""
    first, *others = values
    lines = [f"Content-Length: {len(BODY)}", *(f"Content-Type: {value}" for value in others)]
    return lambda handoff: head(handoff, *lines, content_type=first) + BODY


GZIPPED = gzip.compress(BODY)
TINY = part("note", b"x")
NEAR = b"x" + DELIMITER + b"\r\n\r" + DELIMITER + b"\r\n" + DELIMITER[:-1] + b"\r\n\r\n--\r\n"

HANDSHAKE = (
    b"GET /uploads HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

CASES = [
    # Chunks
    case("odd chunks, extensions, a trailer", chunks(in_chunks(BODY, 7, ";a=b") + b"0\r\nX-Sum: 1\r\n\r\n"), STORED),
    case("chunks of a byte", chunks(in_chunks(BODY, 1) + LAST_CHUNK), STORED),
    case("a chunk size that is no number", chunks(b"zz\r\n" + BODY), MALFORMED, UNREADABLE),
    case("a negative chunk size", chunks(b"-5\r\n" + BODY), MALFORMED, UNREADABLE),
    case("a chunk size of 21 digits", chunks(b"f" * 21 + b"\r\n" + BODY), MALFORMED, UNREADABLE),
    case(
        "a chunk size that is too small",
        chunks(b"%x\r\n%s\r\n" % (len(BODY) - 9, BODY) + LAST_CHUNK),
        MALFORMED,
        UNREADABLE,
    ),
    case(
        "a chunk size that is too large",
        chunks(b"%x\r\n%s\r\n" % (len(BODY) + 4, BODY) + LAST_CHUNK),
        MALFORMED,
        UNREADABLE,
    ),
    case("chunks without a last one", chunks(in_chunks(BODY)), MALFORMED, CutOff(), half=True),
    case("a form cut short in chunks", chunks(in_chunks(BODY[:-9]) + LAST_CHUNK), MALFORMED),
    case("a last chunk alone", chunks(LAST_CHUNK), MALFORMED),
    # Lengths
    case("a length that is too long", lengths(len(BODY) + 1), MALFORMED, CutOff(), half=True),
    case("a length that is too short", lengths(len(BODY) - 9), MALFORMED),
    case("a length of nothing", lengths(0), MALFORMED),
    case("no length", lengths(), MALFORMED),
    case("a negative length", lengths(-1), UNREADABLE),
    case("a length with a sign", lengths(f"+{len(BODY)}"), UNREADABLE),
    case("a length in hex", lengths(hex(len(BODY))), UNREADABLE),
    case("two lengths", lengths(len(BODY), len(BODY) - 1), UNREADABLE),
    case("a length and chunks", lambda way: whole(way, in_chunks(BODY) + LAST_CHUNK, CHUNKED), UNREADABLE),
    case("a length over the limit", lengths(2**40), Refused(413, "body-too-large")),
    case("a length of 30 digits", lengths("9" * 30), UNREADABLE),
    # More than one request
    case("the same again, pipelined", lambda way: 2 * whole(way, BODY), STORED, STORED, STORED),
    case(
        "an error and an upload, pipelined",
        lambda way: whole(way, BODY[:-9]) + whole(way, BODY),
        MALFORMED,
        None,
        STORED,
    ),
    case("no request, pipelined", lambda way: whole(way, BODY) + b"\0\r\n\r\n", STORED, STORED, UNREADABLE),
    case("HTTP/1.0", lambda way: whole(way, BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1), STORED),
    case("a WebSocket handshake", lambda _: HANDSHAKE, Refused(405, "method-not-allowed")),
    # Headers
    case("a header of 9 KB", headers("X-A: " + 9000 * "a"), Refused(431)),
    case("a header of 1 MiB", headers("X-A: " + 2**20 * "a"), Refused(431)),
    case("1,000 headers", headers(*(f"X-{number}: a" for number in range(1000))), Refused(431)),
    case("a header of a part of 5 KB", replaced(b"Content-", b"X-A: " + 5000 * b"a" + b"\r\nContent-"), MALFORMED),
    case("20 headers of a part", replaced(b"Content-", 20 * b"X-A: a\r\n" + b"Content-"), MALFORMED),
    # Parts
    case("1,000 fields", body(form(*1000 * [TINY], FILE)), Refused(413, "too-many-parts")),
    case("1,000 files", body(form(*1000 * [part("other", b"x", "name")])), Refused(413, "too-many-parts")),
    case("no parts", body(form()), Refused(400, "file-missing")),
    case("a preamble and an epilogue", body(b"before\r\n" + BODY + b"after"), STORED),
    # Twice
    case("two types", types(CONTENT_TYPE, "text/plain"), UNREADABLE),
    case("two boundaries, the right one last", types(CONTENT_TYPE.replace(";", "; boundary=other;")), MALFORMED),
    case("two boundaries, the wrong one last", types(CONTENT_TYPE + "; boundary=other"), MALFORMED),
    case("a boundary of 251 characters", types("multipart/form-data; boundary=" + 251 * "a"), MALFORMED),
    case("a delimiter twice", body(DELIMITER + b"\r\n" + BODY), MALFORMED),
    case("a delimiter with something behind it", replaced(DATA, DATA + b"\r\n" + DELIMITER + b"x"), MALFORMED),
    case("nearly a delimiter", replaced(DATA, NEAR), Stored((NEAR,))),
    case("a name twice", body(form(FILE, part("file", b"other", "name"))), Stored((DATA, b"other"))),
    case(
        "a disposition twice", replaced(b"Content-", b'Content-Disposition: form-data; name="x"\r\nContent-'), MALFORMED
    ),
    case("a promise twice", body(form(*2 * [part("sha256", 64 * b"0")], FILE)), Refused(400, "digest-malformed")),
    # Codings
    case("gzip", lambda way: whole(way, GZIPPED, "Content-Encoding: gzip"), Refused(415, "unsupported-media-type")),
    case("gzip by name only", headers("Content-Encoding: gzip"), Refused(415, "unsupported-media-type")),
    case(
        "two codings",
        headers("Content-Encoding: identity", "Content-Encoding: br"),
        Refused(415, "unsupported-media-type"),
    ),
    case("identity", headers("Content-Encoding: identity"), STORED),
    case(
        "gzip on the way",
        lambda way: head(way, "Transfer-Encoding: gzip, chunked") + in_chunks(GZIPPED) + LAST_CHUNK,
        Refused(501),
    ),
    case("an expectation that is none", headers("Expect: tea"), Refused(417)),
]


def converse(app: App, sent: bytes, answers: int, *, half_closed: bool) -> list[Answer]:
    """Send all bytes and read this many answers."""
    with app.connected() as connection:
        raw.send(connection, sent)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        return [raw.read_answer(connection) for _ in range(answers)]


def check(app: App, outcomes: tuple[Outcome, ...], answers: list[Answer]) -> None:
    """Assert that the answers match."""
    for outcome, answer in zip(outcomes, answers, strict=True):
        if isinstance(outcome, Stored):
            app.check_stored(answer, outcome.files)
        elif isinstance(outcome, CutOff):
            assert (answer.status, answer.body) in {(400, b""), (0, b"")}, answer
        else:
            assert Refused(answer.status, answer.code) == outcome, answer


@pytest.mark.every_other
@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_right_or_an_error(app: App, case: Case) -> None:
    """Each hand-off gives the same right answer or error, and leaves nothing."""
    expected = case.flask if app.name == "flask" else case.quart

    def exchange(handoff: str) -> list[Answer]:
        return converse(app, case.sent(handoff), len(expected), half_closed=case.half_closed)

    for answers in app.by_each(exchange).values():
        check(app, expected, answers)
