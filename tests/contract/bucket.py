"""The bucket, read directly; an app may leave only the objects of its answers."""

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from contract.store_differences import S3, Behaviour

from demo.stack import Stack
from filehandoff.keys import decode_name
from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA
from filehandoff.s3.upload_state import FOLDER
from filehandoff.typing_backports import override

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: Seconds after its answer in which an app may clean up and close its files; only a fault takes so long.
SETTLE_SECONDS = 60.0
#: Most items of a kind that a failure names.
NAMED = 3

md5 = partial(hashlib.md5, usedforsecurity=False)


class Bucket:
    """Reads stored objects back, and checks that nothing else is stored."""

    def __init__(
        self,
        client: "S3Client",
        name: str,
        stack: Stack | None,
        behaviour: Behaviour = S3,
        *,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._client = client
        self.name = name
        self._stack = stack
        self._behaviour = behaviour
        self._settle_seconds = settle_seconds
        self._open_at_start = self.open_files()  # gunicorn's heartbeat file is one

    def stored_keys(self) -> set[str]:
        """The keys of all objects."""
        return set(self.sizes())

    def files(self) -> set[str]:
        """The keys of the objects that are files, not states of resumable uploads."""
        return {key for key in self.stored_keys() if "/.tus/" not in f"/{key}"}

    def delete_states(self) -> None:
        """Delete the states of resumable uploads, which the app keeps for a day and tidies up after its answers."""
        for key in self.stored_keys() - self.files():
            self.delete(key)

    def sizes(self) -> dict[str, int]:
        """The size of each object by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def unfinished(self) -> list[tuple[str, str]]:
        """The keys and ids of multipart uploads that were neither completed nor aborted."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        try:
            return [(entry["Key"], entry["UploadId"]) for page in pages for entry in page.get("Uploads", [])]
        except self._client.exceptions.NoSuchUpload:
            if self._behaviour.lists_uploads_before_the_first:
                raise
            return []

    def part_sizes(self) -> list[int]:
        """The sizes of all parts of unfinished multipart uploads."""
        listings = [self._client.list_parts(Bucket=self.name, Key=key, UploadId=one) for key, one in self.unfinished()]
        return [part["Size"] for listing in listings for part in listing.get("Parts", [])]

    def check_receipt(self, receipt: dict[str, Any], data: bytes) -> None:
        """Assert that the receipt's object has these bytes and the receipt's properties."""
        stored = self._client.get_object(Bucket=self.name, Key=receipt["key"])
        body = stored["Body"].read()
        assert len(body) == receipt["size"] == len(data)
        assert hashlib.sha256(body).hexdigest() == receipt["sha256"] == hashlib.sha256(data).hexdigest()
        assert stored["ContentType"] == receipt["content_type"]
        kept = receipt["parts"] == 1 or self._behaviour.keeps_multipart_etags
        assert stored["ETag"].strip('"') == (receipt["etag"] if kept else md5(body).hexdigest())
        metadata = {name.lower(): value for name, value in stored["Metadata"].items()}
        assert metadata[REQUEST_ID_METADATA] == receipt["request_id"]
        assert decode_name(metadata[FILENAME_METADATA]) == (receipt["filename"] or None)

    def request_id(self, key: str) -> str:
        """The request id in an object's metadata."""
        metadata = self._client.head_object(Bucket=self.name, Key=key)["Metadata"]
        return {name.lower(): value for name, value in metadata.items()}[REQUEST_ID_METADATA]

    def filename(self, key: str) -> str | None:
        """The file's own name in an object's metadata."""
        metadata = self._client.head_object(Bucket=self.name, Key=key)["Metadata"]
        return decode_name({name.lower(): value for name, value in metadata.items()}[FILENAME_METADATA])

    def sha256(self, key: str) -> str:
        """The digest of an object's bytes."""
        return hashlib.sha256(self._client.get_object(Bucket=self.name, Key=key)["Body"].read()).hexdigest()

    def put(self, key: str, data: bytes) -> None:
        """Store an object that no app knows."""
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self.name, Key=key)

    def abort(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload."""
        self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)

    def check_and_empty(self, named: set[str]) -> None:
        """Assert that only the named objects exist, no unfinished upload and no open file.

        Then empty it.
        """
        deadline = time.monotonic() + self._settle_seconds
        while (left := self._seen(named)).is_wrong and time.monotonic() < deadline:
            time.sleep(0.05)
        for key in left.stored:
            self.delete(key)
        for key, upload_id in left.unfinished:
            self.abort(key, upload_id)
        self._open_at_start += left.open_files  # counted for this test only, not for later ones
        if left.is_wrong:
            pytest.fail(f"After the test there are {left}.", pytrace=False)

    def _seen(self, named: set[str]) -> "Left":
        return Left(named, self.stored_keys(), self.unfinished(), self.new_open_files())

    def new_open_files(self) -> list[str]:
        """The files opened since the suite began."""
        return [path for path in self.open_files() if path not in self._open_at_start]

    def open_files(self) -> list[str]:
        """The temporary files that the apps started here hold open, named or unnamed."""
        if self._stack is None:
            return []
        temp_dir = self._stack.environ["TMPDIR"]
        groups = {server.pid for server in self._stack.apps.values()}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getpgid(int(process.name)) in groups:
                    found += [str(fd.readlink()) for fd in (process / "fd").iterdir()]
        open_here = [path for path in found if path.startswith(temp_dir) and not path.endswith("servers.log")]
        return open_here + [path.name for path in Path(temp_dir).iterdir() if path.name != "servers.log"]


@dataclass(frozen=True)
class Left:
    """The leftovers of a test, and the objects missing after it."""

    named: set[str]
    stored: set[str]
    unfinished: list[tuple[str, str]]
    open_files: list[str]

    @property
    def is_wrong(self) -> bool:
        """Whether anything is left over or missing."""
        return bool(self.objects != self.named or self.unfinished or self.open_files)

    @property
    def objects(self) -> set[str]:
        """The stored keys without the states of resumable uploads, which outlive their objects' receipts."""
        return {key for key in self.stored if f"/{FOLDER}" not in f"/{key}"}

    @override
    def __str__(self) -> str:
        kinds = {
            "objects that no answer named": sorted(self.objects - self.named),
            "objects missing that a 201 named": sorted(self.named - self.objects),
            "unfinished uploads": [key for key, _ in self.unfinished],
            "files open": self.open_files,
        }
        return "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names)


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMED], "…"] if len(names) > NAMED else names)
