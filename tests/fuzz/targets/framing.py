"""Connections: one canonical form for every split, that h11 and httptools read as h11 reads the client's own bytes."""

from collections.abc import Iterable
from typing import TypeAlias

import h11
import httptools
from fuzz.inputs import expanded, fields, pieces

from filehandoff.framing import FramingError, RequestReader, is_decided, parse_head, take_head

WORDS = (
    b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"GET http://a/b?c HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, Upgrade, HTTP2-Settings\r\n",
    b"Expect: 100-continue\r\n",
    b"X_A: b\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b'5;a="b"\r\nhello\r\n',
    b" HTTP/1.0\r\n",
    b"Content-Type: text/plain\r\n",
    b"\xff\xffa",
    b"\xff\x2d0",
    b"1\r\na\r\n" * 70,
    b"Trailer: a\r\n",
)  # fmt: skip

#: Method, target, headers with a body's length, and body.
Request: TypeAlias = tuple[bytes, bytes, bytes]


def check(data: bytes) -> None:
    """Read a connection whole and in pieces, and once more in its canonical form."""
    sizes, sent = fields(data, 2)
    sent = expanded(sent)
    canonical, error = read([sent])
    joined, other = read(pieces(sent, sizes))
    ours = requests_in(canonical)
    assert joined == canonical or requests_in(joined) == ours or (error and cut_alike(requests_in(joined), ours)), (
        "another split causes other requests"
    )
    assert error == other, "another split decides whether it is an error"
    assert not error or is_decided(sent) or canonical, "an error needs no decision"
    again, error = read([canonical])
    assert not error, "the canonical form is rejected"
    assert again == canonical or requests_in(again) == ours, "the canonical form has another canonical form"
    check_head(sent)
    check_with_h11(sent, ours)
    known = by_httptools(canonical)
    assert known is None or known == ours, "httptools reads the canonical form otherwise"


def cut_alike(some: list[Request], others: list[Request]) -> bool:
    """Return whether two lists differ only in how much of the last body came before an error."""
    (*some, a), (*others, b) = some, others
    return some == others and a[:2] == b[:2] and (a[2].startswith(b[2]) or b[2].startswith(a[2]))


def check_head(sent: bytes) -> None:
    """Check that a canonical head is its own canonical form."""
    try:
        taken = take_head(sent)
    except FramingError:
        return
    if taken:
        head, rest = taken
        assert parse_head(head.data) == head, "a canonical head has another canonical form"
        assert sent.endswith(rest), "the rest is not that of the input"


def read(split: Iterable[bytes]) -> tuple[bytes, bool]:
    """Return the canonical bytes of a connection, and whether it has an error."""
    reader, out = RequestReader(), b""
    try:
        for piece in split:
            reader.receive(piece)
            while reader.pending and (step := reader.step()):
                out += step
    except FramingError as error:
        reader.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not reader.step(), "a request follows an error"
        assert 400 <= error.status < 600, "the error has no status"
        return out, True
    return out, False


def requests_in(canonical: bytes) -> list[Request]:
    """Return all requests, also the last one that is cut short; how a body is split into chunks means nothing."""
    requests, error = by_h11(canonical)
    assert error is None, f"a server rejects the canonical form: {error}"
    return requests


def check_with_h11(sent: bytes, ours: list[Request]) -> None:
    """Check that h11 reads each request that it accepts alike, in both forms."""
    theirs = by_h11(sent)[0]
    for our, their in zip(ours, theirs, strict=False):
        if not our[1].startswith(b"/") or their[1].startswith(b"/"):
            assert our[:2] == their[:2], "h11 reads another method or target"
        shorter, longer = sorted((our[2], their[2]), key=len)
        assert longer.startswith(shorter), "h11 reads another body"
    whole = min(len(ours), len(theirs)) - 1  # the last request of either may be cut short
    assert all(our[2] == their[2] for our, their in zip(ours[:whole], theirs, strict=False)), (
        "h11 reads another end of the body"
    )


def by_h11(data: bytes) -> tuple[list[Request], str | None]:
    """Return the requests on a connection by h11, the last one maybe cut short, and its error."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    requests: list[Request] = []
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            match event:
                case h11.Request():
                    requests.append((event.method, event.target, b""))
                case h11.Data():
                    requests[-1] = (*requests[-1][:2], requests[-1][2] + bytes(event.data))
                case h11.EndOfMessage():
                    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is h11.MUST_CLOSE:
                        return requests, None
                    connection.start_next_cycle()
                case _:
                    return requests, None
    except h11.RemoteProtocolError as error:
        return requests, str(error)


class Reading:
    """The requests of a connection, by the callbacks of httptools."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._target = b""
        self._parser = httptools.HttpRequestParser(self)

    def receive(self, data: bytes) -> list[Request]:
        """Read all bytes of a connection."""
        self._parser.feed_data(data)
        return self.requests

    def on_message_begin(self) -> None:
        """Begin a request, whose target may come in pieces."""
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """Take the next bytes of the target."""
        self._target += url

    def on_headers_complete(self) -> None:
        """Take the method."""
        self.requests.append((self._parser.get_method(), self._target, b""))

    def on_body(self, body: bytes) -> None:
        """Take the next bytes of the body."""
        self.requests[-1] = (*self.requests[-1][:2], self.requests[-1][2] + body)


def by_httptools(canonical: bytes) -> list[Request] | None:
    """Return the requests on a connection by httptools; None for a method that it does not know."""
    try:
        return Reading().receive(canonical)
    except httptools.HttpParserInvalidMethodError:
        return None
