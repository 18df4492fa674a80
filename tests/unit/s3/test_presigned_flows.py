"""Flows of presigned uploads: signing the URLs, and verifying the client's object."""

import io
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from unittest.mock import ANY
from urllib.parse import parse_qs, urlsplit

import pytest
from unit.s3.script import BUSY, DENIED, GONE, MISSING, Line, Refusal, count, expect, play

from filehandoff.errors import (
    DigestMismatch,
    ObjectMissing,
    SizeMismatch,
    StoreRejected,
    StoreUnavailable,
    TypeMismatch,
    TypeNotAllowed,
    UploadError,
)
from filehandoff.presigned import PresignedMultipart, PresignRequest, Promise, Seal, sha256_header
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3 import presigned
from filehandoff.service import Service
from filehandoff.settings import MIB, Settings

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
SHA256 = sha256(b"hello world").hexdigest()
OTHER = "0" * 64
INCOMING = Incoming(KEY, "hello.txt", "text/plain", SHA256)
PROMISE = Promise(11, 1, SHA256, "bound", "first-request", "text/plain")
CONTEXT = UploadContext("flask", "presigned", "bound", "first-request")
PART = 8 * MIB
UPLOAD = PresignedMultipart(KEY, "id", 2 * PART + 1, PART)
NAMED = {"Key": KEY, "UploadId": "id"}


def a_hook() -> None:
    """Stand for a hook of boto's."""


def begin(service: Service, wanted: PresignRequest, *script: Line) -> dict[str, object]:
    """Play `begin`."""
    return play(presigned.begin(service, wanted, CONTEXT, a_hook), *script)


def signed_put(answer: object = "https://s3/put", **more: str) -> Line:
    """The signing of a put."""
    named = {"Key": ANY, "ContentLength": 11, "ContentType": "text/plain", "IfNoneMatch": "*", "Metadata": ANY}
    return expect("presign_put_object", answer, **named, Seconds=900, **more)


def signed_part(number: int, size: int = PART, answer: object = None, key: Any = KEY) -> Line:
    """The signing of the part of this number."""
    named = {"Key": key, "UploadId": "id", "PartNumber": number, "ContentLength": size}
    return expect("presign_upload_part", answer or f"https://s3/{number}", **named, Seconds=900)


def signed_parts(*, key: Any = KEY) -> list[Line]:
    """The signing of the three parts of `UPLOAD`."""
    return [signed_part(1, key=key), signed_part(2, key=key), signed_part(3, 1, key=key)]


def created(answer: object = None) -> Line:
    """The call that creates an upload whose parts the client sends."""
    named = {"Key": ANY, "ContentType": "text/plain", "Metadata": ANY}
    return expect("create_multipart_upload", answer or {"UploadId": "id"}, finished=True, **named)


def test_the_url_of_a_small_file_signs_its_promise(service: Service) -> None:
    """The signature covers length, type, digest and metadata, and allows one put."""
    given = begin(
        service, PresignRequest("hello.txt", "text/plain", 11, SHA256), signed_put(ChecksumSHA256=sha256_header(SHA256))
    )
    assert given["url"] == "https://s3/put"
    headers: Any = given["headers"]
    assert headers["x-amz-checksum-sha256"] == sha256_header(SHA256)
    assert headers["x-amz-meta-promise"].startswith(f"3.11.1.{SHA256}.bound.text/plain.")
    assert given["expires_in"] == 900


def test_a_file_without_a_digest_gets_a_url_without_one(service: Service) -> None:
    """The client need not promise a digest."""
    given = begin(service, PresignRequest("hello.txt", "text/plain", 11, None), signed_put())
    assert "x-amz-checksum-sha256" not in str(given["headers"])


def test_a_failed_signature_of_a_put_needs_no_abort(service: Service) -> None:
    """A single put creates nothing in S3 before the client sends it."""
    with pytest.raises(StoreUnavailable):
        begin(
            service, PresignRequest("hello.txt", "text/plain", 11, None), signed_put(StoreUnavailable("no credentials"))
        )


def test_a_larger_file_gets_a_url_for_each_part(service: Service) -> None:
    """The new upload's parts have no ETags."""
    wanted = PresignRequest("hello.txt", "text/plain", UPLOAD.size, None)
    given = begin(service, wanted, created(), *signed_parts(key=ANY))
    parts: Any = given["parts"]
    assert [(part["number"], part["size"], part["etag"]) for part in parts] == [
        (1, PART, None),
        (2, PART, None),
        (3, 1, None),
    ]
    assert (given["next"], given["expires_in"]) == (None, 900)


def test_a_very_large_file_gets_its_urls_in_pages(service: Service) -> None:
    """A page has a hundred URLs and the path of the next page."""
    wanted = PresignRequest("hello.txt", "text/plain", 102 * PART, None)
    script = [signed_part(number, key=ANY) for number in range(1, 101)]
    given = begin(service, wanted, created(), *script)
    query = parse_qs(urlsplit(str(given["next"])).query)
    assert query["after"] == ["100"]
    upload = PresignedMultipart.from_query(
        service.seal, str(given["key"]), {name: one[0] for name, one in query.items()}, service.settings.limits
    )
    assert upload is not None
    named = {"Key": upload.key, "UploadId": "id"}
    second = play(
        presigned.list_parts(service, upload, 100),
        expect("list_parts", **named),
        signed_part(101, key=upload.key),
        signed_part(102, key=upload.key),
    )
    parts: Any = second["parts"]
    assert ([part["number"] for part in parts], second["next"]) == ([101, 102], None)


def listed_uploads(answer: object = None) -> Line:
    """The call that lists the uploads of the new key."""
    entry = {"Key": KEY, "UploadId": "id"}
    return expect("list_multipart_uploads", answer or {"Uploads": [entry]}, finished=True, Prefix=ANY)


def aborted(answer: object = None, *, finished: bool | None = True) -> Line:
    """The call that aborts the upload."""
    return expect("abort_multipart_upload", answer, finished=finished, **NAMED)


LARGE = PresignRequest("hello.txt", "text/plain", UPLOAD.size, None)


@pytest.mark.parametrize("error", [BUSY, KeyboardInterrupt()], ids=["busy", "cancelled"])
def test_a_failed_begin_aborts_uploads_with_lost_ids(service: Service, error: object) -> None:
    """The abort finishes even if the client disconnects, and the first error is raised."""
    with pytest.raises((StoreUnavailable, KeyboardInterrupt)):
        begin(service, LARGE, created(error), listed_uploads(), aborted())


def test_a_discarded_begin_takes_no_more_steps(service: Service) -> None:
    """A flow whose event loop ends without it is closed, and must not yield then."""
    flow = presigned.begin(service, LARGE, CONTEXT, a_hook)
    next(flow)
    flow.close()


def test_a_failed_signature_of_a_part_aborts_the_upload(service: Service) -> None:
    """The client gets no URL, so it could not complete the upload."""
    with pytest.raises(StoreUnavailable, match="no credentials"):
        begin(
            service,
            LARGE,
            created(),
            signed_part(1, key=ANY, answer=StoreUnavailable("no credentials")),
            listed_uploads(),
            aborted(),
        )


def test_a_failed_abort_after_a_failed_begin_goes_to_the_cleanup(service: Service) -> None:
    """The flow raises the error of the begin."""
    with pytest.raises(StoreRejected, match="AccessDenied"):
        begin(service, LARGE, created(DENIED), listed_uploads(BUSY))
    assert play(service.cleanup.try_all(), listed_uploads_later(), aborted(finished=False)) is True


def listed_uploads_later() -> Line:
    """The same list, requested by the cleanup."""
    return expect("list_multipart_uploads", {"Uploads": [{"Key": KEY, "UploadId": "id"}]}, Prefix=ANY)


def listed(*sizes: int, first: int = 1, answer: object = None) -> Line:
    """The call that lists the client's parts of these sizes."""
    parts = [{"PartNumber": number, "ETag": f'"{number}"', "Size": size} for number, size in enumerate(sizes, first)]
    return expect("list_parts", answer or {"Parts": parts}, **NAMED)


def test_a_page_names_the_etags_of_the_parts_that_s3_has(service: Service) -> None:
    """A part of another size has no ETag, because the client must send it again."""
    page = play(presigned.list_parts(service, UPLOAD, 0), listed(PART, 5), *signed_parts())
    parts: Any = page["parts"]
    assert [part["etag"] for part in parts] == ['"1"', None, None]


def test_the_parts_of_a_gone_upload_are_missing(service: Service) -> None:
    """The upload was completed or aborted before the client listed its parts."""
    with pytest.raises(ObjectMissing, match="completed or aborted"):
        play(presigned.list_parts(service, UPLOAD, 0), listed(answer=GONE))


def test_an_upload_is_aborted_once(service: Service) -> None:
    """A second abort raises ObjectMissing."""
    play(presigned.abort(service, UPLOAD), aborted(finished=False))
    with pytest.raises(ObjectMissing, match="completed or aborted"):
        play(presigned.abort(service, UPLOAD), aborted(GONE, finished=False))


class Object:
    """An object that S3 returns with a new body each time."""

    def __init__(self, seal: Seal, promise: Promise = PROMISE, **changed: Any) -> None:
        metadata = {**promise.metadata(seal, INCOMING), "request-id": "first-request"}
        named = {"ContentLength": promise.size, "ContentType": "text/plain", "ETag": '"e"', "Metadata": metadata}
        self._answer = named | changed
        self.bodies: list[io.BytesIO] = []

    def got(self) -> Line:
        """The call that gets the object."""
        self.bodies.append(io.BytesIO(b"hello world"))
        return expect("get_object", self._answer | {"Body": self.bodies[-1]}, client="uploads", Key=KEY)

    def read(self, answer: object = (11, SHA256)) -> list[Line]:
        """The calls that read the object back."""
        return [self.got(), expect("read_back", answer, Body=self.bodies[-1])]

    @property
    def closed(self) -> bool:
        """Whether each body was closed."""
        return bool(self.bodies) and all(body.closed for body in self.bodies)


@pytest.fixture
def sent(service: Service) -> Object:
    """The object that was promised."""
    return Object(service.seal)


def complete(service: Service, upload: PresignedMultipart | None, *script: Line) -> tuple[Stored, Promise]:
    """Play `complete`."""
    return play(presigned.complete(service, KEY, upload, "second-request"), *script)


RIGHT = Stored(INCOMING, 11, SHA256, "e", 1), PROMISE


def test_the_promised_object_is_the_file(service: Service, sent: Object) -> None:
    """A right object needs one read."""
    assert complete(service, None, *sent.read()) == RIGHT
    assert sent.closed


def test_a_file_without_a_promised_digest_is_read_back_too(service: Service) -> None:
    """The receipt has the digest of the bytes."""
    sent = Object(service.seal, Promise(11, 1, None, "bound", "first-request", "text/plain"))
    stored, promise = complete(service, None, *sent.read())
    assert (stored.sha256, promise.sha256) == (SHA256, None)


@pytest.mark.parametrize("refusal", [MISSING, Refusal(404, "NoSuchKey")])
def test_an_object_that_was_not_sent_is_missing(service: Service, refusal: Refusal) -> None:
    """The flow raises ObjectMissing after one call."""
    with pytest.raises(ObjectMissing):
        complete(service, None, expect("get_object", refusal, Key=KEY))


def test_an_object_of_another_handoff_is_missing(service: Service) -> None:
    """The object is not removed, and its body is not read."""
    sent = Object(service.seal, Metadata={})
    with pytest.raises(ObjectMissing, match="No presigned upload"):
        complete(service, None, sent.got())
    assert sent.closed


def removed(etag: str = "e", deletion: object = None) -> list[Line]:
    """The calls that remove the object that was read."""
    head = {"ContentLength": 11, "ETag": f'"{etag}"'}
    return [
        expect("head_object", head, finished=True, Key=KEY),
        expect("delete_object", deletion, finished=True, Key=KEY),
    ]


def wrong_length(seal: Seal) -> list[Line]:
    """Two reads of an object with another length in its headers."""
    sent = Object(seal, ContentLength=10)
    return [sent.got(), sent.got()]


def wrong_seal(seal: Seal) -> list[Line]:
    """Two reads of an object whose promise has the mark of another filename."""
    promise = PROMISE.metadata(seal, INCOMING)["promise"]
    sent = Object(seal, Metadata={"promise": promise, "filename": "UTF-8''other.txt", "request-id": "first-request"})
    return [sent.got(), sent.got()]


def wrong_bytes(seal: Seal) -> list[Line]:
    """Two reads of other bytes."""
    sent = Object(seal)
    return [*sent.read((11, OTHER)), *sent.read((11, OTHER))]


def fewer_bytes(seal: Seal) -> list[Line]:
    """Two reads of fewer bytes than the headers declare."""
    sent = Object(seal)
    return [*sent.read((10, OTHER)), *sent.read((10, OTHER))]


@pytest.mark.parametrize(
    ("reads", "error"),
    [
        pytest.param(wrong_length, SizeMismatch, id="another length"),
        pytest.param(wrong_seal, DigestMismatch, id="another seal"),
        pytest.param(wrong_bytes, DigestMismatch, id="other bytes"),
        pytest.param(fewer_bytes, SizeMismatch, id="fewer bytes"),
    ],
)
def test_an_object_that_is_wrong_twice_is_removed(
    service: Service, reads: Callable[[Seal], list[Line]], error: type[UploadError]
) -> None:
    """The second read shows that the bytes were not damaged in transit."""
    with pytest.raises(error):
        complete(service, None, *reads(service.seal), *removed())


def test_the_bodies_of_a_wrong_object_are_closed(service: Service) -> None:
    """The flow closes the bodies of both reads, read to the end or not."""
    for sent, answer in ((Object(service.seal), (11, OTHER)), (Object(service.seal, ContentLength=10), None)):
        script = [*sent.read(answer), *sent.read(answer)] if answer else [sent.got(), sent.got()]
        with pytest.raises((DigestMismatch, SizeMismatch)):
            complete(service, None, *script, *removed())
        assert sent.closed


def test_an_object_that_is_wrong_once_is_the_file(service: Service, sent: Object) -> None:
    """The bytes of the first read were damaged on the way to the app."""
    assert complete(service, None, *sent.read((11, OTHER)), *sent.read()) == RIGHT
    assert sent.closed


def test_two_different_reads_remove_nothing(service: Service, sent: Object) -> None:
    """At least one read was damaged, so the client may retry."""
    with pytest.raises(StoreUnavailable, match="Two reads"):
        complete(service, None, *sent.read((11, OTHER)), *sent.read((11, "1" * 64)))
    assert sent.closed


def test_another_type_removes_nothing(service: Service) -> None:
    """The bytes are right, and a proxy may have changed the type."""
    sent = Object(service.seal, ContentType="image/png")
    with pytest.raises(TypeMismatch):
        complete(service, None, *sent.read(), *sent.read())
    assert sent.closed


def checking(**settings: Any) -> Service:
    """Make a service that checks types."""
    return Service("flask", Settings(promise_secret="a secret of sixteen and more", **settings))


@pytest.mark.parametrize(
    ("settings", "declared", "detail"),
    [
        (
            {"allowed_types": ("image/*",)},
            "text/plain",
            r"The file is text/plain by its first bytes; allowed are image/\*",
        ),
        ({"store_found_type": True}, "image/png", "text/plain by its first bytes, but image/png was declared"),
    ],
    ids=["not allowed", "not the declared one"],
)
def test_an_object_whose_first_bytes_are_of_another_type_is_removed(
    settings: dict[str, Any], declared: str, detail: str
) -> None:
    """Two reads agree; the app cannot change the type of a stored object."""
    service = checking(**settings)
    sent = Object(service.seal, Promise(11, 1, SHA256, "bound", "first-request", declared), ContentType=declared)
    with pytest.raises(TypeNotAllowed, match=detail):
        complete(service, None, *sent.read(), *sent.read(), *removed())
    assert sent.closed


@pytest.mark.parametrize("settings", [{"allowed_types": ("text/plain",)}, {"store_found_type": True}])
def test_an_object_of_an_allowed_type_is_the_file(settings: dict[str, Any]) -> None:
    """One read proves it."""
    service = checking(**settings)
    assert complete(service, None, *Object(service.seal).read()) == RIGHT


@pytest.mark.parametrize("answer", [{"ContentLength": 11, "ETag": '"f"'}, MISSING], ids=["replaced", "removed"])
def test_a_replaced_object_is_not_removed(service: Service, sent: Object, answer: object) -> None:
    """The flow removes only the object that it has read."""
    script = [*sent.read((11, OTHER)), *sent.read((11, OTHER)), expect("head_object", answer, finished=True, Key=KEY)]
    with pytest.raises(DigestMismatch):
        complete(service, None, *script)
    assert not service.cleanup


def test_a_failed_removal_goes_to_the_cleanup(service: Service, sent: Object) -> None:
    """The cleanup checks again that the object was not replaced."""
    script = [*sent.read((11, OTHER)), *sent.read((11, OTHER)), *removed(deletion=BUSY)]
    with pytest.raises(DigestMismatch):
        complete(service, None, *script)
    head = expect("head_object", {"ContentLength": 11, "ETag": '"e"'}, Key=KEY)
    assert play(service.cleanup.try_all(), head, expect("delete_object", Key=KEY)) is True


def test_a_failed_read_closes_the_body(service: Service, sent: Object) -> None:
    """The error asks the client to complete the upload again."""
    with pytest.raises(StoreUnavailable, match="silence"):
        complete(service, None, *sent.read(StoreUnavailable("silence")))
    assert sent.closed


def test_a_cancelled_read_closes_the_body(service: Service, sent: Object) -> None:
    """The client has disconnected, or the process ends."""
    with pytest.raises(KeyboardInterrupt):
        complete(service, None, *sent.read(KeyboardInterrupt()))
    assert sent.closed


HEAD = {"ContentLength": 11, "ETag": '"e"'}
MADE = [{"PartNumber": number, "ETag": f'"{number}"'} for number in (1, 2, 3)]


def there(answer: object = None, *, finished: bool | None = None) -> Line:
    """The call that checks whether the object exists."""
    return expect("head_object", HEAD if answer is None else answer, finished=finished, Key=KEY)


def joined(answer: object = None) -> Line:
    """The call that makes one object of the parts."""
    answer = {"ETag": '"e-3"'} if answer is None else answer
    return expect("complete_multipart_upload", answer, finished=True, **NAMED, MultipartUpload={"Parts": MADE})


WHOLE = PART, PART, 1


def test_an_upload_that_was_completed_before_is_read_back(service: Service, sent: Object) -> None:
    """A second `complete` makes no second object."""
    assert complete(service, UPLOAD, there(), *sent.read()) == RIGHT


def test_an_upload_with_all_parts_is_completed(service: Service, sent: Object) -> None:
    """The list and the completion finish even if the client disconnects."""
    assert complete(service, UPLOAD, there(MISSING), listed(*WHOLE), joined(), *sent.read()) == RIGHT


def test_an_upload_that_another_request_has_completed_is_read_back(service: Service, sent: Object) -> None:
    """The other request completes it before the list, or between the list and the completion."""
    gone = listed(answer=GONE), there(finished=True)
    assert complete(service, UPLOAD, there(MISSING), *gone, *sent.read()) == RIGHT
    late = listed(*WHOLE), joined(GONE), there({"ETag": '"e"'}, finished=True)
    assert complete(service, UPLOAD, there(MISSING), *late, *sent.read()) == RIGHT


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param([listed(answer=GONE)], id="before the list"),
        pytest.param([listed(*WHOLE), joined(GONE), there(MISSING)], id="before the completion"),
    ],
)
def test_an_upload_that_is_gone_without_an_object_is_missing(service: Service, gone: list[Line]) -> None:
    """The flow aborts all uploads of the key."""
    script = *gone, there(MISSING, finished=True), listed_uploads(), aborted()
    with pytest.raises(ObjectMissing, match="completed or aborted"):
        complete(service, UPLOAD, there(MISSING), *script)
    assert count(service.metrics.aborts) == 1


@pytest.mark.parametrize(
    "parts", [pytest.param(listed(PART, PART), id="the last part"), pytest.param(listed(PART, 1, first=2), id="part 1")]
)
def test_parts_that_are_missing_twice_abort_the_upload(service: Service, parts: Line) -> None:
    """The second list shows that the first one was not damaged."""
    with pytest.raises(SizeMismatch):
        complete(service, UPLOAD, there(MISSING), parts, parts, aborted())


def test_parts_that_are_missing_once_are_completed(service: Service, sent: Object) -> None:
    """The first list was damaged."""
    script = listed(PART), listed(*WHOLE), joined()
    assert complete(service, UPLOAD, there(MISSING), *script, *sent.read()) == RIGHT


def test_two_different_lists_abort_nothing(service: Service) -> None:
    """At least one list was damaged, so the client may retry."""
    with pytest.raises(StoreUnavailable, match="Two lists"):
        complete(service, UPLOAD, there(MISSING), listed(PART), listed(PART, PART))
    assert count(service.metrics.aborts) == 0


def test_parts_that_s3_rejects_twice_abort_the_upload(service: Service) -> None:
    """Both lists are equal, so S3 rejects the parts themselves."""
    script = listed(*WHOLE), joined(DENIED), listed(*WHOLE), joined(DENIED)
    with pytest.raises(StoreRejected, match="AccessDenied"):
        complete(service, UPLOAD, there(MISSING), *script, aborted())


def test_a_list_without_etags_is_rejected_twice_before_the_abort(service: Service) -> None:
    """The flow requests the list once more before it aborts."""
    parts = [{"PartNumber": number, "Size": size} for number, size in enumerate(WHOLE, 1)]
    damaged = listed(answer={"Parts": parts})
    with pytest.raises(StoreRejected, match="has no ETag"):
        complete(service, UPLOAD, there(MISSING), damaged, damaged, aborted())


def test_a_failed_abort_of_a_completion_goes_to_the_cleanup(service: Service) -> None:
    """The flow raises the error about the parts."""
    with pytest.raises(SizeMismatch):
        complete(service, UPLOAD, there(MISSING), listed(PART), listed(PART), aborted(BUSY))
    assert play(service.cleanup.try_all(), aborted(finished=False)) is True


def test_a_busy_store_aborts_nothing(service: Service) -> None:
    """The parts may be right, so the client may retry."""
    with pytest.raises(StoreUnavailable):
        complete(service, UPLOAD, there(MISSING), listed(*WHOLE), joined(BUSY))
    assert not service.cleanup
