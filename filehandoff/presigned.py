"""Presigned uploads: the client's request, the URLs, the promise, and the check of the object.

The app keeps no state between the request for a URL and the request to complete. The promise (size, SHA-256, request
id and more) is metadata of the object, and the URL's signature covers it. Any process with the same secret can check
it. S3 rejects other metadata by its own signature; our seal protects the promise in stores that check no signature.

The app reads the object back, and removes an object that breaks its promise. A removal loses the client's file, and
bytes can be damaged on the way to the app, so two reads must agree before it.
"""

import base64
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from filehandoff.digest import SHA256_PATTERN, from_hex
from filehandoff.errors import (
    BodyTooLarge,
    DigestMismatch,
    FileTooLarge,
    JsonMalformed,
    ObjectMissing,
    SizeMismatch,
    TypeMismatch,
)
from filehandoff.errors import UnsupportedMediaType as Unsupported
from filehandoff.file_types import FileTypes, media_type
from filehandoff.form import DEFAULT_CONTENT_TYPE, is_media_type
from filehandoff.http import ObjectInfo
from filehandoff.keys import clean_name, decode_name
from filehandoff.parts import MAX_PART_BYTES, MIN_PART_BYTES, PAGE_PARTS, PartSizes
from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA, Incoming, Stored
from filehandoff.s3 import options
from filehandoff.settings import Limits
from filehandoff.verify import quoted_etag

PROMISE_METADATA = "promise"
JSON = "application/json"

#: A promise as metadata: version, size, number of parts, SHA-256 if any, hook, media type, id of the signing key, mark.
_PROMISE = re.compile(
    rf"3\.(\d{{1,15}})\.(\d{{1,5}})\.({SHA256_PATTERN}|)\.([a-z]*)\.([!-~]*)\.([\w-]*)\.([\w-]*)", re.ASCII
)
#: Types that do not describe the bytes: stores return one of them if they lost the type.
_UNKNOWN_TYPES = frozenset({"", DEFAULT_CONTENT_TYPE, "binary/octet-stream"})
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PresignRequest:
    """The JSON body of a request; `size` is in bytes, `sha256` lowercase hex or None."""

    filename: str
    content_type: str
    size: int
    sha256: str | None


class PresignRequestReader:
    """Parses the JSON body of a request for URLs: `receive` its bytes, then `finish`.

    The members `filename` and `size` are required, `sha256` and `content_type` optional; others are ignored. The digest
    is optional because browsers offer `crypto.subtle` only in a secure context.

    Raises:
        UnsupportedMediaType: the body has another type than JSON.
        BodyTooLarge: the body has more bytes than the fields of a form may have.
        JsonMalformed, DigestMalformed: the body is no such object.
        FileTooLarge: `size` exceeds the limit.
    """

    def __init__(self, mimetype: str, limits: Limits, content_length: int | None = None) -> None:
        if mimetype != JSON:
            raise Unsupported(f"Request a presigned upload with {JSON}, not {mimetype or 'a body without a type'}.")
        self._limits = limits
        self._body = bytearray()
        self._check_size(content_length or 0)

    def receive(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._body += chunk
        self._check_size(len(self._body))

    def _check_size(self, size: int) -> None:
        if size > self._limits.field_bytes:
            raise BodyTooLarge(f"The request has more than {self._limits.field_bytes} bytes.")

    def finish(self) -> PresignRequest:
        """Return the request after the end of the body."""
        try:
            members = json.loads(self._body)
        except (ValueError, RecursionError):
            raise JsonMalformed("The body is not JSON in UTF-8.") from None
        if not isinstance(members, dict):
            raise JsonMalformed("The body must be a JSON object with filename and size.")
        if missing := [repr(name) for name in ("filename", "size") if name not in members]:
            raise JsonMalformed(f"The JSON object lacks {' and '.join(missing)}.")
        size = members.get("size")
        if isinstance(size, float) and size.is_integer():
            size = int(size)  # JSON has one type of number, so 3.0 equals 3
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise JsonMalformed("'size' must be the file's size in bytes, a whole number.")
        if size > self._limits.file_bytes:
            raise FileTooLarge(f"The file has more than {self._limits.file_bytes} bytes.")
        # S3 strips surrounding spaces, so the stored type would differ from the promised one
        content_type = _text(members, "content_type", "").strip(" \t") or DEFAULT_CONTENT_TYPE
        if not is_media_type(content_type):
            raise JsonMalformed("'content_type' must be a media type, such as image/png.")
        sha256 = from_hex(_text(members, "sha256")) if "sha256" in members else None
        return PresignRequest(clean_name(_text(members, "filename")), content_type, size, sha256)


def _text(members: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name, default)
    if not isinstance(value, str):
        raise JsonMalformed(f"'{name}' must be a string.")
    return value


class Seal:
    """Signs values that a client returns to the app: HMAC-SHA256 (RFC 2104).

    Without a secret that all processes share, marks are empty, and only S3's signatures protect the values.

    Attributes:
        key_id: identifies the secret of a mark, because another secret's mark is not a forgery; empty without a secret.
    """

    def __init__(self, secret: str | None) -> None:
        # The secret may also sign requests to S3. A derived key keeps our marks from being such signatures.
        self._key = hmac.digest(secret.encode(), b"handoff presigned", "sha256") if secret else None
        self.key_id = _base64(hmac.digest(self._key, b"key id", "sha256")[:6]) if self._key else ""

    def sign(self, *values: str | int) -> str:
        """Return the mark of these values, in this order; empty without a secret."""
        if self._key is None:
            return ""
        message = "".join(f"{len(text)}:{text}" for text in map(str, values))
        return _base64(hmac.digest(self._key, message.encode("utf-8", "replace"), "sha256"))

    def holds(self, mark: str, *values: str | int) -> bool:
        """Return whether this is the mark of these values."""
        return hmac.compare_digest(mark.encode("utf-8", "replace"), self.sign(*values).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True)
class Promise:
    """A client's promise about a file, and its request's hook and id.

    `size` is in bytes, `parts` is 1 for a single put, `sha256` is lowercase hex or None. `media_type` is in lower case
    and without parameters, because proxies add some (`;charset=UTF-8`).
    """

    size: int
    parts: int
    sha256: str | None
    hook: str
    request_id: str
    media_type: str

    def metadata(self, seal: Seal, incoming: Incoming) -> dict[str, str]:
        """Return the object's user metadata with the promise; the hook adds the request's id."""
        metadata = incoming.metadata()
        mark = seal.sign(*self._sealed(incoming.key, metadata[FILENAME_METADATA]))
        promised = f"3.{self.size}.{self.parts}.{self.sha256 or ''}.{self.hook}.{self.media_type}"
        return metadata | {PROMISE_METADATA: f"{promised}.{seal.key_id}.{mark}"}

    @classmethod
    def from_metadata(
        cls, seal: Seal, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[Self, Incoming]:
        """Return an object's promise and file from its type and metadata (names in lowercase).

        Raises:
            ObjectMissing: the object has no promise, or one that only a process with another secret can check.
            DigestMismatch: the promise names our secret, and its mark is wrong.
        """
        if PROMISE_METADATA not in metadata:
            raise ObjectMissing("No presigned upload has this key.")
        match = _PROMISE.fullmatch(metadata[PROMISE_METADATA])
        if match is None or match[6] != seal.key_id:
            raise ObjectMissing("The object's promise has another secret or version. The object was not removed.")
        size, parts, sha256, hook, promised_type, _, mark = match.groups()
        name, request_id = metadata.get(FILENAME_METADATA, ""), metadata.get(REQUEST_ID_METADATA, "")
        promise = cls(int(size), int(parts), sha256 or None, hook, request_id, promised_type)
        if not seal.holds(mark, *promise._sealed(key, name)):
            raise DigestMismatch("The object's promise has a wrong signature. The object was removed.")
        if media_type(content_type) in _UNKNOWN_TYPES:
            content_type = promised_type
        return promise, Incoming(key, decode_name(name) or "", content_type, promise.sha256)

    def _sealed(self, key: str, name: str) -> tuple[str | int, ...]:
        return key, self.size, self.parts, self.sha256 or "", self.hook, self.request_id, self.media_type, name

    def check_size(self, size: int) -> None:
        """Compare the promised size with the object's, in bytes.

        Raises:
            SizeMismatch: the sizes differ.
        """
        if size != self.size:
            raise SizeMismatch(f"The object has {size} bytes, but {self.size} were promised. It was removed.")

    def check(self, size: int, sha256: str) -> None:
        """Compare the promise with the size and SHA-256 of the read bytes.

        Raises:
            SizeMismatch, DigestMismatch: the bytes break the promise.
        """
        self.check_size(size)
        if self.sha256 is not None and sha256 != self.sha256:
            raise DigestMismatch(
                f"The object's SHA-256 is {sha256}, but {self.sha256} was promised. The object was removed."
            )

    def check_type(self, content_type: str) -> None:
        """Compare the promised type with the object's, without its parameters.

        Raises:
            TypeMismatch: the types differ. The object must stay: its bytes are right, and a proxy may have changed the
                type on the way to the app.
        """
        if (stored := media_type(content_type)) != self.media_type:
            raise TypeMismatch(
                f"The object has the type {stored}, but {self.media_type} was promised. It was not removed."
            )


@dataclass(frozen=True, slots=True)
class ReadBackObject:
    """The result of one read of an object: headers, size, SHA-256 and first bytes.

    If the headers alone break the promise, the bytes are not read, and `sha256` is empty. Two results are equal if S3
    returned the same both times.
    """

    key: str
    info: ObjectInfo
    size: int = 0
    sha256: str = ""
    head: bytes = b""

    def is_worth_reading(self, seal: Seal) -> bool:
        """Return whether the headers keep the promise, so that the bytes must be checked.

        Raises:
            ObjectMissing: as for `Promise.from_metadata`.
        """
        try:
            self._promised(seal)
        except (SizeMismatch, DigestMismatch):
            return False
        return True

    def stored(self, seal: Seal, file_types: FileTypes | None = None) -> tuple[Stored, Promise]:
        """Return the file and its promise, after all checks.

        Raises:
            ObjectMissing: as for `Promise.from_metadata`.
            SizeMismatch, DigestMismatch: the object breaks the promise.
            TypeNotAllowed: as for `FileTypes.check_stored`.
            TypeMismatch: only the object's type differs.
        """
        promise, incoming = self._promised(seal)
        promise.check(self.size, self.sha256)
        if file_types:
            file_types.check_stored(promise.media_type, self.head)
        promise.check_type(incoming.content_type)
        return Stored(incoming, self.size, self.sha256, self.info.etag.strip('"'), promise.parts), promise

    def _promised(self, seal: Seal) -> tuple[Promise, Incoming]:
        promise, incoming = Promise.from_metadata(seal, self.key, self.info.content_type, self.info.metadata)
        promise.check_size(self.info.length)
        return promise, incoming


def is_aws(endpoint_url: str) -> bool:
    """Return whether an endpoint of boto is AWS's own S3, in any region or partition."""
    return re.search(r"\.amazonaws\.com(\.cn)?$", urlsplit(endpoint_url).hostname or "") is not None


def put_headers(incoming: Incoming, metadata: Mapping[str, str], chosen: options.Options) -> dict[str, str]:
    """Return the headers that a presigned PUT requires, except the length, which HTTP clients add.

    With `If-None-Match: *`, S3 accepts one PUT for each URL
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). With the checksum, it rejects other
    bytes. `chosen` are the operator's options, which the URL's signature covers.
    """
    checksum = {"x-amz-checksum-sha256": sha256_header(incoming.promised)} if incoming.promised else {}
    return {
        "Content-Type": incoming.content_type,
        "If-None-Match": "*",
        **checksum,
        **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
        **options.headers(chosen),
    }


def sha256_header(sha256: str) -> str:
    """Return a SHA-256 in base64, as `x-amz-checksum-sha256` requires."""
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")


@dataclass(frozen=True, slots=True)
class PresignedMultipart:
    """A multipart upload whose parts the client sends; `size` is the file's, in bytes.

    `part_bytes` is the size of the first part, from the settings of the process that began the upload.
    """

    key: str
    upload_id: str
    size: int
    part_bytes: int

    @classmethod
    def from_query(cls, seal: Seal, key: str, query: Mapping[str, str], limits: Limits) -> Self | None:
        """Return the upload that a query names, or None if the query has no `upload_id`.

        Raises:
            ObjectMissing: the signature or a size is wrong.
        """
        if "upload_id" not in query:
            return None
        upload = cls(key, query["upload_id"], number(query.get("size"), -1), number(query.get("part_bytes"), -1))
        possible = 0 <= upload.size <= limits.file_bytes and MIN_PART_BYTES <= upload.part_bytes <= MAX_PART_BYTES
        if not possible or not seal.holds(query.get("signature", ""), *upload._sealed()):
            raise ObjectMissing("No presigned upload has this key, upload_id, size, part_bytes and signature.")
        return upload

    def query(self, seal: Seal, **more: int) -> str:
        """Return the query that names the upload."""
        named = {"upload_id": self.upload_id, "size": self.size, "part_bytes": self.part_bytes}
        return urlencode({**named, "signature": seal.sign(*self._sealed()), **more})

    def _sealed(self) -> tuple[str | int, ...]:
        return self.key, self.upload_id, self.size, self.part_bytes

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """The numbers of all parts, and their sizes in bytes."""
        return part_lengths(self.size, self.part_bytes)

    def page(self, after: int) -> list[tuple[int, int]]:
        """Return the numbers and sizes in bytes of the parts that follow `after`."""
        return self.lengths[after : after + PAGE_PARTS]

    def etags(self, listed: Iterable[Mapping[str, Any]]) -> dict[int, str]:
        """Return the ETags of the listed parts by number, without wrong sizes."""
        lengths = dict(self.lengths)
        return {
            part["PartNumber"]: quoted_etag(part) for part in listed if lengths.get(part["PartNumber"]) == part["Size"]
        }

    def check(self, parts: Sequence[tuple[int, int]]) -> None:
        """Check the parts in S3, in order, against the numbers and the file's size.

        Raises:
            SizeMismatch: a part is missing, or the sizes do not add up to the file's.
        """
        missing = next((number for number, (sent, _) in enumerate(parts, 1) if sent != number), None)
        if missing is not None:
            raise SizeMismatch(f"Part {missing} was not sent to S3. The upload was aborted.")
        if (size := sum(size for _, size in parts)) != self.size:
            raise SizeMismatch(
                f"The {len(parts)} parts have {size} bytes, but {self.size} were promised. The upload was aborted."
            )


def part_lengths(size: int, part_bytes: int) -> list[tuple[int, int]]:
    """Return the numbers and sizes in bytes of a file's parts; a put has one.

    The result depends only on the arguments, so processes with different settings agree.
    """
    rooms, lengths = iter(PartSizes(part_bytes, size)), list[tuple[int, int]]()
    while size > 0 or not lengths:
        length = min(next(rooms), size)
        lengths.append((len(lengths) + 1, length))
        size -= length
    return lengths


def put_answer(
    incoming: Incoming, size: int, url: str, headers: Mapping[str, str], root_path: str = ""
) -> dict[str, object]:
    """Return the response for a single put; `expiry` adds the end of the URL's validity."""
    return {
        "key": incoming.key,
        "size": size,
        "method": "PUT",
        "url": url,
        "headers": dict(headers),
        "complete": f"{_path(root_path, incoming.key)}/complete",
    }


def parts_answer(
    seal: Seal,
    upload: PresignedMultipart,
    page: Sequence[tuple[int, int]],
    urls: Sequence[str],
    etags: Mapping[int, str],
    root_path: str = "",
) -> dict[str, object]:
    """Return the response for one page of parts, with the path of the next page.

    `etags` has the ETags of the parts that S3 has already, by number.
    """
    count = len(upload.lengths)
    last = page[-1][0] if page else count
    path = _path(root_path, upload.key)
    return {
        "key": upload.key,
        "size": upload.size,
        "method": "PUT",
        "upload_id": upload.upload_id,
        "parts": [
            {"number": number, "size": size, "url": url, "etag": etags.get(number)}
            for (number, size), url in zip(page, urls, strict=True)
        ],
        "parts_total": count,
        "next": f"{path}/parts?{upload.query(seal, after=last)}" if last < count else None,
        "complete": f"{path}/complete?{upload.query(seal)}",
        "abort": f"{path}?{upload.query(seal)}",
    }


def _path(root_path: str, key: str) -> str:
    return f"{root_path}/uploads/presigned/{key}"


def expiry(now: datetime, seconds: float) -> dict[str, object]:
    """Return the end (RFC 3339, UTC) and the seconds of a URL's validity."""
    until = (now + timedelta(seconds=seconds)).astimezone(UTC)
    return {"expires_at": until.isoformat(timespec="seconds").replace("+00:00", "Z"), "expires_in": int(seconds)}


def number(text: str | None, default: int) -> int:
    """Return the whole number in a query's value, or the default."""
    return int(text) if text and _NUMBER.fullmatch(text) else default
