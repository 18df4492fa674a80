"""Both apps in front of a store that is not there, and the broken clients' tools."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import stack

SETTINGS = {
    "UPLOAD_S3": "moto",
    "UPLOAD_BUCKET": "faults",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "64 MiB",
    "UPLOAD_IDLE_TIMEOUT": "1",
    "UPLOAD_DRAIN_SECONDS": "2",
    "UPLOAD_S3_CONNECT_TIMEOUT": "0.5",
    "UPLOAD_S3_READ_TIMEOUT": "1",
    "UPLOAD_S3_ATTEMPTS": "2",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of what is done over and over."""
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=100, help="how many clients are killed for each app, twice")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps, for one module."""
    folder: Path = tmp_path_factory.mktemp("faults")
    with stack.running(SETTINGS | {"TMPDIR": str(folder)}, log_path=folder / "servers.log") as started:
        yield started
