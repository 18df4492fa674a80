"""The load generator records true times, keeps its pace, and verifies every answer."""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from patience import PATIENCE

from benchmarks.bodies import POOL_BYTES, Bodies
from benchmarks.clients import BOUNDARY, TUS_CHUNK_BYTES
from benchmarks.connection import is_whole
from benchmarks.load import Group, Job, send

Serve = Callable[[socket.socket], None]
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def bodies() -> Iterator[Bodies]:
    """Random bodies."""
    with closing(Bodies()) as made:
        yield made


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Run `serve` on each connection to a new server; yield its port."""
    with ExitStack() as exits:
        listener = exits.enter_context(socket.create_server(("127.0.0.1", 0)))
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=run, args=[connection]))
                threads[-1].start()

        def run(connection: socket.socket) -> None:
            with connection:
                serve(connection)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in [accepting, *threads]:
                thread.join()


def read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read a request's head and body; both empty when the client has disconnected."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, beginning = data.partition(b"\r\n\r\n")
    body = bytearray(beginning)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(2**20)
    return head, bytes(body)


def answer(*answers: bytes) -> Serve:
    """Make a server that sends these answers in turn and repeats the last."""

    def serve(connection: socket.socket) -> None:
        number = 0
        while read_request(connection)[0]:
            connection.sendall(answers[min(number, len(answers) - 1)])
            number += 1

    return serve


def group(bodies: Bodies, size: int, **values: Any) -> Group:
    """A group of one client that sends one file, with some values changed."""
    plain = Group("g", clients=1, size=size, prefix="f-", digests=bodies.digests(size), at_most=1)
    return replace(plain, **values)


def job(bodies: Bodies, port: int, *groups: Group, **values: Any) -> Job:
    """A job of forms that ends after its groups' files, with some values changed."""
    plain = Job(
        port,
        "/upload",
        upload_kind="form",
        receipts=False,
        pool_fd=bodies.fd,
        pool_bytes=POOL_BYTES,
        seconds=0.01,
        timeout=PATIENCE,
        groups=list(groups),
    )
    return replace(plain, **values)


@pytest.mark.parametrize(
    ("size", "as_form"),
    [
        *(pytest.param(size, True, id=f"{size} in a form") for size in (0, 1, 65_536, 300_000, POOL_BYTES + 100)),
        *(pytest.param(size, False, id=f"{size} bare") for size in (1, 300_000)),
    ],
)
def test_bodies_arrive_with_their_digest(bodies: Bodies, size: int, *, as_form: bool) -> None:
    """Bodies of any size, even larger than the pool, arrive with correct framing and digest."""
    seen: list[tuple[bytes, bytes]] = []

    def serve(connection: socket.socket) -> None:
        while (request := read_request(connection))[0]:
            seen.append(request)
            connection.sendall(CREATED)

    wanted = group(bodies, size, at_least=2, at_most=2)
    with serving(serve) as port:
        lines, _ = send(job(bodies, port, wanted, upload_kind="form" if as_form else "bare", path="/{name}"))
    assert [line["error"] for line in lines] == [None, None]
    assert [line["name"] for line in lines] == ["f-0000000.bin", "f-0000001.bin"]
    for number, (head, body) in enumerate(seen):
        before, blank, rest = body.partition(b"\r\n\r\n") if as_form else (b"", b"", body)
        boundary = before.partition(b"\r\n")[0]
        content = rest.removesuffix(b"\r\n%b--\r\n" % boundary) if as_form else rest
        assert len(content) == size
        assert hashlib.sha256(content).hexdigest() == bodies.digest(wanted, number)
        if as_form:
            assert boundary == f"--{BOUNDARY}f-000000{number}".encode()
            assert f'filename="f-000000{number}.bin"' in before.decode()
            assert blank
            assert head.startswith(b"POST ")
        else:
            assert head.startswith(f"PUT /f-000000{number}.bin ".encode())


def test_two_bodies_are_not_the_same(bodies: Bodies) -> None:
    """The bodies of one size differ, so that a server that swaps files is caught."""
    assert len(set(bodies.digests(4096).values())) == 8


RECEIPT = {"filename": "f-0000000.bin", "size": 10, "sha256": "of this body"}


def receipts(**values: object) -> bytes:
    """An answer with a receipt."""
    body = json.dumps({"receipts": [RECEIPT | values]}).encode()
    return b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        pytest.param(CREATED, "malformed answer", id="no receipt"),
        pytest.param(receipts(), None, id="the right receipt"),
        pytest.param(receipts(size=11), "the receipt does not match the file", id="another size"),
        pytest.param(receipts(sha256="other"), "the receipt does not match the file", id="another digest"),
        pytest.param(receipts(filename="other"), "the receipt does not match the file", id="another name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered 200", id="not created"),
        pytest.param(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait", "answered 503: wait", id="refused"),
        pytest.param(
            b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n", "closed before the end of the answer", id="cut short"
        ),
        pytest.param(b"hello\r\n\r\n", "malformed answer", id="no HTTP"),
    ],
)
def test_an_answer_is_checked(bodies: Bodies, answers: bytes, error: str | None) -> None:
    """Only a 201 with the right receipt, where one is due, counts as an upload."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answers)
        connection.shutdown(socket.SHUT_WR)

    wanted = replace(group(bodies, 10), digests={0: "of this body"})
    with serving(serve) as port:
        (line,), _ = send(job(bodies, port, wanted, receipts=True))
    assert (line["error"] is None) if error is None else (error in line["error"])


class TusServer:
    """A tus server that keeps the bytes of one upload."""

    def __init__(self, *, names_the_file: bool, refuses_at: int | None = None) -> None:
        self.data = b""
        self.methods: list[str] = []
        self.connections = 0
        self._named = b"Content-Location: /objects/it\r\n" if names_the_file else b""
        self._refuses_at = refuses_at

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        while (request := read_request(connection))[0]:
            connection.sendall(self._answer(*request))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        method, path, _ = head.decode().split(" ", 2)
        self.methods.append(method)
        if method == "POST":
            return b"HTTP/1.1 201 Created\r\nLOCATION: http://here/files/it\r\nContent-Length: 0\r\n\r\n"
        assert path == "/files/it"
        if method == "GET":
            return receipts(size=TUS_BYTES).replace(b"201 Created", b"200 OK")
        if method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        if f"Upload-Offset: {len(self.data)}\r\n".encode() not in head or len(self.data) == self._refuses_at:
            return b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\n\r\nother"
        self.data += body
        named = self._named if len(self.data) == TUS_BYTES else b""
        return b"HTTP/1.1 204 No Content\r\n%bupload-offset: %d\r\nContent-Length: 0\r\n\r\n" % (named, len(self.data))


#: Two chunks and a third one of a byte.
TUS_BYTES = 2 * TUS_CHUNK_BYTES + 1


@pytest.mark.parametrize(("names_the_file", "last"), [(True, "GET"), (False, "HEAD")])
def test_a_tus_client_sends_chunks_on_one_connection(bodies: Bodies, last: str, *, names_the_file: bool) -> None:
    """The chunks are the file, and the receipt is asked for where the server names the file."""
    server = TusServer(names_the_file=names_the_file)
    digests = dict([*bodies.digests(TUS_BYTES).items()][:1])
    wanted = replace(group(bodies, TUS_BYTES), digests={0: "of this body"} if names_the_file else digests)
    with serving(server.serve) as port:
        (line,), _ = send(job(bodies, port, wanted, upload_kind="tus", path="/files", receipts=names_the_file))
    assert line["error"] is None
    assert server.connections == 1
    assert server.methods == ["POST", "PATCH", "PATCH", "PATCH", last]
    assert [hashlib.sha256(server.data).hexdigest()] == list(digests.values())


def test_a_refused_chunk_is_an_error(bodies: Bodies) -> None:
    """An upload whose second chunk is refused has failed, with the answer."""
    server = TusServer(names_the_file=True, refuses_at=TUS_CHUNK_BYTES)
    with serving(server.serve) as port:
        (line,), _ = send(job(bodies, port, group(bodies, TUS_BYTES), upload_kind="tus", path="/files"))
    assert line["error"] == "answered 409: other"


def test_a_file_that_was_not_read_is_not_stored(bodies: Bodies) -> None:
    """An answer before the end of the file is an error, even a 201."""

    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(CREATED)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**20):
            pass

    with serving(serve) as port:
        (line,), _ = send(job(bodies, port, group(bodies, 64 * 2**20)))
    assert line["error"] == "answered before the whole file was sent"


def test_a_server_that_stands_still_is_given_up(bodies: Bodies) -> None:
    """After the timeout the client closes the connection and records an error."""
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.recv(1)
        gone.set()

    with serving(serve) as port:
        (line,), _ = send(job(bodies, port, group(bodies, 10), timeout=0.1))
        assert gone.wait(PATIENCE)
    assert "no progress for 0.1 s" in line["error"]


def test_a_refused_connection_is_an_error(bodies: Bodies) -> None:
    """A refused connection is an error."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    (line,), _ = send(job(bodies, port, group(bodies, 10)))
    assert "Connection refused" in line["error"]


def test_latency_counts_from_when_an_upload_should_have_begun(bodies: Bodies) -> None:
    """Uploads that wait behind a slow one count the wait in their latency."""
    first = threading.Event()

    def serve(connection: socket.socket) -> None:
        while read_request(connection)[0]:
            if not first.is_set():
                first.set()
                time.sleep(0.4)
            connection.sendall(CREATED)

    wanted = group(bodies, 10, rate=50.0, at_most=None)
    with serving(serve) as port:
        lines, _ = send(job(bodies, port, wanted, seconds=0.3))
    assert [line["error"] for line in lines] == [None] * 15
    assert [line["intended_us"] for line in lines] == [number * 20_000 for number in range(15)]
    waited = [line["ended_us"] - line["intended_us"] for line in lines]
    assert all(latency >= 400_000 - line["intended_us"] for latency, line in zip(waited, lines, strict=True))
    # counted from the first byte sent, the latency would not show it
    assert min(line["ended_us"] - line["began_us"] for line in lines[1:]) < 400_000


def test_a_pace_is_kept(bodies: Bodies) -> None:
    """1 MB at 4 MB/s takes at least a quarter of a second."""
    with serving(answer(CREATED)) as port:
        (line,), _ = send(job(bodies, port, group(bodies, 1_000_000, bytes_per_second=4_000_000)))
    assert line["error"] is None
    assert line["ended_us"] - line["began_us"] > 220_000


def test_background_clients_stop_with_the_others(bodies: Bodies) -> None:
    """Background clients stop when the others have ended, and finish their requests."""
    others = group(bodies, 10, name="measured", at_most=None, at_least=5)
    background = group(bodies, 10, name="slow", in_background=True, at_most=None, prefix="s-")
    with serving(answer(CREATED)) as port:
        lines, _ = send(job(bodies, port, others, background, seconds=0.05))
    last = max(line["ended_us"] for line in lines if line["group"] == "measured")
    assert len([line for line in lines if line["group"] == "measured"]) >= 5
    assert all(line["error"] is None for line in lines)
    assert sum(line["began_us"] > last for line in lines if line["group"] == "slow") <= 1


def json_answer(status: str, **values: object) -> bytes:
    """A response in JSON."""
    body = json.dumps(values).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def presigning(parts: list[list[int]], s3_status: str = "200 OK") -> Iterator[tuple[int, list[bytes], list[str]]]:
    """Serve as app and S3 in one, with pages of part URLs.

    Yield port, bodies and requests.
    """
    bodies, asked = list[bytes](), list[str]()

    def serve(connection: socket.socket) -> None:
        while True:
            head, body = read_request(connection)
            if not head:
                return
            method, path, _ = head.decode().split("\r\n")[0].split(" ")
            asked.append(f"{method} {path}")
            host = head.lower().partition(b"host: ")[2].partition(b"\r\n")[0].decode()
            if method == "PUT":
                bodies.append(body)
                connection.sendall(f"HTTP/1.1 {s3_status}\r\nContent-Length: 0\r\n\r\n".encode())
            elif path == "/complete":
                digest = hashlib.sha256(b"".join(bodies)).hexdigest()
                receipt = {"filename": "f-0000000.bin", "size": len(b"".join(bodies)), "sha256": digest}
                connection.sendall(json_answer("201 Created", receipts=[receipt]))
            else:
                number = int(path.partition("page")[2] or 0)
                urls = [{"url": f"http://{host}/s3?sig={n}", "size": n, "headers": {"x": "1"}} for n in parts[number]]
                following = f"/page{number + 1}" if number + 1 < len(parts) else None
                pages = {"parts": urls, "next": following} if len(parts) > 1 or len(urls) > 1 else urls[0]
                connection.sendall(json_answer("201 Created", **pages, complete="/complete"))

    with serving(serve) as port:
        yield port, bodies, asked


@pytest.mark.parametrize("parts", [[[10]], [[6, 4]], [[4, 3], [2, 1]]], ids=["one put", "parts", "pages of parts"])
def test_a_presigned_upload_sends_each_part_and_completes(bodies: Bodies, parts: list[list[int]]) -> None:
    """A presigned upload sends the bytes to the given URLs in order.

    The receipt covers all of them.
    """
    wanted = group(bodies, 10)
    with presigning(parts) as (port, received, asked):
        (line,), _ = send(job(bodies, port, wanted, upload_kind="presigned", path="/presigned", receipts=True))
    assert line["error"] is None
    assert line["status"] == 201
    assert [len(one) for one in received] == [size for page in parts for size in page]
    assert hashlib.sha256(b"".join(received)).hexdigest() == bodies.digest(wanted, 0)
    assert [one for one in asked if not one.startswith("PUT")][-1] == "POST /complete"


def test_a_presigned_upload_that_s3_refuses_is_an_error(bodies: Bodies) -> None:
    """A presigned upload that S3 rejects is an error, and is not completed."""
    with presigning([[10]], "403 Forbidden") as (port, _, asked):
        (line,), _ = send(
            job(bodies, port, group(bodies, 10), upload_kind="presigned", path="/presigned", receipts=True)
        )
    assert line["error"] == "answered 403: "
    assert "POST /complete" not in asked


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        pytest.param(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n", False, id="half a head"),
        pytest.param(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{", False, id="half a body"),
        pytest.param(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}", True, id="a whole body"),
        pytest.param(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", False, id="a chunk"),
        pytest.param(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True, id="all chunks"
        ),
    ],
)
def test_the_end_of_an_answer_is_known(data: bytes, *, whole: bool) -> None:
    """An answer ends after Content-Length bytes or with its last chunk."""
    assert is_whole(data) == whole
