"""Every server agrees on requests that a proxy may read differently, and on `Expect: 100-continue`."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import pytest
from contract.api import form, part
from faults import raw
from faults.app import App
from faults.raw import LAST_CHUNK, Answer, head, in_chunks, whole

from demo import stack
from demo.processes import Server, ending, listen, python
from filehandoff.strategies import FORM_HANDOFFS

T = TypeVar("T")

DATA = b"x" * 20
BODY = form(part("file", DATA, "name"))
CHUNKS = in_chunks(BODY) + LAST_CHUNK
NEXT = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
PLAIN = whole("stream", BODY)
CHUNKED = head("stream", "Transfer-Encoding: chunked") + CHUNKS
SERVERS = ("gunicorn", "hypercorn", "uvicorn with httptools", "uvicorn with h11")


def lengths(*values: str) -> bytes:
    """An upload with these Content-Length headers."""
    return head("stream", *(f"Content-Length: {value}" for value in values)) + BODY


def coded(*values: str) -> bytes:
    """A chunked upload with these Transfer-Encoding headers."""
    return head("stream", *(f"Transfer-Encoding: {value}" for value in values)) + CHUNKS


def chunks(old: bytes, new: bytes) -> bytes:
    """A chunked upload with a replacement in its chunks."""
    return head("stream", "Transfer-Encoding: chunked") + CHUNKS.replace(old, new, 1)


def changed(old: bytes, new: bytes) -> bytes:
    """An upload with a replacement in its head."""
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


SIZE = b"%x\r\n" % len(BODY)
URL = b" http://here/uploads/stream "

#: Requests that get 201; the connection then serves the next request.
TAKEN = {
    "a length": PLAIN,
    "chunks": CHUNKED,
    "chunked in upper case": coded("CHUNKED"),
    "a length with zeros": lengths(f"000{len(BODY)}"),
    "a chunk size with zeros": chunks(SIZE, b"000" + SIZE),
    "a chunk size in upper case": chunks(SIZE, SIZE.upper()),
    "a chunk extension": chunks(b"\r\n", b';a;b=c;d="e"\r\n'),
    "a trailer": chunks(b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"),
    "chunks of a byte": head("stream", "Transfer-Encoding: chunked") + in_chunks(BODY, 1) + LAST_CHUNK,
    "a blank line before": b"\r\n" + PLAIN,
    "a blank line behind": PLAIN + b"\r\n",
    "obs-text in a value": changed(b"Host", b"X-A: \xe9\r\nHost"),
    "an empty value": changed(b"Host", b"X-A:\r\nHost"),
    "a name with an underscore": changed(b"Host", b"Content_Length: 5\r\nHost"),
    "a URL": changed(b" /uploads/stream ", URL),
    "Upgrade: h2c": changed(b"Host", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nHost"),
    "Upgrade: h2c and its connection option": changed(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost"),
    "Upgrade: websocket": changed(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost"),
    "an expectation that is not waited for": changed(b"Host", b"Expect: 100-continue\r\nHost"),
    "an unknown connection option": changed(b"Host", b"Connection: x\r\nHost"),
}
#: Requests that get 201; the connection then closes without reading on.
LAST = {
    "HTTP/1.0": changed(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 without a Host": changed(b"HTTP/1.1\r\nHost: here", b"HTTP/1.0"),
    "HTTP/1.0 and keep-alive": changed(b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"),
    "Connection: close": changed(b"Host", b"Connection: close\r\nHost"),
    "Connection: close, x": changed(b"Host", b"Connection: close, x\r\nHost"),
    "Connection: close twice": changed(b"Host", b"Connection: x\r\nConnection: CLOSE\r\nHost"),
    "Connection: close and a blank line": changed(b"Host", b"Connection: close\r\nHost") + b"\r\n",
    "HTTP/1.0 and a blank line": changed(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
    "Connection: close and bytes behind": changed(b"Host", b"Connection: close\r\nHost") + b"\0",
}
#: Requests that get one error; the connection then closes.
REFUSED = {
    "a length and chunks": head("stream", "Content-Length: 4", "Transfer-Encoding: chunked") + CHUNKS,
    "chunks and a length": head("stream", "Transfer-Encoding: chunked", f"Content-Length: {len(CHUNKS)}") + CHUNKS,
    "two equal lengths": lengths(str(len(BODY)), str(len(BODY))),
    "two lengths": lengths(str(len(BODY)), "5"),
    "a list of lengths": lengths(f"{len(BODY)},{len(BODY)}"),
    "a length with a plus": lengths(f"+{len(BODY)}"),
    "a negative length": lengths("-1"),
    "a length in hex": lengths(hex(len(BODY))),
    "a length with an underscore": lengths(f"{len(BODY)}_0"),
    "a length with a point": lengths(f"{len(BODY)}.0"),
    "an empty length": lengths(""),
    "a length of 30 digits": lengths(30 * "9"),
    "a length with a blank": lengths(f"{len(BODY)} 1"),
    "a length in other digits": lengths("\xb2"),
    "chunked twice": coded("chunked, chunked"),
    "two codings": coded("chunked", "chunked"),
    "gzip, chunked": coded("gzip, chunked"),
    "chunked, gzip": coded("chunked, gzip"),
    "identity, chunked": coded("identity", "chunked"),
    "identity": coded("identity"),
    "xchunked": coded("xchunked"),
    "quoted chunked": coded('"chunked"'),
    "chunked and a parameter": coded("chunked;a=b"),
    "chunked and a comma": coded("chunked,"),
    "chunked behind a vertical tab": coded("\x0bchunked"),
    "chunked and NUL": coded("chunked\0"),
    "an empty coding": coded(""),
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a blank before the colon": changed(b"Content-Length:", b"Content-Length :"),
    "a tab before the colon": changed(b"Content-Length:", b"Content-Length\t:"),
    "a folded header": changed(b"Host", b"X-A: a\r\n b\r\nHost"),
    "a folded header with a tab": changed(b"Host", b"X-A: a\r\n\tb\r\nHost"),
    "a blank before the first header": changed(b"Host", b" Host"),
    "an empty name": changed(b"Host", b": a\r\nHost"),
    "a header without a colon": changed(b"Host", b"X-A\r\nHost"),
    "a name with a bracket": changed(b"Host", b"X[A]: a\r\nHost"),
    "a name in obs-text": changed(b"Host", b"X-\xe9: a\r\nHost"),
    "NUL in a value": changed(b"here", b"here\r\nX-A: a\0b"),
    "a control in a value": changed(b"here", b"here\r\nX-A: a\x01b"),
    "DEL in a value": changed(b"here", b"here\r\nX-A: a\x7fb"),
    "a bare CR in a value": changed(b"here", b"here\r\nX-A: a\rb"),
    "a bare LF in the head": changed(b"here\r\n", b"here\n"),
    "a bare LF behind the request line": changed(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "bare LFs only": changed(b"\r\n", b"\n").replace(b"\r\n", b"\n"),
    "no Host": changed(b"Host: here\r\n", b""),
    "two Hosts": changed(b"Host: here\r\n", b"Host: here\r\nHost: there\r\n"),
    "two equal Hosts": changed(b"Host: here\r\n", b"Host: here\r\nHost: here\r\n"),
    "a Host with a comma": changed(b"here", b"here, there"),
    "a Host with a path": changed(b"here", b"here/there"),
    "a Host with a user": changed(b"here", b"me@here"),
    "a Host with a blank": changed(b"here", b"here there"),
    "two types": changed(b"Host", b"Content-Type: text/plain\r\nHost"),
    "a method in lower case": changed(b"POST", b"post"),
    "a method in mixed case": changed(b"POST", b"Post"),
    "a method with a colon": changed(b"POST", b"PO:ST"),
    "CONNECT": b"CONNECT here:80 HTTP/1.1\r\nHost: here:80\r\n\r\n",
    "a fragment": changed(b"/stream ", b"/stream#x "),
    "a target without a path": changed(b" /uploads/stream ", b" uploads/stream "),
    "a target in obs-text": changed(b"/stream ", b"/stream\xe9 "),
    "a control in the target": changed(b"/stream ", b"/stream\x01 "),
    "a target with a blank": changed(b"/stream ", b"/stream x "),
    "no target": changed(b" /uploads/stream ", b" "),
    "two blanks before the target": changed(b"POST ", b"POST  "),
    "a tab before the target": changed(b"POST ", b"POST\t"),
    "an asterisk": changed(b" /uploads/stream ", b" * "),
    "another host's URL": changed(b" /uploads/stream ", URL.replace(b"here", b"there")),
    "a URL with a user": changed(b" /uploads/stream ", URL.replace(b"here", b"me@here")),
    "a URL without a host": changed(b" /uploads/stream ", b" http:///uploads/stream "),
    "a URL of another scheme": changed(b" /uploads/stream ", b" ftp://here/uploads/stream "),
    "HTTP/1.2": changed(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/2.0": changed(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/0.9": changed(b"HTTP/1.1", b"HTTP/0.9"),
    "HTTP/1.10": changed(b"HTTP/1.1", b"HTTP/1.10"),
    "HTTP/01.1": changed(b"HTTP/1.1", b"HTTP/01.1"),
    "http/1.1": changed(b"HTTP/1.1", b"http/1.1"),
    "no version": b"GET /healthz\r\n\r\n",
    "blanks behind the version": changed(b"HTTP/1.1", b"HTTP/1.1 "),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two blank lines before": b"\r\n\r\n" + PLAIN,
    "a bare LF before": b"\n" + PLAIN,
    "a chunk size and a blank": chunks(b"\r\n", b" \r\n"),
    "a blank and a chunk size": chunks(SIZE, b" " + SIZE),
    "a blank before an extension": chunks(b"\r\n", b" ;a\r\n"),
    "an empty extension": chunks(b"\r\n", b";\r\n"),
    "a bare CR in an extension": chunks(b"\r\n", b";a\rb\r\n"),
    "a bare LF in an extension": chunks(b"\r\n", b";a\nb\r\n"),
    "a chunk size with a plus": chunks(SIZE, b"+" + SIZE),
    "a negative chunk size": chunks(SIZE, b"-" + SIZE),
    "a chunk size with 0x": chunks(SIZE, b"0x" + SIZE),
    "a chunk size with an underscore": chunks(SIZE, b"0_" + SIZE),
    "a chunk size of 17 digits": chunks(SIZE, b"1" + 16 * b"0" + b"\r\n"),
    "no chunk size": chunks(SIZE, b"\r\n"),
    "a chunk size and a bare LF": chunks(b"\r\n", b"\n"),
    "a chunk that ends in a bare LF": chunks(b"\r\n0\r\n", b"\n0\r\n"),
    "a chunk without an end": chunks(b"\r\n0\r\n", b"0\r\n"),
    "a chunk with two bytes more": chunks(b"\r\n0\r\n", b"xx\r\n0\r\n"),
    "a last chunk and a bare LF": chunks(b"0\r\n\r\n", b"0\r\n\n"),
    "a trailer Content-Length": chunks(b"0\r\n\r\n", b"0\r\nContent-Length: 50\r\n\r\n"),
    "a trailer Transfer-Encoding": chunks(b"0\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a trailer Host": chunks(b"0\r\n\r\n", b"0\r\nHost: there\r\n\r\n"),
    "a trailer with a blank before the colon": chunks(b"0\r\n\r\n", b"0\r\nX : 1\r\n\r\n"),
    "a folded trailer": chunks(b"0\r\n\r\n", b"0\r\nX: 1\r\n 2\r\n\r\n"),
    "a trailer without a colon": chunks(b"0\r\n\r\n", b"0\r\nX\r\n\r\n"),
    "a trailer and a bare LF": chunks(b"0\r\n\r\n", b"0\r\nX: 1\n\r\n"),
}

EXPECT = "Expect: 100-continue"


def expecting(method: str, path: str, *headers: str) -> bytes:
    """The head of a request with `Expect: 100-continue`."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: here", EXPECT, *headers, "", ""]).encode()


OVER_ALL_LIMITS = f"Content-Length: {2**40}"
SOME_LENGTH = "Content-Length: 1000"
TEXT = "Content-Type: text/plain"
JSON = "Content-Type: application/json"
#: Heads that decide the answer alone, each with its status.
REFUSED_BY_THE_HEAD = {
    "a form over the limit": (head("stream", OVER_ALL_LIMITS, EXPECT), 413),
    "a form over the limit, for the form parser": (head("file", OVER_ALL_LIMITS, EXPECT), 413),
    "a raw body over the limit": (expecting("PUT", "/uploads/name", OVER_ALL_LIMITS), 413),
    "JSON over the limit": (expecting("POST", "/uploads/presigned", JSON, OVER_ALL_LIMITS), 413),
    "an unknown hand-off": (head("nonsense", SOME_LENGTH, EXPECT), 404),
    "an unknown hand-off and chunks": (head("nonsense", raw.CHUNKED, EXPECT), 404),
    "an unknown hook": (head("stream?hook=nonsense", SOME_LENGTH, EXPECT), 404),
    "an unknown cause": (expecting("POST", "/causes/nonsense", SOME_LENGTH), 404),
    "an unknown path": (expecting("POST", "/nonsense", SOME_LENGTH), 404),
    "another method": (expecting("POST", "/healthz", SOME_LENGTH), 405),
    "another type": (head("stream", SOME_LENGTH, EXPECT, content_type="text/plain"), 415),
    "another type, for the form parser": (head("file", SOME_LENGTH, EXPECT, content_type="text/plain"), 415),
    "another type than JSON": (expecting("POST", "/uploads/presigned", TEXT, SOME_LENGTH), 415),
    "a compressed body": (head("stream", SOME_LENGTH, "Content-Encoding: gzip", EXPECT), 415),
    "a form without a boundary": (head("file", SOME_LENGTH, EXPECT, content_type="multipart/form-data"), 400),
    "one chunk of several": (head("file", SOME_LENGTH, "Content-Range: bytes 0-9/20", EXPECT), 400),
    "one chunk of a raw body": (expecting("PUT", "/uploads/name", SOME_LENGTH, "Content-Range: bytes 0-9/20"), 400),
    "a malformed digest": (expecting("PUT", "/uploads/name", SOME_LENGTH, "Content-Digest: sha-256=:x:"), 400),
}
WANTED = b'{"filename": "a", "size": 3}'
#: Accepted heads and bodies.
EXPECTED = {
    **{name: (head(name, f"Content-Length: {len(BODY)}", EXPECT), BODY) for name in FORM_HANDOFFS},
    "chunks": (head("stream", raw.CHUNKED, EXPECT), CHUNKS),
    "a raw body": (expecting("PUT", "/uploads/name", f"Content-Length: {len(DATA)}"), DATA),
    "a raw body in chunks": (expecting("PUT", "/uploads/name", raw.CHUNKED), in_chunks(DATA) + LAST_CHUNK),
    "JSON": (expecting("POST", "/uploads/presigned", JSON, f"Content-Length: {len(WANTED)}"), WANTED),
}


@pytest.fixture(scope="module")
def urls(running: stack.Stack, both: dict[str, App]) -> Iterator[dict[str, str]]:
    """Each server's URL."""
    servers: list[Server] = []
    with ending(servers):
        for parser in ("httptools", "h11"):
            command = python("uvicorn", "--fd", "{fd}", "--http", parser, "quart_app.asgi:app")
            listener = listen("uvicorn", "UVICORN_PORT", 0)
            servers.append(Server("uvicorn", command, listener, running.environ, log=None, drain_seconds=2))
        for server in servers:
            stack.wait_until_ready(running, server.url + "/readyz", None)
        addresses = [*(app.url for app in both.values()), *(server.url for server in servers)]
        yield dict(zip(SERVERS, addresses, strict=True))
        bucket = both["flask"].bucket
        bucket.check_and_empty(bucket.stored_keys())


def converse(url: str, sent: bytes) -> list[Answer]:
    """Send bytes and read all answers to the end of the connection."""
    with closing(raw.connect(url)) as connection:
        raw.send(connection, sent)
        return answers_on(connection)


def answers_on(connection: socket.socket) -> list[Answer]:
    """Read all answers to the end of the connection."""
    answers = []
    while (answer := raw.read_answer(connection)).status:
        answers.append(answer)
    return answers


def by_server(urls: dict[str, str], exchange: Callable[[str], T]) -> dict[str, T]:
    """Run an exchange with all servers at once; return the results by server."""
    with ThreadPoolExecutor(len(urls)) as pool:
        return dict(zip(urls, pool.map(exchange, urls.values()), strict=True))


def sizes(answer: Answer) -> list[int]:
    """The sizes of the files in an answer's receipts."""
    return [receipt["size"] for receipt in json.loads(answer.body)["receipts"]]


@pytest.mark.parametrize("sent", TAKEN.values(), ids=TAKEN)
def test_a_request_with_one_meaning_is_taken_by_all(urls: dict[str, str], sent: bytes) -> None:
    """An unambiguous request is accepted by every server, which then answers the next request."""
    for server, answers in by_server(urls, lambda url: converse(url, sent + NEXT)).items():
        assert [answer.status for answer in answers] == [201, 200], server
        assert sizes(answers[0]) == [len(DATA)], server


@pytest.mark.parametrize("sent", LAST.values(), ids=LAST)
def test_a_request_that_ends_its_connection_is_the_last(urls: dict[str, str], sent: bytes) -> None:
    """Bytes after a request that ends its connection are no request, no abort."""
    for server, answers in by_server(urls, lambda url: converse(url, sent + NEXT)).items():
        assert [answer.status for answer in answers] == [201], server
        assert sizes(answers[0]) == [len(DATA)], server


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_a_request_that_a_proxy_may_read_differently_is_refused_by_all(urls: dict[str, str], sent: bytes) -> None:
    """An ambiguous request gets one error from every server, and further bytes are no request.

    Both servers of Quart respond with the same status.
    """
    by_status = {}
    for server, answers in by_server(urls, lambda url: converse(url, sent + NEXT)).items():
        statuses = [answer.status for answer in answers]
        assert len(statuses) == 1, (server, statuses)
        assert 400 <= statuses[0] < 600, (server, statuses)
        assert statuses[0] not in {404, 408, 500, 503}, (server, statuses)
        by_status[server] = statuses[0]
    assert by_status["uvicorn with httptools"] == by_status["uvicorn with h11"] == by_status["hypercorn"]


@pytest.mark.parametrize(("sent", "status"), REFUSED_BY_THE_HEAD.values(), ids=REFUSED_BY_THE_HEAD)
def test_a_request_that_its_head_refuses_is_answered_without_100(
    urls: dict[str, str], sent: bytes, status: int
) -> None:
    """A request refused by its head gets no 100 Continue, and its connection closes."""

    def exchange(url: str) -> bytes:
        with closing(raw.connect(url)) as connection, connection.makefile("rb") as received:
            connection.sendall(sent)
            return received.read()

    for server, received in by_server(urls, exchange).items():
        assert received.startswith(b"HTTP/1.1 %d" % status), (server, received)
        assert received.count(b"HTTP/1.1") == 1, (server, received)


@pytest.mark.parametrize(("sent", "body"), EXPECTED.values(), ids=EXPECTED)
def test_a_client_that_expects_100_gets_it_once_before_its_body_is_read(
    urls: dict[str, str], sent: bytes, body: bytes
) -> None:
    """An accepted request gets 100 Continue once; the connection then serves the next request."""

    def exchange(url: str) -> tuple[bytes, bytes, list[Answer]]:
        with closing(raw.connect(url)) as connection:
            connection.sendall(sent)
            interim = raw.read_head(connection)
            connection.sendall(body + NEXT)
            return interim, connection.recv(12, socket.MSG_PEEK), answers_on(connection)

    for server, (interim, final, answers) in by_server(urls, exchange).items():
        assert (interim[:12], final) == (b"HTTP/1.1 100", b"HTTP/1.1 201"), server
        assert [answer.status for answer in answers] == [201, 200], server
