"""Calls to S3 as values: what is sent, what the answer means, and which of our errors an error of S3's becomes.

Each is itself the shortest flow: `yield from head_object(key)` gives what S3 knows of the object.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

from filehandoff.digest import crc32_header
from filehandoff.errors import (
    GONE_CODES,
    BucketMissing,
    RangeNotSatisfiable,
    StoreRejected,
    StoreUnavailable,
    UploadGone,
    from_store_answer,
)
from filehandoff.http import ObjectInfo
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed, bare_etag, check_crc32, quoted_etag, require

#: A part as `complete_multipart_upload` names it.
type SentPart = dict[str, Any]
#: An answer of boto's, or an entry of one.
type Answer = Mapping[str, Any]
type Flow[T] = Generator["Step[Any]", Any, T]

SILENCE = "S3 did not answer. Nothing was stored; try again later."


class AbandonedCall(Protocol):
    """A flow that runs in another thread or task: a future."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Have the callback called at its end."""


class Step[T]:
    """One thing that a shell does for a flow, and that gives a `T`."""

    __slots__ = ()

    def __iter__(self) -> Flow[T]:
        """The flow of this one step."""
        result: T = yield self
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Call[T](Step[T]):
    """One S3 API call on the service's bucket.

    Attributes:
        operation: the name of boto's method.
        parameters: its keyword arguments, without `Bucket` and `Body`.
        read: makes the result of boto's answer; raises StoreRejected if the answer proves a fault.
        refused: makes the error of S3's answer: its HTTP status, its code and its message.
        client: which of the shell's clients sends it: downloads and probes may not wait for uploads.
        body: what is sent: a part or a file.
        hook: the boto event hook of the upload; the call's parameters are its argument.
        silence: the detail of the error if S3 does not answer.
    """

    operation: str
    parameters: Mapping[str, Any]
    read: Callable[[Answer], T]
    refused: Callable[[int, str, str], Exception] = from_store_answer
    client: Literal["uploads", "downloads", "probe"] = "uploads"
    body: "Part | IO[bytes] | None" = None
    hook: Any = None
    silence: str = SILENCE


@dataclass(frozen=True, slots=True)
class Presign(Step[str]):
    """A presigned URL for one call: S3 takes it for so many seconds from whoever sends it."""

    operation: Literal["put_object", "upload_part"]
    parameters: Mapping[str, Any]
    seconds: int
    hook: Any = None


@dataclass(frozen=True, slots=True)
class HeadProbe(Step[tuple[int, str] | None]):
    """A HEAD that skips botocore: the size in bytes and the ETag, in its quotes; None if it does not succeed."""

    key: str


@dataclass(frozen=True, slots=True)
class ReadBack(Step[tuple[int, str]]):
    """The size and the SHA-256 of an object, by its bytes: `body` is what `get_object` gave."""

    body: Any
    silence: str = "S3 broke off while the file was read back; complete it again."


@dataclass(frozen=True, slots=True)
class Finish[T](Step[T]):
    """A flow that runs to its end even if the client leaves meanwhile: what S3 begins unseen could not be removed.

    At the end of the process it is abandoned, if there is `leave`, which gets the future that still runs.
    """

    flow: Flow[T]
    leave: Callable[[AbandonedCall], object] | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """A multipart upload that S3 has begun; `retried` if an earlier try of the call may have begun another one."""

    upload_id: str | None
    retried: bool


@dataclass(frozen=True, slots=True)
class Page[T]:
    """One page of a list, and the parameters that ask for the next one; empty at the end."""

    entries: Sequence[T]
    following: Mapping[str, Any]


def put_object(incoming: Incoming, body: "Part | IO[bytes]", crc32: int, hook: Any) -> Call[str]:
    """Store a file and return its ETag without quotes; S3 refuses bytes of another CRC-32."""
    checksum = crc32_header(crc32)

    def read(answer: Answer) -> str:
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return bare_etag(answer)

    named = {"Key": incoming.key, "ContentType": incoming.content_type, "Metadata": incoming.metadata()}
    return Call(
        operation="put_object", parameters={**named, "ChecksumCRC32": checksum}, read=read, body=body, hook=hook
    )


def create_multipart(incoming: Incoming, hook: Any, metadata: dict[str, str] | None = None) -> Call[Created]:
    """Begin a multipart upload; with `metadata` the client sends the parts, without checksums of ours."""
    named = {
        "Key": incoming.key,
        "ContentType": incoming.content_type,
        "Metadata": metadata or incoming.metadata(),
    }
    return Call(
        operation="create_multipart_upload",
        parameters=named if metadata else named | {"ChecksumAlgorithm": "CRC32"},
        read=lambda answer: Created(
            answer.get("UploadId"), bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))
        ),
        hook=hook,
    )


def upload_part(key: str, upload_id: str, part: Part, crc32: int) -> Call[SentPart]:
    """Send one part and return its name for `complete_multipart`; S3 refuses bytes of another CRC-32."""
    checksum = crc32_header(crc32)

    def read(answer: Answer) -> SentPart:
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return {"PartNumber": part.number, "ETag": quoted_etag(answer), "ChecksumCRC32": checksum}

    return Call(
        operation="upload_part",
        parameters={
            "Key": key,
            "UploadId": upload_id,
            "PartNumber": part.number,
            "ContentLength": part.size,
            "ChecksumCRC32": checksum,
        },
        read=read,
        body=part,
    )


def complete_multipart(key: str, upload_id: str, parts: Sequence[SentPart]) -> Call[Completed]:
    """Make one object of the parts, given in order.

    Raises:
        UploadGone: S3 has no such upload, or has it no more.
    """
    return Call(
        operation="complete_multipart_upload",
        parameters={"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}},
        read=Completed.from_s3,
        refused=_gone,
    )


def head_completed(key: str) -> Call[Completed]:
    """Return what S3 knows of the object that an earlier completion has made.

    Raises:
        ObjectMissing: there is none.
    """
    return Call(operation="head_object", parameters={"Key": key}, read=Completed.from_s3)


def list_parts(key: str, upload_id: str, following: Mapping[str, Any]) -> Call[Page[Answer]]:
    """List one page of the parts that S3 has of a multipart upload, in order.

    Raises:
        UploadGone: S3 has no such upload.
    """
    return Call(
        operation="list_parts",
        parameters={"Key": key, "UploadId": upload_id, **following},
        read=lambda answer: _page(answer, "Parts", ("PartNumberMarker", "NextPartNumberMarker")),
        refused=_gone,
    )


def abort_multipart(key: str, upload_id: str) -> Call[None]:
    """End a multipart upload without an object.

    Raises:
        UploadGone: S3 has no such upload.
    """
    return Call(
        operation="abort_multipart_upload",
        parameters={"Key": key, "UploadId": upload_id},
        read=lambda _: None,
        refused=_gone,
    )


def list_multipart_uploads(prefix: str, bucket: str, following: Mapping[str, Any]) -> Call[Page[Unfinished]]:
    """List one page of the multipart uploads below a prefix that were neither completed nor aborted.

    Raises:
        BucketMissing: there is no such bucket.
        UploadGone: there are no uploads; rclone answers so.
    """

    def refused(status: int, code: str, message: str) -> Exception:
        return BucketMissing(bucket) if code == "NoSuchBucket" else _gone(status, code, message)

    def read(answer: Answer) -> Page[Unfinished]:
        markers = ("KeyMarker", "NextKeyMarker"), ("UploadIdMarker", "NextUploadIdMarker")
        page: Page[Answer] = _page(answer, "Uploads", *markers)
        return Page([Unfinished.from_s3(entry) for entry in page.entries], page.following)

    return Call(
        operation="list_multipart_uploads", parameters={"Prefix": prefix, **following}, read=read, refused=refused
    )


def head_object(key: str) -> Call[ObjectInfo]:
    """Return what S3 knows of an object.

    Raises:
        ObjectMissing: there is none.
    """
    return Call(operation="head_object", parameters={"Key": key}, read=lambda answer: ObjectInfo.from_s3(key, answer))


def get_object(
    key: str, byte_range: str | None = None, client: Literal["uploads", "downloads"] = "uploads"
) -> Call[tuple[ObjectInfo, Any]]:
    """Return an object, or one range of it, and its body, which the caller must read to the end or close.

    Raises:
        ObjectMissing: there is none.
        RangeNotSatisfiable: S3 has nothing in this range.
    """

    def read(answer: Answer) -> tuple[ObjectInfo, Any]:
        try:
            return ObjectInfo.from_s3(key, answer), answer["Body"]
        except StoreRejected:
            answer["Body"].close()  # an open one holds a connection of the pool
            raise

    def refused(status: int, code: str, message: str) -> Exception:
        if byte_range and status == RangeNotSatisfiable.status:
            return RangeNotSatisfiable("The object has no byte of this range.")
        return from_store_answer(status, code, message)

    return Call(
        operation="get_object",
        parameters={"Key": key, **({"Range": byte_range} if byte_range else {})},
        read=read,
        refused=refused,
        client=client,
        silence="S3 did not answer, or too many others are downloading; try again later."
        if client == "downloads"
        else SILENCE,
    )


def delete_object(key: str) -> Call[None]:
    """Remove an object; S3 takes one that is gone for a success too."""
    return Call(operation="delete_object", parameters={"Key": key}, read=lambda _: None)


def head_bucket(bucket: str) -> Call[None]:
    """Ask for the bucket, by a client with short time limits.

    Raises:
        BucketMissing: S3 says that there is none.
        StoreUnavailable: S3 does not answer, or not for this bucket.
    """

    def refused(status: int, _code: str, message: str) -> Exception:
        if status == 404:  # noqa: PLR2004 - HTTP's Not Found
            return BucketMissing(bucket)
        return StoreUnavailable(f"S3 does not give us the bucket '{bucket}': {status} {message}")

    silence = "S3 did not answer within a second."
    return Call(
        operation="head_bucket",
        parameters={},
        read=lambda _: None,
        refused=refused,
        client="probe",
        silence=silence,
    )


def _gone(status: int, code: str, message: str) -> Exception:
    return UploadGone() if code in GONE_CODES else from_store_answer(status, code, message)


def _page(answer: Answer, name: str, *markers: tuple[str, str]) -> Page[Answer]:
    following = {ours: require(answer, next_) for ours, next_ in markers} if answer.get("IsTruncated") else {}
    return Page(answer.get(name, []), following)
