"""A byte that is flipped on the way: between client and app, and between app and a store that checks (Swift)."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.proxy import Proxy
from faults.script import OTHER, FlipRequestByte

from handoff.settings import MIB
from handoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")
STORE = "swift"
SIZES = [pytest.param(1000, id="put"), pytest.param(5 * MIB + 1, id="multipart")]


@pytest.fixture(autouse=True)
def nothing_left(bucket: Bucket) -> Iterator[None]:
    """After the test, the bucket is empty."""
    yield
    bucket.check_and_empty(set())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_byte_flipped_before_s3_is_refused(behind: Behind, name: str, handoff: str, size: int) -> None:
    """S3 compares the CRC-32 of every put and part, by every hand-off: 502 store-rejected, and nothing is left."""
    if size == 1000:
        behind.proxy.on("put_object", FlipRequestByte(500))
    else:
        behind.proxy.on("upload_part", FlipRequestByte(500), part_number=1)  # the other has one byte
    with closing(Api(behind.started.apps[name].url)) as app:
        answer = app.upload(form(part("file", os.urandom(size), "name")), f"/uploads/{handoff}")
    behind.proxy.clear()
    check_problem(answer, 502, "store-rejected")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_byte_flipped_before_the_app_breaks_the_promise(behind: Behind, name: str, handoff: str, size: int) -> None:
    """The promised digest is not that of what came, by every hand-off: 422 digest-mismatch, and nothing is left."""
    data = os.urandom(size)
    promise = part("sha256", hashlib.sha256(data).hexdigest().encode())
    body = form(promise, part("file", data, "name"))
    with Proxy(behind.started.apps[name].url) as between, closing(Api(between.url)) as app:
        between.on(OTHER, FlipRequestByte(body.index(data) + 500))
        check_problem(app.upload(body, f"/uploads/{handoff}"), 422, "digest-mismatch")
