"""A client's part of an upload: one request, or the steps of a presigned upload."""

import json
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.connection import Connection, Loop, Pool, Request
from filehandoff.settings import MIB

#: The beginning of each form's boundary, which no other form has. A boundary is as long as a browser's: the time to
#: search a body depends on its length.
BOUNDARY = "----WebKitFormBoundary2f6d1c"
FIELD = "file"
OCTETS = "application/octet-stream"
TUS_TYPE = "application/offset+octet-stream"
#: Bytes of a chunk that a client of tus sends by one request.
TUS_CHUNK_BYTES = 8 * MIB
_OK, _CREATED, _NO_CONTENT = 200, 201, 204
#: Statuses of the app and of S3 in the steps before the last one.
_GOOD = {_OK, _CREATED, _NO_CONTENT}


@dataclass
class SentFile:
    """A file sent by one request.

    Times in ns of CLOCK_MONOTONIC, `intended` is the scheduled start. `success` is the status of a good last answer.
    """

    group: str
    name: str
    size: int
    digest: str
    intended: int
    began: int = 0
    ended: int = 0
    status: int = 0
    error: str | None = None
    answer: bytes = b""
    success: int = _CREATED

    def check_answer(self, *, receipts: bool) -> None:
        """Set `error` unless the answer is a well-formed success whose receipt matches the file."""
        if self.error is not None:
            return
        try:
            self.status, body = read_answer(self.answer)
            if self.status != self.success:
                self.error = f"answered {self.status}: {body[:200].decode(errors='replace')}"
            elif receipts:
                (receipt,) = json.loads(body)["receipts"]
                answer = {"filename": receipt["filename"], "size": receipt["size"], "sha256": receipt["sha256"]}
                if answer != {"filename": self.name, "size": self.size, "sha256": self.digest}:
                    self.error = f"the receipt does not match the file: {answer}"
        except (HTTPException, ValueError, KeyError, TypeError) as error:
            self.error = f"malformed answer: {error!r}"
        finally:
            self.answer = b""

    def to_line(self, origin: int) -> dict[str, Any]:
        """The record of this file, with times in microseconds since the job began."""
        return {
            "group": self.group,
            "name": self.name,
            "size": self.size,
            "intended_us": (self.intended - origin) // 1000,
            "began_us": (self.began - origin) // 1000,
            "ended_us": (self.ended - origin) // 1000,
            "status": self.status,
            "error": self.error,
        }


class _Socket:
    """Received bytes in the shape of a socket, for http.client to parse."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


def read_answer(answer: bytes) -> tuple[int, bytes]:
    """Parse an answer into status and body.

    Raises:
        HTTPException: it is malformed or cut short.
    """
    step = Step.parse(answer)
    return step.status, step.body


@dataclass(frozen=True)
class Step:
    """The answer to one request of several; the headers' names are lowercase."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def parse(cls, answer: bytes) -> Self:
        """Parse an answer.

        Raises:
            HTTPException: it is malformed or cut short.
        """
        with HTTPResponse(_Socket(answer)) as response:  # type: ignore[arg-type] # HTTPResponse calls only makefile
            response.begin()
            return cls(
                response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
            )

    @property
    def values(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is none."""
        values: dict[str, Any] = json.loads(self.body) if self.body.startswith(b"{") else {}
        return values


@dataclass(frozen=True)
class Destination:
    """Where files go.

    Args:
        port: a port on loopback.
        path: may contain the file's `{name}`.
        upload_kind: `form`, `bare` (a PUT), `presigned` or `tus`.
    """

    port: int
    path: str
    upload_kind: str


class Client:
    """Sends files one after another, one request each; calls `on_end` after each answer or failure."""

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        destination: Destination,
        pace: int | None,
        on_end: Callable[["Client", SentFile], None],
    ) -> None:
        self._pool = pool
        self._destination = destination
        self._on_end = on_end
        self._sent: SentFile | None = None
        self.connections = [Connection(loop, destination.port, pace, self._answered)]

    def begin(self, sent: SentFile, at: int) -> None:
        """Send a file whose bytes begin at offset `at` of the pool."""
        self._sent = sent
        sent.began = time.monotonic_ns()
        before, after = _frame(self._destination, sent)
        self.connections[0].begin(Request(self._pool, before, at, sent.size, after))

    def _answered(self, answer: bytes, error: str | None) -> None:
        sent, self._sent = self._sent, None
        assert sent is not None
        sent.ended = time.monotonic_ns()
        sent.answer = answer
        if answer and error:
            sent.check_answer(receipts=False)  # a bad status explains more than the broken connection
        sent.error = sent.error or error
        self._on_end(self, sent)


class SteppingClient(Client):
    """Sends a file by several requests; `_next` takes the answer to each but the last one."""

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        destination: Destination,
        pace: int | None,
        on_end: Callable[["Client", SentFile], None],
    ) -> None:
        super().__init__(loop, pool, destination, pace, on_end)
        self._loop, self._pace = loop, pace
        self._next: Callable[[Step], None] | None = None
        self._at = 0

    def _answered(self, answer: bytes, error: str | None) -> None:
        step, self._next = self._next, None
        if step is None or error:
            super()._answered(answer, error)
            return
        try:
            parsed = Step.parse(answer)
            if parsed.status not in _GOOD:
                super()._answered(b"", f"answered {parsed.status}: {parsed.body[:200].decode(errors='replace')}")
                return
            step(parsed)
        except (HTTPException, ValueError, KeyError, TypeError) as wrong:
            super()._answered(b"", f"malformed answer: {wrong!r}")


class PresignedClient(SteppingClient):
    """Sends a file to S3 by URLs from the app, which then completes the upload."""

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        destination: Destination,
        pace: int | None,
        on_end: Callable[["Client", SentFile], None],
    ) -> None:
        super().__init__(loop, pool, destination, pace, on_end)
        self._parts: list[dict[str, Any]] = []
        self._complete = ""
        self._following: str | None = None

    def begin(self, sent: SentFile, at: int) -> None:
        """Request the URLs for a file whose bytes begin at offset `at` of the pool."""
        self._sent, self._at = sent, at
        sent.began = time.monotonic_ns()
        asked = {"filename": sent.name, "size": sent.size, "sha256": sent.digest, "content_type": OCTETS}
        body = json.dumps(asked).encode()
        self._next = self._given
        self.connections[0].begin(Request(self._pool, self._post(self._destination.path, len(body)), after=body))

    def _post(self, path: str, length: int) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self._destination.port}", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode()

    def _given(self, step: Step) -> None:
        answer = step.values
        self._parts = answer.get("parts", [answer])
        self._complete = answer["complete"]
        self._following = answer.get("next")
        self._send_part()

    def _send_part(self) -> None:
        part = self._parts.pop(0)
        url = urlsplit(part["url"])
        if len(self.connections) == 1:
            self.connections.append(Connection(self._loop, url.port or 80, self._pace, self._answered))
        headers = part.get("headers", {}) | {"Host": url.netloc, "Content-Length": str(part["size"])}
        lines = [f"PUT {url.path}?{url.query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._next = self._stored
        before = "\r\n".join([*lines, "", ""]).encode()
        self.connections[1].begin(Request(self._pool, before, self._at, part["size"]))
        self._at += part["size"]

    def _stored(self, _step: Step) -> None:
        if self._parts:
            self._send_part()
        elif self._following:
            self._next = self._given
            self.connections[0].begin(Request(self._pool, self._post(self._following, 0).replace(b"POST", b"GET", 1)))
        else:
            self._next = None
            self.connections[0].begin(Request(self._pool, self._post(self._complete, 0)))


class TusClient(SteppingClient):
    """Sends a file by tus in chunks of `TUS_CHUNK_BYTES`, one after another on one connection.

    If the answer to the last chunk names the stored file, the client asks for its receipt too.
    """

    _location = ""
    _offset = 0

    def begin(self, sent: SentFile, at: int) -> None:
        """Create the upload of a file whose bytes begin at offset `at` of the pool."""
        self._sent, self._at, self._offset = sent, at, 0
        sent.began = time.monotonic_ns()
        name = b64encode(sent.name.encode()).decode()
        self._next = self._created
        metadata = {"Upload-Length": str(sent.size), "Upload-Metadata": f"filename {name}", "Content-Length": "0"}
        self.connections[0].begin(Request(self._pool, self._head("POST", self._destination.path, metadata)))

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        host = f"127.0.0.1:{self._destination.port}"
        lines = [f"{name}: {value}" for name, value in {"Host": host, "Tus-Resumable": "1.0.0", **headers}.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    def _created(self, step: Step) -> None:
        self._location = urlsplit(step.headers["location"]).path
        self._send_chunk()

    def _send_chunk(self) -> None:
        assert self._sent is not None
        size = min(TUS_CHUNK_BYTES, self._sent.size - self._offset)
        headers = {"Upload-Offset": str(self._offset), "Content-Length": str(size), "Content-Type": TUS_TYPE}
        self._next = self._received
        head = self._head("PATCH", self._location, headers)
        self.connections[0].begin(Request(self._pool, head, self._at + self._offset, size))

    def _received(self, step: Step) -> None:
        assert self._sent is not None
        self._offset = int(step.headers["upload-offset"])
        if self._offset < self._sent.size:
            self._send_chunk()
            return
        is_named = "content-location" in step.headers
        self._sent.success = _OK
        method = "GET" if is_named else "HEAD"
        self.connections[0].begin(Request(self._pool, self._head(method, self._location, {})))


def _frame(destination: Destination, sent: SentFile) -> tuple[bytes, bytes]:
    """The bytes before and after the file in a request."""
    before = after = b""
    content_type, method = OCTETS, "PUT"
    if destination.upload_kind == "form":
        method = "POST"
        boundary = f"{BOUNDARY}{Path(sent.name).stem}"
        content_type = f"multipart/form-data; boundary={boundary}"
        disposition = f'form-data; name="{FIELD}"; filename="{sent.name}"'
        lines = [f"--{boundary}", f"Content-Disposition: {disposition}", f"Content-Type: {OCTETS}"]
        before = "\r\n".join([*lines, "", ""]).encode()
        after = f"\r\n--{boundary}--\r\n".encode()
    lines = [
        f"{method} {destination.path.format(name=sent.name)} HTTP/1.1",
        f"Host: 127.0.0.1:{destination.port}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(before) + sent.size + len(after)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + before, after
