"""A client of bare sockets, which sends what no HTTP library would, and reads the answers like one."""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPResponse
from urllib.parse import urlsplit

from contract.api import CONTENT_TYPE
from patience import PATIENCE

CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Answer:
    """What came: a status, 0 where the connection ended without one, and the body; `code` is a problem's."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of a problem of ours; None of what the server answered by itself, and of a success."""
        if self.headers.get("content-type") != "application/problem+json":
            return None
        return str(json.loads(self.body)["code"])


def connect(url: str) -> socket.socket:
    """A connection to an app."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), parts.port or 80), timeout=PATIENCE)


def head(handoff: str, *headers: str, content_type: str = CONTENT_TYPE) -> bytes:
    """The head of an upload, with these headers beside those that each has."""
    lines = [f"POST /uploads/{handoff} HTTP/1.1", "Host: here", f"Content-Type: {content_type}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(handoff: str, body: bytes, *headers: str) -> bytes:
    """An upload of this form, as it should be but for the headers."""
    return head(handoff, f"Content-Length: {len(body)}", *headers) + body


def in_chunks(body: bytes, size: int = 64 * 1024, extension: str = "") -> bytes:
    """A body in chunks of a size, without the last, empty one."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces)


LAST_CHUNK = b"0\r\n\r\n"


def read_head(connection: socket.socket) -> bytes:
    """The next head on a connection, up to its blank line; nothing is read beyond it."""
    received = b""
    while not received.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
        received += byte
    return received


def read_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection; interim ones are passed over.

    Nothing is read beyond it: whoever pipelines can read the next one.
    """
    answer = HTTPResponse(connection)
    answer.fp.close()
    answer.fp = connection.makefile("rb", buffering=0)  # type: ignore[assignment] # reads line by line, byte by byte
    try:
        answer.begin()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    except (BadStatusLine, ConnectionError):
        return Answer(0, {}, b"")
    finally:
        answer.close()


def send(connection: socket.socket, data: bytes) -> None:
    """Send as much as the app takes: it may have answered and closed."""
    with suppress(BrokenPipeError, ConnectionResetError):  # its answer may be there all the same
        connection.sendall(data)


def sent_in(framing: str, handoff: str, body: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The head of an upload, and what makes of a piece of its body what is sent."""
    if framing == "declared":
        return head(handoff, f"Content-Length: {len(body)}"), lambda piece: piece
    return head(handoff, CHUNKED), in_chunks


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection on which it sends nothing."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.settimeout(PATIENCE)
