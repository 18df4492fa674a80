"""An S3 server for these tests, and its clients."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from unit.explain import store


@dataclass(frozen=True)
class Store:
    """A running S3 server and its stored bodies, by path."""

    url: str
    objects: dict[str, bytes]

    def client(self) -> Any:
        """Return a new boto3 client."""
        return boto3.client("s3", endpoint_url=self.url, **store.OPTIONS)


@pytest.fixture(scope="session")
def s3() -> Iterator[Store]:
    """Run one server during the session."""
    objects: dict[str, bytes] = {}
    server = store.start(objects)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Store(f"http://127.0.0.1:{server.server_port}", objects)
    server.shutdown()
    thread.join()
    server.server_close()
