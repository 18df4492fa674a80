"""A client of the tus protocol that sends exactly the headers of a test, and checks nothing by itself."""

import base64
import hashlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from contract.api import TLS, Api
from contract.bucket import Bucket
from patience import PATIENCE, wait_until

FILES = "/files"
VERSION = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
#: Statuses of an upload that is gone: the protocol allows both.
GONE = (404, 410)


def metadata(**values: str | bytes) -> dict[str, str]:
    """The header Upload-Metadata of these values."""
    encoded = {name: base64.b64encode(one.encode() if isinstance(one, str) else one) for name, one in values.items()}
    return {"Upload-Metadata": ",".join(f"{name} {value.decode()}" for name, value in encoded.items())}


def checksum(algorithm: str, digest: bytes) -> dict[str, str]:
    """The header Upload-Checksum."""
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


def offset_of(answer: httpx.Response) -> int:
    """The offset of an answer, which must be a success."""
    assert answer.is_success, answer.text[:300]
    return int(answer.headers["Upload-Offset"])


class Upload:
    """One upload by its address."""

    def __init__(self, tus: "Tus", url: str) -> None:
        self._tus = tus
        self.url = url

    def head(self, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Ask for the offset."""
        return self._tus.send("HEAD", self.url, headers)

    @property
    def offset(self) -> int:
        """The offset that HEAD reports."""
        return offset_of(self.head())

    def patch(
        self, offset: int | str, content: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send bytes to an offset."""
        given = {"Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE, **(headers or {})}
        return self._tus.send("PATCH", self.url, given, content)

    def send_rest(self, data: bytes) -> httpx.Response:
        """Send the missing bytes of a file, as a client that resumes."""
        offset = self.offset
        return self.patch(offset, data[offset:])

    def terminate(self) -> httpx.Response:
        """Terminate the upload."""
        return self._tus.send("DELETE", self.url)

    def receipt(self) -> dict[str, Any]:
        """The receipt at the upload's address."""
        answer = self._tus.app.send("GET", self.url)
        assert answer.status_code == httpx.codes.OK, answer.text[:300]
        (receipt,) = answer.json()["receipts"]
        return dict(receipt)

    @contextmanager
    def begin(self, offset: int, length: int, beginning: bytes, *headers: str) -> Iterator[socket.socket]:
        """A connection with the head of a PATCH of this length and the first bytes of its body sent."""
        url = urlsplit(self._tus.app.url)
        lines = [
            *(f"PATCH {urlsplit(self.url).path} HTTP/1.1", f"Host: {url.netloc}", f"Tus-Resumable: {VERSION}"),
            *(f"Content-Type: {OFFSET_TYPE}", f"Upload-Offset: {offset}", f"Content-Length: {length}", *headers),
        ]
        with ExitStack() as exits:
            address = (url.hostname or "", url.port or 80)
            connection = exits.enter_context(socket.create_connection(address, timeout=PATIENCE))
            if url.scheme == "https":
                connection = exits.enter_context(TLS.wrap_socket(connection, server_hostname=url.hostname))
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + beginning)
            yield connection

    def wait_for_offset(self, offset: int) -> None:
        """Wait until HEAD reports this offset."""
        wait_until(lambda: self.offset == offset, lambda: f"the offset is {self.offset}, not {offset}")

    def wait_until_unlocked(self) -> None:
        """Wait until a PATCH of no bytes is accepted, so that no earlier request has the upload."""
        wait_until(lambda: self.patch(self.offset).is_success, lambda: self.patch(self.offset).text)


class Tus:
    """The tus routes of one app."""

    def __init__(self, app: Api, bucket: Bucket) -> None:
        self.app = app
        self.bucket = bucket
        self._uploads: list[Upload] = []

    def send(
        self,
        method: str,
        url: str = FILES,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] = b"",
        version: str | None = VERSION,
    ) -> httpx.Response:
        """Send a request of the protocol; record the stored object that its answer names."""
        named = {} if version is None else {"Tus-Resumable": version}
        answer = self.app.send(method, url, headers={**named, **(headers or {})}, content=content)
        place = answer.headers.get("Content-Location", "")
        if place.startswith("/objects/"):
            self.app.stored.add(place.removeprefix("/objects/"))
        if answer.status_code == httpx.codes.CREATED:
            self._uploads.append(Upload(self, self.address(answer)))
        return answer

    def address(self, created: httpx.Response) -> str:
        """The address of a created upload, which may be relative."""
        return urljoin(self.app.url + FILES, created.headers["Location"])

    def create(
        self,
        length: int | str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Upload:
        """Create an upload, with its first bytes if given."""
        given = dict(headers or {})
        if length is not None:
            given["Upload-Length"] = str(length)
        if content is not None:
            given["Content-Type"] = OFFSET_TYPE
        answer = self.send("POST", FILES, given, b"" if content is None else content)
        assert answer.status_code == httpx.codes.CREATED, answer.text[:300]
        return self._uploads[-1]

    def partial(self, data: bytes, length: int | None = None) -> Upload:
        """Create a partial upload with these bytes; it is complete unless its length is larger."""
        size = len(data) if length is None else length
        return self.create(size, {"Upload-Concat": "partial"}, content=data)

    def check_stored(self, upload: Upload, data: bytes) -> dict[str, Any]:
        """Assert that an upload is complete and its object has these bytes; return the receipt."""
        answer = upload.head()
        assert offset_of(answer) == int(answer.headers["Upload-Length"]) == len(data)
        receipt = upload.receipt()
        assert answer.headers["Content-Location"] == f"/objects/{receipt['key']}"
        assert receipt["sha256"] == hashlib.sha256(data).hexdigest()
        self.bucket.check_receipt(receipt, data)
        return receipt

    def state(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Everything in the store: the objects' sizes, and the unfinished multipart uploads."""
        return self.bucket.sizes(), sorted(self.bucket.unfinished())

    def end(self) -> None:
        """Terminate all uploads, so that the store must be empty but for the files."""
        for upload in self._uploads:
            upload.terminate()
