"""Clients that upload repeatedly, each on its own connection, and record the answers."""

import hashlib
import json
import random
import select
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse

from contract.api import CONTENT_TYPE, form, part
from faults import raw
from patience import KEPT_SECONDS

#: Seconds that a client pauses after a failed request; Retry-After would be longer.
PAUSE_SECONDS = 0.1
#: Bytes of a request sent between two checks for an answer.
SEND_BYTES = 256 * 1024


@dataclass(frozen=True)
class Outcome:
    """The result of a request: `status` is None without an answer.

    `eras` are those it began and ended in.
    """

    request_id: str
    eras: tuple[int, int]
    status: int | None
    problem: str = ""
    key: str = ""
    sha256: str = ""
    size: int = 0
    retry_after: str | None = None


@dataclass
class Load:
    """The clients of one app, and the results of their requests."""

    url: str
    files: Sequence[bytes]
    paths: Sequence[str] = ("/uploads",)
    #: called with each stored upload, by its client
    on_stored: Callable[[Outcome], None] | None = None
    era: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def with_status(self, status: int | None) -> list[Outcome]:
        """The requests with this status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @contextmanager
    def running(self, at_once: int) -> Iterator[None]:
        """Run the clients for the block, and wait for their last requests."""
        self._stop.clear()
        clients = [threading.Thread(target=self._client, args=(seed,)) for seed in range(at_once)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def _client(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - not for secrets
        with closing(Connection(self.url)) as connection:
            while not self._stop.is_set():
                outcome = self._upload(connection, chance.choice(self.paths), chance.choice(self.files))
                self.outcomes.append(outcome)
                if outcome.status != HTTPStatus.CREATED:
                    time.sleep(PAUSE_SECONDS)
                elif self.on_stored is not None:
                    self.on_stored(outcome)

    def _upload(self, connection: "Connection", path: str, data: bytes) -> Outcome:
        request_id, began = f"load-{uuid.uuid4().hex}", self.era
        try:
            answer, text = connection.upload(path, form(part("file", data, "file.bin")), request_id)
        except (OSError, HTTPException) as error:
            connection.close()
            return Outcome(request_id, (began, self.era), None, repr(error))
        eras = (began, self.era)
        if answer.headers.get_content_type() == "text/html":  # a proxy's own error
            return Outcome(request_id, eras, answer.status)
        content = json.loads(text)
        if answer.status != HTTPStatus.CREATED:
            return Outcome(request_id, eras, answer.status, content["code"], retry_after=answer.headers["Retry-After"])
        sha256 = hashlib.sha256(data).hexdigest()
        return Outcome(request_id, eras, answer.status, "", content["receipts"][0]["key"], sha256, len(data))


class Connection:
    """A connection to an app, opened on demand and kept while the app allows."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: socket.socket | None = None
        self._used = 0.0

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def upload(self, path: str, body: bytes, request_id: str) -> tuple[HTTPResponse, bytes]:
        """POST a form.

        Read the answer after the last byte, or as soon as it comes.

        If a refused client sent on, speed would decide: the app reads the rest of a body for some seconds only.

        Raises:
            OSError, HTTPException: there was no answer.
        """
        if time.monotonic() - self._used > KEPT_SECONDS:
            self.close()
        if self._socket is None:
            self._socket = raw.connect(self._url)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        sent_all = self._send(self._socket, head.encode() + body)
        answer = HTTPResponse(self._socket, method="POST")
        answer.begin()
        text = answer.read()
        self._used = time.monotonic()
        if answer.will_close or not sent_all:
            self.close()
        return answer, text

    @staticmethod
    def _send(connection: socket.socket, request: bytes) -> bool:
        """Send a request until its answer begins or the connection breaks.

        Return whether all was sent. With TLS, all is sent: its session tickets look like an answer.
        """
        looks = not isinstance(connection, ssl.SSLSocket)
        for start in range(0, len(request), SEND_BYTES):
            if looks and start and select.select([connection], [], [], 0)[0]:
                return False
            try:
                connection.sendall(request[start : start + SEND_BYTES])
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True


def begin(url: str, body: bytes, sent: int, path: str = "/uploads") -> socket.socket:
    """Open a connection and send an upload's head and some bytes of its body."""
    connection = raw.connect(url)
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body[:sent]
    )
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Read an answer up to the end of its JSON; return its status too."""
    answer = b""
    while not answer.rstrip().endswith(b"}") and (received := connection.recv(65536)):
        answer += received
    return int(answer.split(b" ", 2)[1]), answer
