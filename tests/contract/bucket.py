"""The bucket as S3 shows it, and what an app may leave behind: nothing that no answer names."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.stack import Stack
from handoff.keys import decode_name
from handoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: An app may need a moment after its answer to close its files.
SETTLE_SECONDS = 5.0


class Bucket:
    """Reads back what is stored; checks that nothing else is."""

    def __init__(self, client: "S3Client", name: str, stack: Stack | None) -> None:
        self._client = client
        self._name = name
        self._stack = stack
        self._open_at_start = self.open_files()  # gunicorn's heartbeat is one

    def stored_keys(self) -> set[str]:
        """The keys of all objects."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name)
        return [entry["Key"] for page in pages for entry in page.get("Uploads", [])]

    def check_receipt(self, receipt: dict[str, Any], data: bytes) -> None:
        """Assert that the object of a receipt is these bytes, under what the receipt says of it."""
        stored = self._client.get_object(Bucket=self._name, Key=receipt["key"])
        body = stored["Body"].read()
        assert len(body) == receipt["size"] == len(data)
        assert hashlib.sha256(body).hexdigest() == receipt["sha256"] == hashlib.sha256(data).hexdigest()
        assert stored["ContentType"] == receipt["content_type"]
        assert stored["ETag"].strip('"') == receipt["etag"]
        metadata = {name.lower(): value for name, value in stored["Metadata"].items()}
        assert metadata[REQUEST_ID_METADATA] == receipt["request_id"]
        assert decode_name(metadata[FILENAME_METADATA]) == (receipt["filename"] or None)

    def request_id(self, key: str) -> str:
        """The request that an object says it was stored by."""
        metadata = self._client.head_object(Bucket=self._name, Key=key)["Metadata"]
        return {name.lower(): value for name, value in metadata.items()}[REQUEST_ID_METADATA]

    def put(self, key: str, data: bytes) -> None:
        """Store an object that no app knows of."""
        self._client.put_object(Bucket=self._name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=self._name, Key=key)

    def check_and_empty(self, named: set[str]) -> None:
        """Assert that S3 holds the named objects and no others, no unfinished upload, and the apps no open file."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline and (
            self.stored_keys() != named or self.unfinished() or self.new_open_files()
        ):
            time.sleep(0.05)
        seen = self.stored_keys()
        for key in seen:
            self.delete(key)
        assert seen == named
        assert self.unfinished() == []
        assert self.new_open_files() == []

    def new_open_files(self) -> list[str]:
        """Those that were not open when the suite began."""
        return [path for path in self.open_files() if path not in self._open_at_start]

    def open_files(self) -> list[str]:
        """Temporary files that the apps hold open, with a name or without; known only of apps started here."""
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
