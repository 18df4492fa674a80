"""The null store's rules, without I/O: the requests that S3 accepts or refuses.

It checks lengths, part numbers and ETags, but no signatures or checksums. It returns the checksum that came with the
bytes, as S3 does after checking it. It keeps sizes, and bytes only of objects whose name asks for it.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.etree import ElementTree as ET

from benchmarks.null_requests import STATS, UNKNOWN, WITH_BYTES, Answer, Refused, Request, digits, element, result

#: S3's limits for a part, in bytes. The last part may be smaller; a single put has the same upper limit.
SMALLEST_PART = 5 * 2**20
LARGEST_PART = 5 * 2**30
LAST_PART_NUMBER = 10_000

#: Objects whose file name begins so keep their bytes, to be read back and compared.
KEPT = "kept-"

#: Limit for the body that completes an upload: room for 10,000 parts, each with a checksum.
_COMPLETION_BYTES = 4 * 2**20

#: Headers that would change the operation or the meaning of the length; ignoring them would do something else.
_LENGTH_HEADERS = {"transfer-encoding", "x-amz-decoded-content-length"}
_DECISIVE_HEADERS = {"x-amz-copy-source", "if-match", "if-none-match", "range"}
#: Checksums of an object or part.
_CHECKSUMS = {f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")}


@dataclass(frozen=True)
class Stored:
    """The remains of an object or part; `body` is set only if it is kept."""

    size: int
    etag: str
    modified: datetime
    body: bytes | None = None


@dataclass
class Upload:
    """An unfinished multipart upload, with its parts by number."""

    bucket: str
    key: str
    started: datetime
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass(frozen=True)
class Stats:
    """The store's contents and its counters since the start; requests for them are not counted."""

    #: Sizes in bytes by key, over all buckets.
    objects: dict[str, int]
    #: Keys by upload id of the multipart uploads that were neither completed nor aborted.
    unfinished: dict[str, str]
    #: Bytes of all bodies, including those of refused and interrupted requests.
    bytes_received: int
    #: Number of requests by S3's name of the operation; `unknown` for unsupported ones.
    requests: dict[str, int]
    #: Most connections open at once; each counts from its first request.
    most_connections: int
    #: Most `UploadPart` requests at once; each counts from its head to its answer.
    most_parts: int


class Store:
    """An S3 server's state without I/O.

    Call `check` after a request's head, `perform` after its body.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.bytes_received = 0
        self._uploads: dict[str, Upload] = {}
        self._ids = itertools.count(1)
        self._requests = Counter[str]()
        self._connections = self._most_connections = 0
        self._parts = self._most_parts = 0
        self._operations: dict[str, Callable[[Request, bytes], Answer]] = {
            "CreateBucket": self._create_bucket,
            "HeadBucket": lambda _request, _body: Answer(),
            "ListMultipartUploads": self._list_uploads,
            "ListObjectsV2": self._list_objects,
            "PutObject": self._put_object,
            "HeadObject": self._head_object,
            "GetObject": self._get_object,
            "DeleteObject": self._delete_object,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
            STATS: self._stats,
        }

    def connected(self) -> None:
        """Count a connection at its first request."""
        self._connections += 1
        self._most_connections = max(self._most_connections, self._connections)

    def disconnected(self) -> None:
        """Count the end of a connection."""
        self._connections -= 1

    def began(self, request: Request) -> None:
        """Count a request after its head."""
        self._requests[request.operation] += 1
        self._parts += request.operation == "UploadPart"
        self._most_parts = max(self._most_parts, self._parts)

    def ended(self, request: Request) -> None:
        """Count the end of a request, by its answer or by a lost connection."""
        self._parts -= request.operation == "UploadPart"

    def check(self, request: Request) -> None:
        """Check everything that the head alone decides.

        Raises:
            Refused: the request is invalid or unsupported.
        """
        operation = request.operation
        if operation == STATS:
            return
        if operation == UNKNOWN or request.query.get("list-type", "2") != "2":
            raise Refused("NotImplemented")
        decisive = _DECISIVE_HEADERS if request.is_chunked else _DECISIVE_HEADERS | _LENGTH_HEADERS
        for header in decisive & request.headers.keys():
            raise Refused("NotImplemented", Header=header)
        if operation != "CreateBucket" and request.bucket not in self.buckets:
            raise Refused("NoSuchBucket", BucketName=request.bucket)
        if operation in WITH_BYTES:
            _check_length(request)
        if operation == "CompleteMultipartUpload" and (request.length or 0) > _COMPLETION_BYTES:
            raise Refused("MaxMessageLengthExceeded", MaxMessageLengthBytes=_COMPLETION_BYTES)
        if operation == "UploadPart":
            _part_number(request)
        if "uploadId" in request.query:
            self._upload(request)

    def keeps(self, request: Request) -> bool:
        """Whether the store needs the body of this request, not only its length."""
        is_kept = request.key.rpartition("/")[2].startswith(KEPT)
        return request.operation == "CompleteMultipartUpload" or (is_kept and request.operation in WITH_BYTES)

    def perform(self, request: Request, body: bytes) -> Answer:
        """Perform a request whose body has arrived; `body` is empty if it was thrown away.

        Raises:
            Refused: the request is invalid, perhaps because the state has changed since `check`.
        """
        self.check(request)
        return self._operations[request.operation](request, body)

    def _create_bucket(self, request: Request, _body: bytes) -> Answer:
        self.buckets.setdefault(request.bucket, {})
        return Answer(headers={"Location": f"/{request.bucket}"})

    def _list_uploads(self, request: Request, _body: bytes) -> Answer:
        prefix = request.query.get("prefix", "")
        listed = [
            element("Upload", {"Key": upload.key, "UploadId": upload_id, "Initiated": _iso(upload.started)})
            for upload_id, upload in sorted(self._uploads.items(), key=lambda item: (item[1].key, item[0]))
            if upload.bucket == request.bucket and upload.key.startswith(prefix)
        ]
        about = {"Bucket": request.bucket, "Prefix": prefix, "IsTruncated": "false"}
        return result("ListMultipartUploadsResult", about, *listed)

    def _list_objects(self, request: Request, _body: bytes) -> Answer:
        prefix = request.query.get("prefix", "")
        listed = [
            element("Contents", {"Key": key, "LastModified": _iso(it.modified), "ETag": it.etag, "Size": it.size})
            for key, it in sorted(self.buckets[request.bucket].items())
            if key.startswith(prefix)
        ]
        about = {"Name": request.bucket, "Prefix": prefix, "KeyCount": len(listed), "IsTruncated": "false"}
        return result("ListBucketResult", about, *listed)

    def _put_object(self, request: Request, body: bytes) -> Answer:
        stored = self._stored(request, body)
        self.buckets[request.bucket][request.key] = stored
        return _received(request, stored)

    def _head_object(self, request: Request, _body: bytes) -> Answer:
        stored = self.buckets[request.bucket].get(request.key)
        if stored is None:
            raise Refused("NoSuchKey", Key=request.key)
        return Answer(
            headers={
                "Content-Length": str(stored.size),
                "Content-Type": "binary/octet-stream",  # S3's default for a put without a type
                "ETag": stored.etag,
                "Last-Modified": format_datetime(stored.modified, usegmt=True),
            }
        )

    def _get_object(self, request: Request, body: bytes) -> Answer:
        head = self._head_object(request, body)
        kept = self.buckets[request.bucket][request.key].body
        if kept is None:
            raise Refused("NotImplemented")
        return Answer(headers=head.headers, body=kept)

    def _delete_object(self, request: Request, _body: bytes) -> Answer:
        self.buckets[request.bucket].pop(request.key, None)
        return Answer(204)

    def _create_upload(self, request: Request, _body: bytes) -> Answer:
        upload_id = f"upload{next(self._ids):08x}"
        self._uploads[upload_id] = Upload(request.bucket, request.key, datetime.now(UTC))
        about = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload_id}
        return result("InitiateMultipartUploadResult", about)

    def _upload_part(self, request: Request, body: bytes) -> Answer:
        stored = self._stored(request, body)
        self._upload(request).parts[_part_number(request)] = stored
        return _received(request, stored)

    def _complete_upload(self, request: Request, body: bytes) -> Answer:
        parts = _completed_parts(self._upload(request), body)
        etag = f'"{self._etag()}-{len(parts)}"'
        size = sum(part.size for part in parts)
        kept = None if any(part.body is None for part in parts) else b"".join(part.body or b"" for part in parts)
        self.buckets[request.bucket][request.key] = Stored(size, etag, datetime.now(UTC), kept)
        del self._uploads[request.query["uploadId"]]
        about = {"Bucket": request.bucket, "Key": request.key, "ETag": etag}
        return result("CompleteMultipartUploadResult", about)

    def _abort_upload(self, request: Request, _body: bytes) -> Answer:
        del self._uploads[request.query["uploadId"]]
        return Answer(204)

    def _stats(self, _request: Request, _body: bytes) -> Answer:
        stats = Stats(
            objects={key: stored.size for objects in self.buckets.values() for key, stored in objects.items()},
            unfinished={upload_id: upload.key for upload_id, upload in self._uploads.items()},
            bytes_received=self.bytes_received,
            requests=dict(self._requests),
            most_connections=self._most_connections,
            most_parts=self._most_parts,
        )
        return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(asdict(stats)).encode())

    def _upload(self, request: Request) -> Upload:
        """Find the unfinished upload with this id and key."""
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (request.bucket, request.key):
            raise Refused("NoSuchUpload", UploadId=request.query["uploadId"])
        return upload

    def _stored(self, request: Request, body: bytes) -> Stored:
        """Make the record of a received object or part."""
        kept = body if self.keeps(request) else None
        return Stored(request.length or 0, f'"{self._etag()}"', datetime.now(UTC), kept)

    def _etag(self) -> str:
        """Make a new ETag without quotes that cannot be mistaken for an MD5."""
        return f"null{next(self._ids):08x}"


def _received(request: Request, stored: Stored) -> Answer:
    """Make the response to a received object or part."""
    checksums = {name: request.headers[name] for name in _CHECKSUMS & request.headers.keys()}
    return Answer(headers={"ETag": stored.etag, **checksums})


def _check_length(request: Request) -> None:
    if request.length is None:
        raise Refused("MissingContentLength")
    if request.length > LARGEST_PART:
        raise Refused("EntityTooLarge", ProposedSize=request.length, MaxSizeAllowed=LARGEST_PART)


def _part_number(request: Request) -> int:
    text = request.query["partNumber"]
    number = digits(text)
    if number is None or not 1 <= number <= LAST_PART_NUMBER:
        raise Refused("InvalidArgument", ArgumentName="partNumber", ArgumentValue=text)
    return number


def _completed_parts(upload: Upload, completion: bytes) -> list[Stored]:
    """Find the parts that a completion lists."""
    named = _named_parts(completion)
    if any(number >= following for (number, _), (following, _) in itertools.pairwise(named)):
        raise Refused("InvalidPartOrder")
    chosen = []
    for number, etag in named:
        part = upload.parts.get(number)
        if part is None or part.etag.strip('"') != etag:
            raise Refused("InvalidPart", PartNumber=number, ETag=etag)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < SMALLEST_PART:
            raise Refused("EntityTooSmall", ProposedSize=part.size, MinSizeAllowed=SMALLEST_PART, ETag=part.etag)
    return chosen


def _named_parts(completion: bytes) -> list[tuple[int, str]]:
    """Parse the part numbers and unquoted ETags of a completion, in its order."""
    try:
        # {*} is any namespace or none; S3 accepts both
        parts = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip('"'))
            for part in ET.fromstring(completion).iterfind("{*}Part")  # noqa: S314 - on loopback, from our own apps
        ]
    except (ET.ParseError, ValueError):
        parts = []
    if not parts:
        raise Refused("MalformedXML")
    return parts


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"
