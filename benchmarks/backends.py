"""Stores behind the measured apps, and access to their objects.

A store is the null store, one of `demo.stores`, or any S3 endpoint.
"""

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from botocore.exceptions import ClientError

from benchmarks import null_store
from benchmarks.null_s3 import KEPT
from benchmarks.plans import STORES, Scenario
from demo import stores
from demo.processes import Server, ending
from demo.stack import Stack, create_bucket
from filehandoff.settings import Settings
from filehandoff.typing_backports import override

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_READ_BYTES = 2**20
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - our files there have random names


class Backend(ABC):
    """A running store: its app environment, and its process if we started it."""

    def __init__(self, environ: Mapping[str, str], server: Server | None) -> None:
        self.environ = environ
        self.server = server

    @abstractmethod
    def keys(self) -> dict[str, tuple[str, int]]:
        """Map each file name (the key's last segment) to the object's key and size."""

    @abstractmethod
    def sha256(self, key: str) -> str:
        """Read an object back and return its SHA-256 in hex."""

    @abstractmethod
    def delete(self, keys: list[str]) -> None:
        """Delete objects."""

    @abstractmethod
    def unfinished(self) -> int:
        """Count the multipart uploads that were neither completed nor aborted."""

    def can_read(self, _name: str) -> bool:
        """Whether an object with this file name can be read back."""
        return True


class NullBackend(Backend):
    """The null store: keeps sizes, and bytes only of objects whose name begins with `KEPT`."""

    def __init__(self, store: null_store.NullStore) -> None:
        super().__init__(store.environ, store.server)
        self._store = store

    @override
    def keys(self) -> dict[str, tuple[str, int]]:
        return {key.rpartition("/")[2]: (key, size) for key, size in self._store.stats().objects.items()}

    @override
    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._ask("GET", key) as answer:
            while data := answer.read(_READ_BYTES):
                digest.update(data)
        return digest.hexdigest()

    @override
    def delete(self, keys: list[str]) -> None:
        for key in keys:
            with self._ask("DELETE", key) as answer:
                answer.read()

    @override
    def unfinished(self) -> int:
        return len(self._store.stats().unfinished)

    @override
    def can_read(self, name: str) -> bool:
        return name.startswith(KEPT)

    @contextmanager
    def _ask(self, method: str, key: str) -> "Iterator[IO[bytes]]":
        connection = self._store.connect()
        try:
            connection.request(method, f"/{self._store.bucket}/{quote(key)}")
            yield connection.getresponse()
        finally:
            connection.close()


class S3Backend(Backend):
    """A real S3 store, or a compatible one."""

    def __init__(self, store: stores.Store, bucket: str) -> None:
        endpoint = {"UPLOAD_S3_ENDPOINT_URL": store.endpoint_url, "UPLOAD_BUCKET": bucket}
        super().__init__({**store.environ, **endpoint}, store.server)
        self._bucket = bucket
        self._client: S3Client = store.client()

    @override
    def keys(self) -> dict[str, tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        listed = (entry for page in pages for entry in page.get("Contents", []))
        return {entry["Key"].rpartition("/")[2]: (entry["Key"], entry["Size"]) for entry in listed}

    @override
    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for data in self._client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(_READ_BYTES):
            digest.update(data)
        return digest.hexdigest()

    @override
    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self._client.delete_object(Bucket=self._bucket, Key=key)

    @override
    def unfinished(self) -> int:
        try:
            return len(self._client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", []))
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchUpload":  # rclone reports "none" with this error
                return 0
            raise


@contextmanager
def running(choice: str, scenario: Scenario, log: IO[bytes]) -> Iterator[Backend]:
    """Run a store for the block, or use the one at a URL.

    Raises:
        StartError: the store cannot start; a one-line message.
    """
    if choice == "null":
        pace, latency = scenario.store_bytes_per_second, scenario.store_latency_ms
        with null_store.running(bytes_per_second=pace, latency_ms=latency, tls=scenario.tls) as store:
            yield NullBackend(store)
        return
    environ = dict(os.environ)
    settings = Settings.from_env(environ)
    with _on_memory_disk():
        store_process = stores.start(choice, environ, log)
    servers = [] if store_process.server is None else [store_process.server]
    with ending(servers):
        if servers:
            create_bucket(Stack(store_process, settings, environ, servers), log)
        yield S3Backend(store_process, settings.bucket)


@contextmanager
def _on_memory_disk() -> Iterator[None]:
    """Make the store keep its files in memory: this benchmark does not measure disks."""
    before, tempfile.tempdir = tempfile.tempdir, str(_MEMORY_DISK) if _MEMORY_DISK.is_dir() else tempfile.tempdir
    try:
        yield
    finally:
        tempfile.tempdir = before


def check(choice: str) -> None:
    """Check that the store exists.

    Raises:
        ValueError: it does not; a one-line message with the choices.
    """
    if choice not in STORES and not choice.startswith(("http://", "https://")):
        raise ValueError(f"unknown store '{choice}'; known: {', '.join(STORES)}, and http:// or https:// URLs")
