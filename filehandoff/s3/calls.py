"""Calls to S3 as values: parameters, parsing of the response, and mapping of errors.

Each call is the shortest flow: `yield from head_object(key)` returns the object's headers.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from filehandoff.digest import crc32_header, md5_of
from filehandoff.errors import (
    GONE_CODES,
    BucketMissing,
    RangeNotSatisfiable,
    StoreRejected,
    StoreUnavailable,
    UploadGone,
    from_store_answer,
)
from filehandoff.file_types import FirstBytes
from filehandoff.http import ObjectInfo
from filehandoff.parts import Part, chunks_of
from filehandoff.receipt import Incoming
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed, bare_etag, check_crc32, quoted_etag, require

T = TypeVar("T")

#: A sent part, as `complete_multipart_upload` requires it.
SentPart: TypeAlias = dict[str, Any]
#: A response of boto's, or an entry of one.
Answer: TypeAlias = Mapping[str, Any]
Flow: TypeAlias = Generator["Step[Any]", Any, T]

SILENCE = "S3 did not respond. Nothing was stored; try again later."


class AbandonedCall(Protocol):
    """A call that still runs in another thread or task: a future."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Run the callback at the end of the call."""


class Receiver(Protocol):
    """A reader of an object's bytes while they arrive."""

    def receive(self, chunk: bytes, /) -> bytes:
        """Take the next bytes, and return them."""


class Exists(Exception):
    """S3 did not store an object, because its key has one."""


class Step(Generic[T]):
    """One action that a shell performs for a flow; its result is a `T`."""

    __slots__ = ()

    def __iter__(self) -> Flow[T]:
        """Return the flow of this one step."""
        result: T = yield self
        return result


@dataclass(slots=True, kw_only=True)
class Call(Step[T]):
    """One S3 API call on the service's bucket.

    Attributes:
        operation: the name of boto's method.
        parameters: its keyword arguments, without `Bucket` and `Body`.
        read: makes the result from boto's response; raises StoreRejected for a faulty response.
        refused: makes the error from S3's HTTP status, code and message.
        client: the shell's client for the call; downloads and probes must not wait for uploads.
        body: a part or a file.
        hook: the boto event hook of the upload; boto passes it the call's parameters.
        silence: the detail of the error if S3 does not respond.
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
    """A presigned URL for one call, valid for `seconds`, from any sender."""

    operation: Literal["put_object", "upload_part"]
    parameters: Mapping[str, Any]
    seconds: int
    hook: Any = None


@dataclass(frozen=True, slots=True)
class Md5(Step[str]):
    """The MD5 of a whole body in lowercase hex, read again from its first byte."""

    body: "Part | IO[bytes]"

    def compute(self) -> str:
        """Read the body and return the MD5; reading a file blocks."""
        return md5_of(chunks_of(self.body))


@dataclass(frozen=True, slots=True)
class Compute(Step[T]):
    """A computation on `size` bytes, which may take milliseconds."""

    work: Callable[[], T]
    size: int


@dataclass(frozen=True, slots=True)
class ReadBack(Step[tuple[int, str]]):
    """A read of the whole body of `get_object`, for its size and its SHA-256; `head` receives its bytes too."""

    body: Any
    head: Receiver = field(default_factory=FirstBytes)
    silence: str = "S3 stopped sending while the object was read back; complete it again."


@dataclass(slots=True)
class Finish(Step[T]):
    """A flow that finishes even if the client disconnects, so that it can be undone.

    When the process ends, the shell abandons the flow if there is a `leave`, and passes `leave` the running future.
    """

    flow: Flow[T]
    leave: Callable[[AbandonedCall], object] | None = None


@dataclass(slots=True)
class Put:
    """A stored file: its ETag without quotes, and whether the response has the CRC-32 of the bytes sent."""

    etag: str
    checked: bool


@dataclass(frozen=True, slots=True)
class Created:
    """A new multipart upload; `retried` if an earlier attempt may have created another one."""

    upload_id: str | None
    retried: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and the parameters for the next page, if any."""

    entries: Sequence[T]
    following: Mapping[str, Any]


def put_object(
    incoming: Incoming, body: "Part | IO[bytes]", crc32: int, hook: Any, *, only_new: bool = False
) -> Call[Put]:
    """Store a file; S3 rejects bytes with another CRC-32.

    Raises:
        Exists: with `only_new`, the key has an object already, or gets one at the same time.
    """
    checksum = crc32_header(crc32)

    def read(answer: Answer) -> Put:
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return Put(bare_etag(answer), checked="ChecksumCRC32" in answer)

    named = {"Key": incoming.key, "ContentType": incoming.content_type, "Metadata": incoming.metadata()}
    condition = {"IfNoneMatch": "*"} if only_new else {}
    return Call(
        operation="put_object",
        parameters={**named, "ChecksumCRC32": checksum, **condition},
        read=read,
        refused=_exists if only_new else from_store_answer,
        body=body,
        hook=hook,
    )


def create_multipart(incoming: Incoming, hook: Any, metadata: dict[str, str] | None = None) -> Call[Created]:
    """Create a multipart upload; with `metadata`, the client sends the parts, without our checksums."""
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
    """Send one part and return its entry for `complete_multipart`; S3 rejects another CRC-32.

    Raises:
        UploadGone: S3 has no such upload, or no longer has it.
    """
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
        refused=_gone,
        body=part,
    )


def complete_multipart(key: str, upload_id: str, parts: Sequence[SentPart]) -> Call[Completed]:
    """Make one object of the parts, which must be in order.

    Raises:
        UploadGone: S3 has no such upload, or no longer has it.
    """
    return Call(
        operation="complete_multipart_upload",
        parameters={"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": parts}},
        read=Completed.from_s3,
        refused=_gone,
    )


def head_completed(key: str) -> Call[Completed]:
    """Return the headers of an object that an earlier completion has made.

    Raises:
        ObjectMissing: there is no such object.
    """
    return Call(operation="head_object", parameters={"Key": key}, read=Completed.from_s3)


def list_parts(key: str, upload_id: str, following: Mapping[str, Any]) -> Call[Page[Answer]]:
    """List one page of a multipart upload's parts, in order.

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
    """Abort a multipart upload.

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
    """List one page of the unfinished multipart uploads below a prefix.

    Raises:
        BucketMissing: there is no such bucket.
        UploadGone: there are no uploads; rclone responds with this error.
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
    """Return an object's headers.

    Raises:
        ObjectMissing: there is no such object.
    """
    return Call(operation="head_object", parameters={"Key": key}, read=lambda answer: ObjectInfo.from_s3(key, answer))


def get_object(
    key: str, byte_range: str | None = None, client: Literal["uploads", "downloads"] = "uploads"
) -> Call[tuple[ObjectInfo, Any]]:
    """Return an object's or a range's headers and body; the caller must close the body.

    Raises:
        ObjectMissing: there is no such object.
        RangeNotSatisfiable: the object has no byte in this range.
    """

    def read(answer: Answer) -> tuple[ObjectInfo, Any]:
        try:
            return ObjectInfo.from_s3(key, answer), answer["Body"]
        except StoreRejected:
            answer["Body"].close()  # an open body holds a connection of the pool
            raise

    def refused(status: int, code: str, message: str) -> Exception:
        if byte_range and status == RangeNotSatisfiable.status:
            return RangeNotSatisfiable("The object has no byte in this range.")
        return from_store_answer(status, code, message)

    return Call(
        operation="get_object",
        parameters={"Key": key, **({"Range": byte_range} if byte_range else {})},
        read=read,
        refused=refused,
        client=client,
        silence="S3 did not respond, or too many downloads are in progress; try again later."
        if client == "downloads"
        else SILENCE,
    )


def delete_object(key: str) -> Call[None]:
    """Delete an object; a missing object is a success too."""
    return Call(operation="delete_object", parameters={"Key": key}, read=lambda _: None)


def delete_objects(keys: Sequence[str]) -> Call[None]:
    """Delete up to 1,000 objects; a missing object is a success too, and an object that cannot be deleted stays."""
    named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    return Call(operation="delete_objects", parameters={"Delete": named}, read=lambda _: None)


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a list, and its age in seconds by the store's own clock."""

    key: str
    age: float


def list_objects(prefix: str, following: Mapping[str, Any]) -> Call[Page[Listed]]:
    """List one page of the objects below a prefix, in the order of their keys."""

    def read(answer: Answer) -> Page[Listed]:
        page = _page(answer, "Contents", ("ContinuationToken", "NextContinuationToken"))
        now = _date(answer)
        ages = ((now - entry["LastModified"]).total_seconds() for entry in page.entries)
        listed = [Listed(entry["Key"], max(0.0, age)) for entry, age in zip(page.entries, ages, strict=True)]
        return Page(listed, page.following)

    return Call(operation="list_objects_v2", parameters={"Prefix": prefix, **following}, read=read)


def _date(answer: Answer) -> datetime:
    """Return the time of a response by the store's clock; by ours, if the response has none."""
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(header)
    except ValueError:
        return datetime.now(UTC)


def head_bucket(bucket: str) -> Call[None]:
    """Check that the bucket exists, with a client that has short timeouts.

    Raises:
        BucketMissing: there is no such bucket.
        StoreUnavailable: S3 does not respond, or gives no access to the bucket.
    """

    def refused(status: int, _code: str, message: str) -> Exception:
        if status == 404:  # noqa: PLR2004 - HTTP's Not Found
            return BucketMissing(bucket)
        return StoreUnavailable(f"S3 gives no access to the bucket '{bucket}': {status} {message}")

    silence = "S3 did not respond within a second."
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


#: S3's statuses for a put whose key has an object already, and for two such puts at once.
_EXISTS = frozenset({409, 412})
_NOT_IMPLEMENTED = 501


def _exists(status: int, code: str, message: str) -> Exception:
    if status == _NOT_IMPLEMENTED:
        return StoreRejected("S3 does not support If-None-Match.")
    return Exists() if status in _EXISTS else from_store_answer(status, code, message)


def _page(answer: Answer, name: str, *markers: tuple[str, str]) -> Page[Answer]:
    following = {ours: require(answer, next_) for ours, next_ in markers} if answer.get("IsTruncated") else {}
    return Page(answer.get(name, []), following)
