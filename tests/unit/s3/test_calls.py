"""Calls to S3 as values: parameters, parsing of responses, and mapping of errors."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from unit.s3.script import BUSY, DENIED, GONE, MISSING, Refusal, expect, play

from filehandoff.errors import (
    BucketMissing,
    ObjectMissing,
    RangeNotSatisfiable,
    StoreRejected,
    StoreUnavailable,
    UploadGone,
)
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.s3.calls import Call, Created, Page
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
INCOMING = Incoming(KEY, "hello.txt", "text/plain")
NAMED = {"Key": KEY, "ContentType": "text/plain", "Metadata": {"filename": "UTF-8''hello.txt"}}
UPLOAD = {"Key": KEY, "UploadId": "id"}
CRC32 = "AAAACw=="  # of 11
BEGAN = datetime(2026, 1, 31, tzinfo=UTC)
HEAD = {"ContentLength": 11, "ETag": '"e"'}


def a_hook() -> None:
    """Stand for a hook of boto's."""


def test_a_put_sends_its_crc32_its_body_and_its_hook() -> None:
    """The call has all values that a shell needs."""
    body = io.BytesIO(b"hello")
    put = calls.put_object(INCOMING, body, 11, a_hook)
    assert put.parameters == {**NAMED, "ChecksumCRC32": CRC32}
    assert (put.operation, put.body, put.hook, put.client) == ("put_object", body, a_hook, "uploads")


@pytest.mark.parametrize(
    ("answer", "checked"), [({"ETag": '"e"'}, False), ({"ETag": 'W/"e"', "ChecksumCRC32": CRC32}, True)]
)
def test_a_put_returns_the_etag_without_quotes(answer: dict[str, str], *, checked: bool) -> None:
    """It also returns whether the response has the CRC-32, because not every store sends it."""
    assert calls.put_object(INCOMING, io.BytesIO(), 11, None).read(answer) == calls.Put("e", checked)


@pytest.mark.parametrize("body", [Part(1, (b"hello ", memoryview(b"world"))), io.BytesIO(b"hello world")])
def test_a_body_is_read_again_for_its_md5(body: Part | io.BytesIO) -> None:
    """The call has left a file at its end."""
    if not isinstance(body, Part):
        body.seek(0, io.SEEK_END)
    assert calls.Md5(body).compute() == "5eb63bbbe01eeed093cb22bb8f5acdc3"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="no ETag"),
        pytest.param({"ETag": '""'}, id="an empty ETag"),
        pytest.param({"ETag": '"e"', "ChecksumCRC32": "AAAADA=="}, id="the CRC-32 of other bytes"),
    ],
)
def test_a_damaged_answer_to_a_put_or_a_part_is_rejected(answer: dict[str, str]) -> None:
    """A response without an ETag, or with the CRC-32 of other bytes, is faulty."""
    sent: tuple[Call[Any], ...] = (
        calls.put_object(INCOMING, io.BytesIO(), 11, None),
        calls.upload_part(KEY, "id", Part(1, ()), 11),
    )
    for call in sent:
        with pytest.raises(StoreRejected):
            call.read(answer)


def test_only_an_upload_of_ours_requests_crc32() -> None:
    """A client that sends the parts has no checksums, and metadata with its promise."""
    ours = calls.create_multipart(INCOMING, a_hook)
    theirs = calls.create_multipart(INCOMING, a_hook, {"promise": "3"})
    assert ours.parameters == {**NAMED, "ChecksumAlgorithm": "CRC32"}
    assert theirs.parameters == {**NAMED, "Metadata": {"promise": "3"}}
    assert ours.hook == theirs.hook == a_hook


@pytest.mark.parametrize(
    ("answer", "created"),
    [
        pytest.param({"UploadId": "id"}, Created("id", retried=False), id="no count of retries"),
        pytest.param(
            {"UploadId": "id", "ResponseMetadata": {"RetryAttempts": 0}}, Created("id", retried=False), id="one attempt"
        ),
        pytest.param({"ResponseMetadata": {"RetryAttempts": 1}}, Created(None, retried=True), id="two attempts, no id"),
    ],
)
def test_a_created_upload_knows_whether_the_call_was_retried(answer: dict[str, Any], created: Created) -> None:
    """A response without an id is parsed, because an earlier attempt may have succeeded."""
    assert calls.create_multipart(INCOMING, None).read(answer) == created


def test_a_part_is_named_by_its_number_etag_and_crc32() -> None:
    """The result, for `complete_multipart`, has a quoted ETag, even if the store omits quotes."""
    part = Part(2, (b"hello ", b"world"))
    call = calls.upload_part(KEY, "id", part, 11)
    assert call.parameters == {**UPLOAD, "PartNumber": 2, "ContentLength": 11, "ChecksumCRC32": CRC32}
    assert call.body is part
    assert call.read({"ETag": "e"}) == {"PartNumber": 2, "ETag": '"e"', "ChecksumCRC32": CRC32}


def test_a_completion_returns_the_object_of_s3() -> None:
    """The result has the response's ETag, encryption and CRC-32."""
    completion = expect(
        "complete_multipart_upload",
        {"ETag": '"e-1"', "ServerSideEncryption": "AES256", "ChecksumCRC32": "x-1"},
        **UPLOAD,
        MultipartUpload={"Parts": [{"PartNumber": 1}]},
    )
    flow = iter(calls.complete_multipart(KEY, "id", [{"PartNumber": 1}]))
    assert play(flow, completion) == Completed("e-1", "AES256", "x-1")


@pytest.mark.parametrize("code", ["NoSuchUpload", "NoSuchKey"])
@pytest.mark.parametrize(
    "call", [calls.complete_multipart(KEY, "id", []), calls.list_parts(KEY, "id", {}), calls.abort_multipart(KEY, "id")]
)
def test_an_upload_that_s3_does_not_have_is_gone(call: Call[Any], code: str) -> None:
    """Completing, listing and aborting map the same codes, including Swift's, to UploadGone."""
    assert isinstance(call.refused(404, code, ""), UploadGone)
    assert type(call.refused(403, "AccessDenied", "")) is StoreRejected
    assert isinstance(call.refused(503, "SlowDown", ""), StoreUnavailable)


def test_an_abort_and_a_deletion_need_no_values_in_the_response() -> None:
    """An empty response is a success."""
    play(iter(calls.abort_multipart(KEY, "id")), expect("abort_multipart_upload", **UPLOAD))
    play(iter(calls.delete_object(KEY)), expect("delete_object", Key=KEY))


def test_a_page_of_parts_names_the_parameters_of_the_next_one() -> None:
    """The last page has no next page, even if it names a marker."""
    call = calls.list_parts(KEY, "id", {"PartNumberMarker": 2})
    assert call.parameters == {**UPLOAD, "PartNumberMarker": 2}
    parts = [{"PartNumber": 3}]
    truncated = {"Parts": parts, "IsTruncated": True, "NextPartNumberMarker": 3}
    assert call.read(truncated) == Page(parts, {"PartNumberMarker": 3})
    assert call.read({**truncated, "IsTruncated": False}) == Page(parts, {})
    assert call.read({}) == Page([], {})


def test_a_page_of_uploads_has_two_markers() -> None:
    """The next page begins behind a key and an upload id."""
    call = calls.list_multipart_uploads("in/", "photos", {"KeyMarker": "in/a"})
    assert call.parameters == {"Prefix": "in/", "KeyMarker": "in/a"}
    entry = {"Key": KEY, "UploadId": "id", "Initiated": BEGAN}
    markers = {"NextKeyMarker": KEY, "NextUploadIdMarker": "id"}
    page = call.read({"Uploads": [entry], "IsTruncated": True, **markers})
    assert page == Page([Unfinished(KEY, "id", BEGAN)], {"KeyMarker": KEY, "UploadIdMarker": "id"})


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        pytest.param(calls.list_parts(KEY, "id", {}), {}, id="parts"),
        pytest.param(calls.list_multipart_uploads("", "photos", {}), {"NextKeyMarker": KEY}, id="uploads"),
    ],
)
def test_a_truncated_page_without_its_marker_is_rejected(call: Call[Any], answer: dict[str, str]) -> None:
    """Without the marker, the rest of the list is out of reach."""
    with pytest.raises(StoreRejected, match="has no Next"):
        call.read({"IsTruncated": True, **answer})


def test_a_list_of_uploads_distinguishes_a_missing_bucket_from_no_uploads() -> None:
    """NoSuchUpload is rclone's response for no uploads; NoSuchBucket is an error of the settings."""
    refused = calls.list_multipart_uploads("", "photos", {}).refused
    assert isinstance(refused(404, "NoSuchUpload", ""), UploadGone)
    assert str(refused(404, "NoSuchBucket", "")) == str(BucketMissing("photos"))
    assert type(refused(403, "AccessDenied", "")) is StoreRejected


def test_a_head_returns_the_objects_headers() -> None:
    """`head_completed` requires only the ETag."""
    assert play(iter(calls.head_object(KEY)), expect("head_object", HEAD, Key=KEY)).length == 11
    assert play(iter(calls.head_completed(KEY)), expect("head_object", {"ETag": '"e"'}, Key=KEY)) == Completed("e")


@pytest.mark.parametrize("missing", ["ContentLength", "ETag"])
def test_a_head_without_a_length_or_an_etag_is_rejected(missing: str) -> None:
    """Every object has both."""
    answer = {name: value for name, value in HEAD.items() if name != missing}
    with pytest.raises(StoreRejected, match=missing):
        play(iter(calls.head_object(KEY)), expect("head_object", answer, Key=KEY))


@pytest.mark.parametrize("refusal", [MISSING, Refusal(404, "NoSuchKey")])
def test_an_object_that_is_not_there_is_missing(refusal: Refusal) -> None:
    """The response to a HEAD has no body, so its code is its status."""
    for call in (calls.head_object(KEY), calls.head_completed(KEY)):
        with pytest.raises(ObjectMissing):
            play(iter(call), expect("head_object", refusal, Key=KEY))
    with pytest.raises(ObjectMissing):
        play(iter(calls.get_object(KEY)), expect("get_object", refusal, Key=KEY))


def test_a_get_returns_the_object_and_its_body() -> None:
    """Only a download has a range, the downloads' client, and the downloads' detail for silence."""
    whole, part = calls.get_object(KEY), calls.get_object(KEY, "bytes=0-1", "downloads")
    body = object()
    info, given = play(iter(whole), expect("get_object", {**HEAD, "Body": body}, client="uploads", Key=KEY))
    assert (info.length, given) == (11, body)
    assert (part.parameters, part.client) == ({"Key": KEY, "Range": "bytes=0-1"}, "downloads")
    assert "downloads" in part.silence
    assert whole.silence == calls.SILENCE


@pytest.mark.parametrize("missing", ["ContentLength", "ETag"])
def test_a_damaged_answer_to_a_get_closes_its_body(missing: str) -> None:
    """An open body would hold its connection, because no caller gets it."""
    body = io.BytesIO()
    answer = {name: value for name, value in HEAD.items() if name != missing}
    with pytest.raises(StoreRejected, match=missing):
        calls.get_object(KEY).read(answer | {"Body": body})
    assert body.closed


def test_only_a_call_with_a_range_can_have_a_range_error() -> None:
    """Status 416 without a range is a fault of S3."""
    assert isinstance(calls.get_object(KEY, "bytes=9-").refused(416, "InvalidRange", ""), RangeNotSatisfiable)
    assert type(calls.get_object(KEY, "bytes=9-").refused(403, "AccessDenied", "")) is StoreRejected
    assert type(calls.get_object(KEY).refused(416, "InvalidRange", "")) is StoreRejected


def test_a_probe_of_the_bucket_has_a_client_of_its_own() -> None:
    """The probe must not wait for uploads."""
    play(iter(calls.head_bucket("photos")), expect("head_bucket", client="probe"))


@pytest.mark.parametrize(
    ("refusal", "error"), [(MISSING, BucketMissing), (DENIED, StoreUnavailable), (BUSY, StoreUnavailable)]
)
def test_a_bucket_is_missing_or_not_given(refusal: Refusal, error: type[Exception]) -> None:
    """A missing bucket is an error of the settings, any other failure is temporary."""
    with pytest.raises(error, match="photos"):
        play(iter(calls.head_bucket("photos")), expect("head_bucket", refusal))


def test_an_upload_that_is_gone_ends_its_calls() -> None:
    """The mapped error is raised in the flow."""
    with pytest.raises(UploadGone):
        play(iter(calls.abort_multipart(KEY, "id")), expect("abort_multipart_upload", GONE, **UPLOAD))
