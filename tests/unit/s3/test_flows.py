"""Flows of several calls to S3: the next call after each response, including damaged ones."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from unit.s3.script import BUSY, DENIED, GONE, MISSING, Line, Refusal, count, expect, play

from filehandoff import logs
from filehandoff.errors import (
    BucketMissing,
    ObjectMissing,
    RangeNotSatisfiable,
    StoreRejected,
    StoreUnavailable,
    UploadGone,
)
from filehandoff.receipt import Incoming
from filehandoff.s3 import flows
from filehandoff.service import Service
from filehandoff.verify import Completed

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
INCOMING = Incoming(KEY, "hello.txt", "text/plain")
UPLOAD = {"Key": KEY, "UploadId": "id"}
METADATA = {"filename": "UTF-8''hello.txt"}
BEGUN = {"Key": KEY, "ContentType": "text/plain", "Metadata": METADATA, "ChecksumAlgorithm": "CRC32"}
HEAD = {"ContentLength": 11, "ETag": '"e"'}
BEGAN = datetime(2026, 1, 31, tzinfo=UTC)
OUTSIDE = Refusal(416, "InvalidRange")


def created(upload_id: str | None, retries: int = 0) -> Line:
    """The call that creates the upload."""
    named = {} if upload_id is None else {"UploadId": upload_id}
    answer = {**named, "ResponseMetadata": {"RetryAttempts": retries}}
    return expect("create_multipart_upload", answer, **BEGUN)


def listed(*upload_ids: str) -> Line:
    """The call that lists the key's uploads."""
    uploads = [{"Key": KEY, "UploadId": one, "Initiated": BEGAN} for one in upload_ids]
    return expect("list_multipart_uploads", {"Uploads": uploads}, Prefix=KEY)


def aborted(upload_id: str, answer: object = None) -> Line:
    """The call that aborts one upload."""
    return expect("abort_multipart_upload", answer, Key=KEY, UploadId=upload_id)


def create(service: Service, *script: Line) -> str:
    """Play `create`."""
    return play(flows.create(service, INCOMING, None), *script)


def test_an_upload_without_a_retry_takes_one_call(service: Service) -> None:
    """Without a second attempt, no uploads are listed."""
    assert create(service, created("id")) == "id"


def test_a_second_attempt_aborts_all_other_uploads_of_the_key(service: Service) -> None:
    """The first attempt may have created an upload whose id was lost."""
    script = created("id", 1), listed("lost", "id", "also lost"), aborted("lost"), aborted("also lost")
    assert create(service, *script) == "id"
    assert count(service.metrics.aborts) == 2
    assert not service.cleanup


@pytest.mark.parametrize("error", [BUSY, DENIED, MemoryError()], ids=["busy", "denied", "memory"])
def test_a_failed_abort_of_a_lost_upload_goes_to_the_cleanup(
    service: Service, error: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The new upload continues; the cleanup spares it, and aborts the lost one later."""
    with logs.bound("a-request"):
        assert create(service, created("id", 1), listed("lost", "id"), aborted("lost", error)) == "id"
    assert f"an earlier attempt for '{KEY}' may have left an upload" in caplog.text
    assert count(service.metrics.undo_failures) == 1
    assert play(service.cleanup.try_all(), listed("id", "lost"), aborted("lost")) is True
    assert not service.cleanup


def test_a_response_without_an_id_is_rejected(service: Service) -> None:
    """A proxy may respond in S3's place."""
    with pytest.raises(StoreRejected, match="has no UploadId"):
        create(service, created(None))


def test_a_response_without_an_id_is_rejected_after_the_abort(service: Service) -> None:
    """All uploads of the key are aborted first, because the new one's id is unknown."""
    with pytest.raises(StoreRejected, match="has no UploadId"):
        create(service, created(None, 1), listed("lost"), aborted("lost"))


PARTS = [{"PartNumber": 1, "ETag": '"p"', "ChecksumCRC32": "AAAACw=="}]


def completed(answer: object) -> Line:
    """The call that completes the upload."""
    return expect("complete_multipart_upload", answer, **UPLOAD, MultipartUpload={"Parts": PARTS})


def test_a_completed_upload_takes_one_call() -> None:
    """The result is the response."""
    assert play(flows.complete(KEY, "id", PARTS), completed({"ETag": '"e-1"'})) == Completed("e-1")


def test_a_completion_with_a_lost_response_is_recognized() -> None:
    """The upload is gone and the object exists, so an earlier attempt has completed it."""
    script = completed(GONE), expect("head_object", {"ETag": '"e-1"'}, Key=KEY)
    assert play(flows.complete(KEY, "id", PARTS), *script) == Completed("e-1")


def test_an_upload_without_an_object_is_gone() -> None:
    """Without an object, no earlier attempt has completed the upload."""
    with pytest.raises(UploadGone):
        play(flows.complete(KEY, "id", PARTS), completed(GONE), expect("head_object", MISSING, Key=KEY))


BODY = io.BytesIO(b"hello world")
MD5 = "5eb63bbbe01eeed093cb22bb8f5acdc3"
#: An ETag that has the form of an MD5, but is that of no bytes known here.
OTHER_MD5 = "0" * 32


def put(*script: Line, **answer: str) -> str:
    """Play `put` with this response to its call, and return the ETag."""
    called = expect(
        "put_object", answer, Key=KEY, ContentType="text/plain", Metadata=METADATA, ChecksumCRC32="AAAACw=="
    )
    return play(flows.put(INCOMING, 11, BODY, 11, None), called, *script)


def test_a_put_with_a_crc32_in_its_response_takes_one_call() -> None:
    """S3 has compared the CRC-32 with the bytes; any ETag is right."""
    assert put(ETag='"e"', ChecksumCRC32="AAAACw==") == "e"


def test_a_put_with_another_crc32_in_its_response_is_rejected() -> None:
    """S3 stored other bytes."""
    with pytest.raises(StoreRejected, match="CRC-32"):
        put(ETag='"e"', ChecksumCRC32="AAAADA==")


def test_a_put_with_its_md5_as_etag_takes_one_call() -> None:
    """The ETag proves the bytes."""
    assert put(expect("md5", MD5, Body=BODY), ETag=f'"{MD5}"') == MD5


@pytest.mark.parametrize(
    ("etag", "script"),
    [
        pytest.param(OTHER_MD5, [expect("md5", MD5, Body=BODY)], id="another MD5"),
        pytest.param("e", [], id="no MD5"),
    ],
)
def test_a_put_whose_response_proves_nothing_is_confirmed(etag: str, script: list[Line]) -> None:
    """Under encryption, an ETag is no MD5; a damaged one differs from the object's."""

    def headed(**differing: Any) -> Line:
        return expect("head_object", {"ContentLength": 11, "ETag": f'"{etag}"', **differing}, Key=KEY)

    assert put(*script, headed(), ETag=f'"{etag}"') == etag
    for differing in {"ContentLength": 10}, {"ETag": '"f"'}:
        with pytest.raises(StoreRejected):
            put(*script, headed(**differing), ETag=f'"{etag}"')


def test_the_etag_of_parts_is_compared_only_with_another_of_parts() -> None:
    """Rclone responds with the MD5 of the whole object."""
    for etag in "e-2", "f":
        play(flows.confirm(KEY, 11, "e-2", 2), expect("head_object", HEAD | {"ETag": f'"{etag}"'}, Key=KEY))
    with pytest.raises(StoreRejected):
        play(flows.confirm(KEY, 11, "e-2", 2), expect("head_object", HEAD | {"ETag": '"f-2"'}, Key=KEY))


def test_an_object_that_s3_lost_is_rejected() -> None:
    """S3 confirmed the upload, so a missing object is S3's fault, not the client's."""
    with pytest.raises(StoreRejected, match="does not have"):
        play(flows.confirm(KEY, 11, "e", 1), expect("head_object", MISSING, Key=KEY))


def test_an_object_exists_or_not() -> None:
    """A missing object gives False; any other failure is an error."""
    assert play(flows.exists(KEY), expect("head_object", HEAD, Key=KEY)) is True
    assert play(flows.exists(KEY), expect("head_object", MISSING, Key=KEY)) is False
    with pytest.raises(StoreUnavailable):
        play(flows.exists(KEY), expect("head_object", BUSY, Key=KEY))


def got(answer: object, byte_range: str | None = None) -> Line:
    """The call that gets the object."""
    named = {"Range": byte_range} if byte_range else {}
    return expect("get_object", answer, client="downloads", Key=KEY, **named)


def head(length: int = 11) -> Line:
    """The call that reads the object's length."""
    return expect("head_object", HEAD | {"ContentLength": length}, Key=KEY)


@pytest.mark.parametrize("byte_range", [None, "bytes=0-3"])
def test_an_object_or_its_range_takes_one_call(byte_range: str | None) -> None:
    """The flow passes the range to S3 unchanged."""
    info, body = play(flows.get(KEY, byte_range), got(HEAD | {"Body": "b"}, byte_range))
    assert (info.length, body) == (11, "b")


def test_a_rejected_range_is_cut_to_the_objects_length() -> None:
    """Some stores reject a range that ends after the object."""
    script = got(OUTSIDE, "bytes=5-99"), head(), got(HEAD | {"Body": "b"}, "bytes=5-10")
    assert play(flows.get(KEY, "bytes=5-99"), *script)[1] == "b"


@pytest.mark.parametrize(
    ("byte_range", "length"),
    [
        pytest.param("bytes=11-20", 11, id="behind the end"),
        pytest.param("bytes=0-", 0, id="of an empty object"),
        pytest.param("bytes=0-10", 11, id="of the whole object, but rejected"),
    ],
)
def test_a_range_without_a_byte_is_not_satisfiable(byte_range: str, length: int) -> None:
    """The error names the object's length (RFC 9110, section 15.5.17)."""
    with pytest.raises(RangeNotSatisfiable) as refused:
        play(flows.get(KEY, byte_range), got(OUTSIDE, byte_range), head(length))
    assert refused.value.headers == {"Content-Range": f"bytes */{length}"}


def test_a_second_rejection_of_a_range_is_s3s_fault() -> None:
    """The cut range is within the object."""
    with pytest.raises(StoreRejected, match="within the object"):
        play(flows.get(KEY, "bytes=5-99"), got(OUTSIDE, "bytes=5-99"), head(), got(OUTSIDE, "bytes=5-10"))


def test_a_missing_object_cannot_be_got() -> None:
    """The flow makes no second call."""
    with pytest.raises(ObjectMissing):
        play(flows.get(KEY, None), got(Refusal(404, "NoSuchKey")))


def page(number: int, following: int | None, **more: Any) -> Line:
    """The call that lists the part of this number; `following` is the next page's marker."""
    answer: dict[str, Any] = {"Parts": [{"PartNumber": number}]}
    if following is not None:
        answer |= {"IsTruncated": True, "NextPartNumberMarker": following}
    return expect("list_parts", answer, **UPLOAD, **more)


def test_the_parts_of_all_pages_are_one_list() -> None:
    """Each page is requested with the marker of the previous one."""
    script = page(1, 1), page(2, 2, PartNumberMarker=1), page(3, None, PartNumberMarker=2)
    assert [part["PartNumber"] for part in play(flows.list_parts(KEY, "id"), *script)] == [1, 2, 3]


def test_a_page_that_leads_back_to_itself_ends_the_list() -> None:
    """Without this check, the list would never end."""
    with pytest.raises(StoreRejected, match="repeats a page"):
        play(flows.list_parts(KEY, "id"), page(1, 1), page(1, 1, PartNumberMarker=1))


def test_a_page_that_leads_back_to_an_earlier_one_ends_the_list() -> None:
    """Two pages that name each other would never end either."""
    script = page(1, 1), page(2, 2, PartNumberMarker=1), page(1, 1, PartNumberMarker=2)
    with pytest.raises(StoreRejected, match="repeats a page"):
        play(flows.list_parts(KEY, "id"), *script)


def test_a_truncated_page_without_its_marker_ends_the_list() -> None:
    """The parts of the first pages are not the whole list."""
    damaged = expect("list_parts", {"Parts": [], "IsTruncated": True}, **UPLOAD, PartNumberMarker=1)
    with pytest.raises(StoreRejected, match="has no NextPartNumberMarker"):
        play(flows.list_parts(KEY, "id"), page(1, 1), damaged)


def test_the_parts_of_a_gone_upload_are_an_error() -> None:
    """Only an existing upload without parts has an empty list."""
    with pytest.raises(UploadGone):
        play(flows.list_parts(KEY, "id"), expect("list_parts", GONE, **UPLOAD))
    assert play(flows.list_parts(KEY, "id"), expect("list_parts", **UPLOAD)) == []


def test_no_such_upload_is_an_empty_list_of_uploads() -> None:
    """Rclone responds with this error if there are no uploads."""
    assert play(flows.unfinished_uploads("photos", KEY), expect("list_multipart_uploads", GONE, Prefix=KEY)) == []


def test_a_list_of_uploads_needs_the_bucket() -> None:
    """A missing bucket raises an error instead of an empty list."""
    with pytest.raises(BucketMissing):
        play(
            flows.unfinished_uploads("photos", ""),
            expect("list_multipart_uploads", Refusal(404, "NoSuchBucket"), Prefix=""),
        )


def test_an_abort_counts_only_an_upload_that_was_there(service: Service) -> None:
    """The result is whether the upload existed."""
    assert play(flows.abort(service, KEY, "id"), aborted("id", GONE)) is False
    assert count(service.metrics.aborts) == 0
    assert play(flows.abort(service, KEY, "id"), aborted("id")) is True
    assert count(service.metrics.aborts) == 1


def test_an_undo_that_succeeds_leaves_nothing(service: Service) -> None:
    """The cleanup has no pending upload afterwards."""
    play(
        flows.undo_or_later(service, lambda: flows.abort(service, KEY, "id"), "a-request", KEY),
        aborted("id"),
    )
    assert not service.cleanup
    assert count(service.metrics.undo_failures) == 0


@pytest.mark.parametrize("error", [BUSY, MemoryError()], ids=["busy", "memory"])
def test_a_failed_undo_goes_to_the_cleanup(service: Service, error: object, caplog: pytest.LogCaptureFixture) -> None:
    """The cleanup retries it, also after a MemoryError."""
    undo = flows.undo_or_later(service, lambda: flows.abort(service, KEY, "id"), "a-request", KEY)
    play(undo, aborted("id", error))
    assert "could not be removed yet" in caplog.text
    assert count(service.metrics.undo_failures) == 1
    play(service.cleanup.try_all(), aborted("id"))
    assert not service.cleanup


def test_a_cancelled_undo_goes_to_the_cleanup(service: Service) -> None:
    """The cleanup retries the undo, and the task is still cancelled."""
    undo = flows.undo_or_later(service, lambda: flows.abort(service, KEY, "id"), "a-request", KEY)
    with pytest.raises(KeyboardInterrupt):
        play(undo, aborted("id", KeyboardInterrupt()))
    play(service.cleanup.try_all(), aborted("id"))
    assert not service.cleanup


def test_a_removed_key_has_neither_object_nor_uploads(service: Service) -> None:
    """The flow deletes the object, and aborts each unfinished upload of its key."""
    uploads = {"Uploads": [{"Key": KEY, "UploadId": "id"}]}
    play(
        flows.remove(service, KEY),
        expect("delete_object", Key=KEY),
        expect("list_multipart_uploads", uploads, Prefix=KEY),
        aborted("id"),
    )
    assert count(service.metrics.aborts) == 1


def test_a_failed_undo_logs_the_cause(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the network's message."""
    error = StoreUnavailable("silence")
    error.__cause__ = OSError("connection reset")
    play(
        flows.undo_or_later(service, lambda: flows.abort(service, KEY, "id"), "a-request", KEY),
        aborted("id", error),
    )
    create(service, created("id", 1), listed("lost"), aborted("lost", error))
    assert caplog.text.count("connection reset") == 2
    assert "silence" not in caplog.text


def test_the_service_is_ready_if_s3_shows_the_bucket() -> None:
    """A missing bucket may still be created, so the client may retry this error."""
    play(flows.ready("photos"), expect("head_bucket", client="probe"))
    for refusal in (MISSING, DENIED, BUSY):
        with pytest.raises(StoreUnavailable):
            play(flows.ready("photos"), expect("head_bucket", refusal))


def test_only_a_missing_bucket_prevents_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """An unresponsive store may still start, so it is only logged."""
    play(flows.check_bucket("photos"), expect("head_bucket"))
    assert not caplog.text
    play(flows.check_bucket("photos"), expect("head_bucket", StoreUnavailable("silence")))
    assert "the bucket 'photos' is not available yet: silence" in caplog.text
    with pytest.raises(BucketMissing):
        play(flows.check_bucket("photos"), expect("head_bucket", MISSING))
