"""A flipped byte between client and app, or between app and Swift."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from faults.behind import Behind, proxied
from faults.proxy import Proxy
from faults.script import OTHER, Answer, Fault, FlipAnswerByte, FlipAnswerHeader, FlipRequestByte

from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")
#: Size of a file of two parts.
PARTS = 5 * MIB + 1
SIZES = [pytest.param(1000, id="put"), pytest.param(PARTS, id="multipart")]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of Swift, and both apps behind it."""
    with proxied("swift", tmp_path_factory.mktemp("flips")) as behind:
        yield behind


@pytest.fixture(autouse=True)
def nothing_left(bucket: Bucket) -> Iterator[None]:
    """After the test, the bucket is empty."""
    yield
    bucket.check_and_empty(set())


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_byte_flipped_before_s3_is_refused(behind: Behind, name: str, handoff: str, size: int) -> None:
    """S3 refuses a put or part with a wrong CRC-32, and nothing is left."""
    if size == 1000:
        behind.proxy.on("put_object", FlipRequestByte(500), every=True)
    else:
        behind.proxy.on("upload_part", FlipRequestByte(500), every=True, part_number=1)  # the other part has one byte
    with closing(Api(behind.started.apps[name].url)) as app:
        answer = app.upload(form(part("file", os.urandom(size), "name")), f"/uploads/{handoff}")
    behind.proxy.clear()
    check_problem(answer, 502, "store-rejected")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_byte_flipped_once_before_s3_is_sent_again(behind: Behind, bucket: Bucket, name: str, size: int) -> None:
    """The second attempt stores the file."""
    if size == 1000:
        behind.proxy.on("put_object", FlipRequestByte(500))
    else:
        behind.proxy.on("upload_part", FlipRequestByte(500), part_number=1)  # the other part has one byte
    data = os.urandom(size)
    with closing(Api(behind.started.apps[name].url)) as app:
        (receipt,) = app.upload(form(part("file", data, "name")), "/uploads/stream").json()["receipts"]
    bucket.check_receipt(receipt, data)
    bucket.check_and_empty({receipt["key"]})


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_byte_flipped_before_the_app_breaks_the_promise(behind: Behind, name: str, handoff: str, size: int) -> None:
    """A file that breaks its promised digest gets 422 digest-mismatch, and nothing is left."""
    data = os.urandom(size)
    promise = part("sha256", hashlib.sha256(data).hexdigest().encode())
    body = form(promise, part("file", data, "name"))
    with Proxy(behind.started.apps[name].url) as between, closing(Api(between.url)) as app:
        between.on(OTHER, FlipRequestByte(body.index(data) + 500))
        check_problem(app.upload(body, f"/uploads/{handoff}"), 422, "digest-mismatch")


@pytest.mark.every_other
@pytest.mark.parametrize(
    ("operation", "fault", "size"),
    [
        pytest.param("put_object", FlipAnswerHeader("etag", 5), 1000, id="a put's ETag"),
        pytest.param("head_object", FlipAnswerHeader("content-length", -1), PARTS, id="the length of parts"),
        pytest.param("upload_part", FlipAnswerHeader("etag", 5), PARTS, id="a part's ETag"),
        pytest.param("create_multipart_upload", FlipAnswerByte(0, after=b"<UploadId>"), PARTS, id="the upload's id"),
        pytest.param("complete_multipart_upload", FlipAnswerByte(0, after=b'<ETag>"'), PARTS, id="the whole's ETag"),
    ],
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_flipped_answer_of_s3_is_an_error(behind: Behind, name: str, operation: str, fault: Fault, size: int) -> None:
    """A damaged answer of S3 fails the upload, and nothing is left.

    Swift knows no upload by a damaged id, and cannot abort a completed one.
    """
    behind.proxy.on(operation, fault)
    check_is_undone(behind, name, part("file", os.urandom(size), "name"))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_first_file_of_a_form_is_undone_with_the_second(behind: Behind, name: str) -> None:
    """If the second file of a form fails, the completed first one is deleted.

    Swift cannot abort it.
    """
    behind.proxy.on("complete_multipart_upload", Answer(400, "InvalidPart"), nth=2)
    files = [part("file", os.urandom(PARTS), "name") for _ in range(2)]
    check_is_undone(behind, name, *files)


def check_is_undone(behind: Behind, name: str, *parts: bytes) -> None:
    """Assert that this form fails with store-rejected, and that the fault struck."""
    behind.proxy.calls.clear()
    with closing(Api(behind.started.apps[name].url)) as app:
        answer = app.upload(form(*parts), "/uploads/stream")
    behind.proxy.clear()
    assert [call for call in behind.proxy.calls if call.fault]
    check_problem(answer, 502, "store-rejected")
