"""A client on plain sockets, for requests that no HTTP library would send."""

import json
import os
import random
import socket
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPResponse
from urllib.parse import urlsplit

from contract.api import CONTENT_TYPE, TLS, form, part
from patience import PATIENCE

from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

CHUNKED = "Transfer-Encoding: chunked"
#: A form with a file of three parts of the smallest size.
LARGE_FORM = form(part("note", b"before"), part("file", os.urandom(12 * MIB), "large.bin"), part("note", b"after"))


@dataclass(frozen=True)
class Answer:
    """An answer: its status, 0 if there was none, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of one of our problems.

        It is None for a server's own error and for a success.
        """
        if self.headers.get("content-type") != "application/problem+json":
            return None
        return str(json.loads(self.body)["code"])


def connect(url: str) -> socket.socket:
    """Open a connection to an app, or with TLS to its proxy."""
    parts = urlsplit(url)
    connection = socket.create_connection((str(parts.hostname), parts.port or 80), timeout=PATIENCE)
    return TLS.wrap_socket(connection, server_hostname=parts.hostname) if parts.scheme == "https" else connection


def head(handoff: str, *headers: str, content_type: str = CONTENT_TYPE) -> bytes:
    """The head of an upload, with additional headers."""
    lines = [f"POST /uploads/{handoff} HTTP/1.1", "Host: here", f"Content-Type: {content_type}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(handoff: str, body: bytes, *headers: str) -> bytes:
    """A valid upload of this form, but for the headers."""
    return head(handoff, f"Content-Length: {len(body)}", *headers) + body


def in_chunks(body: bytes, size: int = 64 * 1024, extension: str = "") -> bytes:
    """A body in chunks of a size, without the last, empty chunk."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces)


LAST_CHUNK = b"0\r\n\r\n"


def read_head(connection: socket.socket) -> bytes:
    """Read the next head up to its blank line, and nothing beyond."""
    received = b""
    while not received.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
        received += byte
    return received


def read_answer(connection: socket.socket) -> Answer:
    """Read the next final answer; interim ones are skipped.

    Nothing is read beyond it, so that a pipelining client can read the next one.
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
    """Send as much as the app accepts; it may have answered and closed."""
    with suppress(BrokenPipeError, ConnectionResetError):  # there may still be an answer
        connection.sendall(data)


def reset_on_close(connection: socket.socket) -> None:
    """Let the close of a connection reset it, as the end of a killed client does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def kill_an_upload(url: str, chance: random.Random) -> None:
    """Send an upload up to a random byte, then reset or close the connection."""
    begun = head(chance.choice(FORM_HANDOFFS), f"Content-Length: {len(LARGE_FORM)}")
    with closing(connect(url)) as connection:
        send(connection, begun + LARGE_FORM[: chance.randrange(len(LARGE_FORM))])
        if chance.random() < 0.5:
            reset_on_close(connection)


def sent_in(framing: str, handoff: str, body: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The head of an upload, and the function that frames pieces of its body."""
    if framing == "declared":
        return head(handoff, f"Content-Length: {len(body)}"), lambda piece: piece
    return head(handoff, CHUNKED), in_chunks


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed an idle connection."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.settimeout(PATIENCE)
