"""Clients that stop or go away in the middle of an upload."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from contract.api import CONTENT_TYPE, form, part
from contract.bucket import Bucket

from demo import stack
from handoff.strategies import HANDOFFS

FRAMEWORKS = ("flask", "quart")
SIZE = 5 * 1024**2 + 1
#: When a client that does not wait leaves, in seconds: S3 is being written then.
LEAVES_AFTER = 0.1


@pytest.fixture
def bucket(running: stack.Stack) -> Iterator[Bucket]:
    """The bucket, which must be empty after the test, with no upload unfinished and no file left open."""
    client = running.store.client()
    checked = Bucket(client, "faults", running)
    yield checked
    checked.check_and_empty(set())
    client.close()


def connect(running: stack.Stack, framework: str) -> socket.socket:
    """A bare connection to an app."""
    url = urlsplit(running.apps[framework].url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 80), timeout=30)


def head(length: int | None, handoff: str) -> bytes:
    """A request's head: with a length, or chunked."""
    framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    return (
        f"POST /uploads/{handoff} HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\n{framing}\r\n\r\n"
    ).encode()


def read_answer(connection: socket.socket) -> bytes:
    """Everything that comes until the app closes the connection, or says that it keeps it."""
    answer = b""
    while b"}" not in answer:
        received = connection.recv(65536)
        if not received:
            break
        answer += received
    return answer


@pytest.mark.parametrize("sent", [0, 100, SIZE // 2])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.usefixtures("bucket")
def test_an_upload_that_stops_moving_is_answered(running: stack.Stack, framework: str, framing: str, sent: int) -> None:
    """A body that stops arriving gets 408 request-timeout; one idle timeout later, not never."""
    body = form(part("file", os.urandom(SIZE), "name"))
    with closing(connect(running, framework)) as connection:
        connection.sendall(head(len(body) if framing == "declared" else None, "temp_file"))
        if sent:
            connection.sendall(body[:sent] if framing == "declared" else b"%x\r\n%s\r\n" % (sent, body[:sent]))
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 408"), answer[:500]
    assert b'"code":"request-timeout"' in answer.replace(b'": "', b'":"')


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"zz\r\nabc\r\n", id="a size that is no number"),
        pytest.param(b"3\r\nabcdef\r\n", id="a size too small"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_broken_chunks_are_a_broken_form(running: stack.Stack, chunks: bytes) -> None:
    """Chunks that are none are the client's fault: 400 form-malformed on gunicorn; hypercorn answers them itself."""
    for framework, code in (("flask", b"form-malformed"), ("quart", b"")):
        with closing(connect(running, framework)) as connection:
            connection.sendall(head(None, "temp_file") + chunks)
            answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 400"), answer[:300]
        assert code in answer


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_upload_that_is_slow_but_moving_is_stored(running: stack.Stack, framework: str) -> None:
    """A body that takes longer than the idle timeout as a whole, but never pauses that long, arrives."""
    body = form(part("file", b"slow", "name"))
    with closing(connect(running, framework)) as connection:
        connection.sendall(head(len(body), "file"))
        for start in range(0, len(body), 30):
            connection.sendall(body[start : start + 30])
            time.sleep(0.4)
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 201"), answer[:500]
    with closing(running.store.client()) as client:
        for entry in client.list_objects_v2(Bucket="faults")["Contents"]:
            client.delete_object(Bucket="faults", Key=entry["Key"])


@pytest.mark.parametrize("sent", [50, SIZE // 2, SIZE])
@pytest.mark.parametrize("handoff", HANDOFFS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.usefixtures("bucket")
def test_a_client_that_goes_away_leaves_nothing(running: stack.Stack, framework: str, handoff: str, sent: int) -> None:
    """A connection closed in the middle of the body leaves no object, no unfinished upload, no open file."""
    body = form(part("file", os.urandom(SIZE), "name"))
    with closing(connect(running, framework)) as connection:
        connection.sendall(head(len(body), handoff) + body[:sent])


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.usefixtures("bucket")
def test_an_early_answer_waits_for_a_client_that_sends_on(running: stack.Stack, framework: str) -> None:
    """A client that reads an early answer only when it has sent all, gets it all the same."""
    body = bytes(16 * 1024**2)
    for _ in range(20):
        with closing(connect(running, framework)) as connection:
            connection.sendall(head(len(body), "nonsense") + body)
            assert read_answer(connection).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("handoff", HANDOFFS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_client_that_does_not_wait_for_the_answer(running: stack.Stack, framework: str, handoff: str) -> None:
    """A client that sends all and leaves while S3 is being written leaves a whole object or none, nothing unfinished.

    Flask does not learn that it has gone, and stores the file; Quart is cancelled, wherever it is, and undoes it.
    """
    data = os.urandom(3 * SIZE)
    body = form(part("file", data, "name"))
    with closing(running.store.client()) as client:
        bucket = Bucket(client, "faults", running)
        with closing(connect(running, framework)) as connection:
            connection.sendall(head(len(body), handoff) + body)
            time.sleep(LEAVES_AFTER)
        wait_until_quiet(bucket)
        sizes = [entry["Size"] for entry in client.list_objects_v2(Bucket="faults").get("Contents", [])]
        bucket.check_and_empty(bucket.stored_keys())
    assert sizes in ([], [len(data)])


def wait_until_quiet(bucket: Bucket) -> None:
    """Wait until no upload has been under way for a second, as far as its file and its parts show."""
    deadline, quiet_since = time.monotonic() + 30, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < 1:
        if bucket.unfinished() or bucket.new_open_files():
            quiet_since = time.monotonic()
        time.sleep(0.02)
