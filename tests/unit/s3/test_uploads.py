"""The uploads of one form's files: send, complete and undo."""

import io
from collections import deque
from concurrent.futures import Future
from hashlib import md5, sha256
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.s3.script import BUSY, DENIED, GONE, Line, count, expect, play

from filehandoff import logs
from filehandoff.digest import Digest, crc32_header
from filehandoff.errors import DigestMismatch, StoreRejected, StoreUnavailable
from filehandoff.parts import Part
from filehandoff.receipt import Incoming, Stored
from filehandoff.s3.calls import Finish, Flow
from filehandoff.s3.uploads import FileUpload, MultipartUpload, SinglePut, leave_to_cleanup, undo_all
from filehandoff.service import Service
from filehandoff.settings import Settings

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
INCOMING = Incoming(KEY, "hello.txt", "text/plain")
BYTES = b"hello world"
SHA256 = sha256(BYTES).hexdigest()
CRC32 = crc32(BYTES)
NAMED = {"Key": KEY, "ContentType": "text/plain", "Metadata": {"filename": "UTF-8''hello.txt"}}
UPLOAD = {"Key": KEY, "UploadId": "id"}
DELETED = expect("delete_object", Key=KEY)
ABORTED = expect("abort_multipart_upload", **UPLOAD)


def digest_of(data: bytes = BYTES) -> Digest:
    """Return the digest of these bytes."""
    digest = Digest()
    digest.update([data])
    return digest


def put(answer: object = None, key: str = KEY) -> Line:
    """The call that stores the file."""
    answer = {"ETag": '"e"', "ChecksumCRC32": crc32_header(CRC32)} if answer is None else answer
    return expect("put_object", answer, finished=True, **NAMED | {"Key": key}, ChecksumCRC32=crc32_header(CRC32))


def confirmed(size: int = len(BYTES), etag: str = "e") -> Line:
    """The call that confirms the stored object."""
    return expect("head_object", {"ContentLength": size, "ETag": f'"{etag}"'}, finished=True, Key=KEY)


def sent(upload: SinglePut) -> Flow[None]:
    """Send the file."""
    return upload.send(io.BytesIO(BYTES), CRC32, None)


def test_a_small_file_takes_one_call(service: Service) -> None:
    """The call finishes even if the client disconnects, because S3 might store a cancelled put."""
    upload = SinglePut(service, INCOMING, digest_of())
    play(sent(upload), put())
    assert play(upload.complete()) == Stored(INCOMING, len(BYTES), SHA256, "e", 1)


def test_a_broken_promise_sends_nothing(service: Service) -> None:
    """Neither the put nor the undo makes a call."""
    upload = SinglePut(service, Incoming(KEY, "hello.txt", "text/plain", "0" * 64), digest_of())
    with pytest.raises(DigestMismatch):
        play(sent(upload))
    play(upload.undo())


def test_an_undo_deletes_a_put_object(service: Service) -> None:
    """After the failure of another file, the undo deletes the object."""
    upload = SinglePut(service, INCOMING, digest_of())
    play(sent(upload), put())
    play(upload.undo(), DELETED)


@pytest.mark.parametrize("answer", [DENIED, BUSY, {}], ids=["denied", "busy", "no ETag"])
def test_an_undo_deletes_the_object_of_a_failed_put(service: Service, answer: object) -> None:
    """S3 may have stored the object, and only the response was lost."""
    upload = SinglePut(service, INCOMING, digest_of())
    with pytest.raises((StoreRejected, StoreUnavailable)):
        play(sent(upload), put(answer))
    play(upload.undo(), DELETED)


def test_an_undo_deletes_an_object_that_is_not_the_file(service: Service) -> None:
    """The response to the put proves nothing, and the object differs."""
    upload = SinglePut(service, INCOMING, digest_of())
    with pytest.raises(StoreRejected):
        play(sent(upload), put({"ETag": '"e"'}), confirmed(etag="f"))
    play(upload.undo(), DELETED)


def left_by(service: Service, flow: Flow[object]) -> Future[None]:
    """Abandon the flow's first call, and return the call's future."""
    step = next(flow)
    assert isinstance(step, Finish)
    assert step.leave is not None
    call = Future[None]()
    with logs.bound("a-request"):
        step.leave(call)
    assert service.cleanup
    assert not service.cleanup.waits
    return call


def test_an_abandoned_put_is_deleted_when_it_has_ended(service: Service) -> None:
    """An earlier deletion might precede the end of the put."""
    call = left_by(service, sent(SinglePut(service, INCOMING, digest_of())))
    assert play(service.cleanup.try_all()) is False
    call.set_result(None)
    assert play(service.cleanup.try_all(), DELETED) is True


def begun(answer: object = None) -> Line:
    """The call that creates the upload."""
    answer = {"UploadId": "id"} if answer is None else answer
    return expect("create_multipart_upload", answer, finished=True, **NAMED, ChecksumAlgorithm="CRC32")


def part_etag(number: int) -> str:
    """Return the ETag of the part of this number: the MD5 of its one byte."""
    return md5(bytes([number]), usedforsecurity=False).hexdigest()


def part_sent(number: int, answer: object = None) -> Line:
    """The call that sends the part of this number."""
    answer = {"ETag": f'"{part_etag(number)}"'} if answer is None else answer
    checksum = crc32_header(crc32(bytes([number])))
    return expect("upload_part", answer, **UPLOAD, PartNumber=number, ContentLength=1, ChecksumCRC32=checksum)


def completed(numbers: list[int], answer: object = None) -> Line:
    """The call that completes the upload of these parts."""
    answer = {"ETag": f'"{whole_etag(numbers)}"'} if answer is None else answer
    parts = [
        {"PartNumber": one, "ETag": f'"{part_etag(one)}"', "ChecksumCRC32": crc32_header(crc32(bytes([one])))}
        for one in numbers
    ]
    return expect("complete_multipart_upload", answer, finished=True, **UPLOAD, MultipartUpload={"Parts": parts})


def whole_etag(numbers: list[int]) -> str:
    """Return these parts' object's ETag: the MD5 of their MD5s, and their number."""
    md5s = b"".join(bytes.fromhex(part_etag(one)) for one in numbers)
    return f"{md5(md5s, usedforsecurity=False).hexdigest()}-{len(numbers)}"


def part(number: int) -> Part:
    """Make the part of this number, of one byte."""
    return Part(number, (bytes([number]),))


def multipart(service: Service, numbers: list[int], incoming: Incoming = INCOMING) -> MultipartUpload:
    """Make an upload whose parts were sent in this order."""
    upload = MultipartUpload(service, incoming)
    play(upload.begin(None), begun())
    for number in numbers:
        play(upload.send_part(part(number), crc32(bytes([number]))), part_sent(number))
    for number in sorted(numbers):
        upload.digest.update([bytes([number])])
    return upload


@given(st.permutations([1, 2, 3]))
def test_the_completion_lists_the_parts_in_order(numbers: list[int]) -> None:
    """S3 rejects any other order than that of the numbers."""
    upload = multipart(Service("flask", Settings()), numbers)
    stored = play(upload.complete(), completed([1, 2, 3]), confirmed(3, whole_etag([1, 2, 3])))
    assert stored == Stored(INCOMING, 3, sha256(b"\x01\x02\x03").hexdigest(), whole_etag([1, 2, 3]), 3)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"ETag": f'"{whole_etag([1])}"'}, id="the ETag of other parts"),
        pytest.param(
            {"ETag": f'"{whole_etag([1, 2])}"', "ChecksumCRC32": "AAAAAA==-2"}, id="the CRC-32 of other parts"
        ),
        pytest.param({}, id="no ETag"),
    ],
)
def test_a_damaged_answer_to_a_completion_is_rejected(service: Service, answer: dict[str, str]) -> None:
    """S3 made another object of the parts, which the undo deletes."""
    upload = multipart(service, [1, 2])
    with pytest.raises(StoreRejected):
        play(upload.complete(), completed([1, 2], answer))
    play(upload.undo(), expect("abort_multipart_upload", GONE, **UPLOAD), DELETED)


def test_another_object_than_the_completed_one_is_rejected(service: Service) -> None:
    """The confirmation rejects the object, even after a right response to the completion."""
    upload = multipart(service, [1, 2])
    with pytest.raises(StoreRejected):
        play(upload.complete(), completed([1, 2]), confirmed(3, whole_etag([1, 2])))


def test_a_part_releases_its_bytes(service: Service) -> None:
    """A rejected part releases its bytes too, because a traceback may hold the part."""
    upload = multipart(service, [])
    refused, taken = part(1), part(1)
    with pytest.raises(StoreRejected):
        play(upload.send_part(refused, crc32(b"\x01")), part_sent(1, DENIED))
    play(upload.send_part(taken, crc32(b"\x01")), part_sent(1))
    assert refused.chunks == taken.chunks == ()


def test_the_digest_of_all_parts_is_compared_with_the_promise(service: Service) -> None:
    """The check follows the last part, when the digest is known."""
    right = Incoming(KEY, "hello.txt", "text/plain", sha256(b"\x01").hexdigest())
    multipart(service, [1], right).check_digest()
    with pytest.raises(DigestMismatch):
        multipart(service, [2], right).check_digest()


def test_an_upload_that_was_not_begun_has_nothing_to_undo(service: Service) -> None:
    """The undo makes no call."""
    play(MultipartUpload(service, INCOMING).undo())


def test_an_undo_aborts(service: Service) -> None:
    """After a successful abort, the undo lists no other uploads."""
    play(multipart(service, [1]).undo(), ABORTED)
    assert count(service.metrics.aborts) == 1


def listed(*upload_ids: str) -> Line:
    """The call that lists the key's uploads."""
    entries = [{"Key": KEY, "UploadId": one} for one in upload_ids]
    return expect("list_multipart_uploads", {"Uploads": entries}, Prefix=KEY)


@pytest.mark.parametrize("answer", [BUSY, {}], ids=["no response", "a response without an id"])
def test_an_undo_finds_an_upload_whose_id_was_lost(service: Service, answer: object) -> None:
    """S3 may have created an upload whose id was lost."""
    upload = MultipartUpload(service, INCOMING)
    with pytest.raises((StoreUnavailable, StoreRejected)):
        play(upload.begin(None), begun(answer))
    play(upload.undo(), listed("lost"), expect("abort_multipart_upload", Key=KEY, UploadId="lost"))


def test_an_undo_looks_for_other_uploads_if_the_known_one_is_gone(service: Service) -> None:
    """The known id may be another upload's."""
    undo = multipart(service, [1]).undo()
    play(undo, expect("abort_multipart_upload", GONE, **UPLOAD), listed())


@pytest.mark.parametrize("refusal", [None, GONE], ids=["aborted", "gone"])
def test_an_undo_after_a_completion_deletes_the_object_too(service: Service, refusal: object) -> None:
    """S3 may have completed the upload, and only the response was lost."""
    upload = multipart(service, [1])
    with pytest.raises(StoreUnavailable):
        play(upload.complete(), completed([1], BUSY))
    play(upload.undo(), expect("abort_multipart_upload", refusal, **UPLOAD), DELETED)


def test_the_object_is_deleted_even_if_the_abort_fails(service: Service) -> None:
    """The undo still raises the failure, so that the cleanup retries it."""
    upload = multipart(service, [1])
    with pytest.raises(StoreUnavailable):
        play(upload.complete(), completed([1], BUSY))
    with pytest.raises(StoreRejected, match="AccessDenied"):
        play(upload.undo(), expect("abort_multipart_upload", DENIED, **UPLOAD), DELETED)


def test_an_abandoned_begin_or_completion_is_undone_when_it_has_ended(service: Service) -> None:
    """The undo of an upload without an id lists the uploads of its key."""
    left_by(service, MultipartUpload(service, INCOMING).begin(None)).set_result(None)
    play(service.cleanup.try_all(), listed())
    left_by(service, multipart(service, [1]).complete()).set_result(None)
    play(service.cleanup.try_all(), ABORTED, DELETED)


def begun_puts(service: Service, *keys: str) -> deque[FileUpload]:
    """Put files under these keys."""
    uploads = deque[FileUpload]()
    for key in keys:
        upload = SinglePut(service, Incoming(key, "hello.txt", "text/plain"), digest_of())
        play(sent(upload), put(key=key))
        uploads.append(upload)
    return uploads


def keys_of(uploads: deque[FileUpload]) -> list[str]:
    """Return the uploads' keys, in order."""
    return [upload.key for upload in uploads]


def test_all_uploads_of_a_form_are_undone_in_order(service: Service) -> None:
    """No upload is left afterwards."""
    left = begun_puts(service, "a", "b")
    play(undo_all(left), expect("delete_object", Key="a"), expect("delete_object", Key="b"))
    assert not left


@pytest.mark.parametrize("error", [DENIED, MemoryError()], ids=["denied", "memory"])
def test_an_upload_whose_undo_fails_is_kept(service: Service, error: object, caplog: pytest.LogCaptureFixture) -> None:
    """The others are still undone."""
    left = begun_puts(service, "a", "b", "c")
    script = expect("delete_object", Key="a"), expect("delete_object", error, Key="b"), expect("delete_object", Key="c")
    play(undo_all(left), *script)
    assert keys_of(left) == ["b"]
    assert "could not be removed yet" in caplog.text


def test_all_following_uploads_are_kept_if_s3_does_not_respond(service: Service) -> None:
    """Each further undo would only make the client wait."""
    left = begun_puts(service, "a", "b", "c", "d")
    script = (
        expect("delete_object", DENIED, Key="a"),
        expect("delete_object", Key="b"),
        expect("delete_object", StoreUnavailable("silence"), Key="c"),
    )
    play(undo_all(left), *script)
    assert sorted(keys_of(left)) == ["a", "c", "d"]


def test_a_failed_undo_of_a_form_logs_the_cause(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the network's message."""
    error = StoreUnavailable("silence")
    error.__cause__ = OSError("connection reset")
    play(undo_all(begun_puts(service, "a")), expect("delete_object", error, Key="a"))
    assert "connection reset" in caplog.text


def test_an_interrupted_undo_keeps_its_upload(service: Service) -> None:
    """The time limit may end the undo during a call."""
    left = begun_puts(service, "a", "b")
    flow = undo_all(left)
    next(flow)
    flow.close()
    assert keys_of(left) == ["a", "b"]


def test_the_cleanup_gets_each_upload_that_is_left(service: Service) -> None:
    """Each upload counts as a failed undo."""
    leave_to_cleanup(service, begun_puts(service, "a", "b"), "a-request")
    assert count(service.metrics.undo_failures) == 2
    play(service.cleanup.try_all(), expect("delete_object", Key="a"), expect("delete_object", Key="b"))
