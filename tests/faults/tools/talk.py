"""Shared by the tests of the proxy: data to send, and plain connections."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import (
    ClientError,
)
from faults.proxy import Proxy
from patience import PATIENCE

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


BUCKET = "proxied"
PART = 5 * 1024**2
DATA = os.urandom(300_000)
SIZE = 64 * 1024**2
TIMEOUT = 0.5


def stored(direct: "S3Client", key: str) -> bytes | None:
    """Remove an object and return its bytes; None if there is none."""
    try:
        data = direct.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except direct.exceptions.NoSuchKey:
        return None
    direct.delete_object(Bucket=BUCKET, Key=key)
    return data


def multipart(s3: "S3Client", key: str, parts: list[bytes]) -> None:
    """Store an object in parts."""
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    try:
        etags = [
            s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=number, Body=part)["ETag"]
            for number, part in enumerate(parts, 1)
        ]
        done = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id, MultipartUpload={"Parts": done})  # type: ignore[typeddict-item]
    except ClientError:
        with suppress(s3.exceptions.NoSuchUpload):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)
        raise


@contextmanager
def canned(answer: bytes, end: bytes = b"\r\n\r\n") -> Iterator[tuple[str, list[bytes]]]:
    """A store that answers every request with the same bytes."""
    received: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    request = b""
                    while not request.endswith(end) and (more := connection.recv(65536)):
                        request += more
                    received.append(request)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "http://{}:{}".format(*listener.getsockname()), received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def connect(proxy: Proxy) -> socket.socket:
    """Open a plain connection to the proxy."""
    url = urlsplit(proxy.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 80), timeout=PATIENCE)


def receive(connection: socket.socket, length: int) -> bytes:
    """Read this many bytes, or fewer if the connection ends."""
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received


def send_until_blocked(connection: socket.socket) -> int:
    """Begin a put of `SIZE` bytes; return the number of bytes sent until it blocks."""
    connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % SIZE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    connection.settimeout(TIMEOUT)
    sent = 0
    with suppress(TimeoutError):
        while sent < SIZE:
            sent += connection.send(bytes(65536))
    return sent
