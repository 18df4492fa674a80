"""After SIGTERM with a broken store, clients get answers and the process ends."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from contract.api import form, part
from contract.bucket import Bucket
from faults import raw
from faults.behind import Behind, proxied
from faults.script import LostAnswer, Reset, Stall
from faults.settings import SETTINGS
from patience import wait_until

from filehandoff.s3.cleanup import END_SECONDS
from filehandoff.settings import MIB

FRAMEWORKS = ("flask", "quart")
DRAIN_SECONDS = 1.0
SMALL = form(part("file", b"some bytes", "small"))
LARGE = form(part("file", os.urandom(10 * MIB + 1), "large"))


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """A proxy in front of a store, and both apps with a single long attempt."""
    more = {"UPLOAD_DRAIN_SECONDS": str(DRAIN_SECONDS), "UPLOAD_S3_ATTEMPTS": "1"}
    folder = tmp_path / "apps"
    folder.mkdir()
    with proxied("moto", folder, more) as behind:
        yield behind


@pytest.fixture
def bucket(behind: Behind) -> Iterator[Bucket]:
    """The bucket, accessed past the proxy."""
    with closing(behind.store.client()) as client:
        yield Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started)


def end(behind: Behind) -> list[float]:
    """Send SIGTERM to both apps; return the seconds until each ended with status 0."""
    apps = [behind.started.apps[name] for name in FRAMEWORKS]
    began = time.monotonic()
    for app in apps:
        app.terminate()

    def ended(name: str) -> float:
        behind.started.apps[name].wait()
        return time.monotonic() - began

    with ThreadPoolExecutor(len(apps)) as pool:
        seconds = list(pool.map(ended, FRAMEWORKS))
    assert [app.returncode for app in apps] == [0, 0]
    return seconds


def test_no_upload_waits_for_a_store_that_does_not_answer(behind: Behind, bucket: Bucket) -> None:
    """After the drain time, each upload gets 503 overloaded, in any pending call."""
    for call in ("put_object", "upload_part", "complete_multipart_upload"):
        behind.proxy.on(call, Stall(), every=True, part_number=2 if call == "upload_part" else None)
    uploads = [(name, way, body) for name in FRAMEWORKS for way in ("stream", "byte_queue") for body in (SMALL, LARGE)]
    with ExitStack() as exits:
        connections = []
        for name, way, body in uploads:
            connection = exits.enter_context(closing(raw.connect(behind.started.apps[name].url)))
            raw.send(connection, raw.whole(way, body))
            connections.append(connection)
        wait_for_calls(behind, len(uploads))
        seconds = end(behind)
        answers = [raw.read_answer(connection) for connection in connections]
    assert [(answer.status, answer.code) for answer in answers] == [(503, "overloaded")] * len(uploads)
    assert max(seconds) < DRAIN_SECONDS + END_SECONDS
    assert bucket.unfinished() == []
    assert bucket.stored_keys() == set()


def wait_for_calls(behind: Behind, count: int) -> None:
    """Wait until this many calls are pending."""

    def waiting() -> int:
        return sum(call.fault is not None for call in list(behind.proxy.calls))

    wait_until(lambda: waiting() >= count, lambda: f"{waiting()} calls wait, not {count}")


def test_a_pending_cleanup_is_done_at_shutdown(behind: Behind, bucket: Bucket) -> None:
    """A pending cleanup is done at shutdown if S3 works again."""
    behind.proxy.on("put_object", LostAnswer(), every=True)
    behind.proxy.on("complete_multipart_upload", Reset(), every=True)
    for undoing in ("delete_object", "abort_multipart_upload"):
        behind.proxy.on(undoing, Reset(), every=True)
    for name in FRAMEWORKS:
        for body in (SMALL, LARGE):
            with closing(raw.connect(behind.started.apps[name].url)) as connection:
                raw.send(connection, raw.whole("stream", body))
                assert raw.read_answer(connection).code == "store-unavailable"
    assert (len(bucket.stored_keys()), len(bucket.unfinished())) == (2, 2)
    behind.proxy.clear()
    assert max(end(behind)) < DRAIN_SECONDS + END_SECONDS
    assert bucket.stored_keys() == set()
    assert bucket.unfinished() == []
