"""The hand-off `presigned`, where the client sends the file to S3 itself: what it asks for, is given, and promised.

Nothing is remembered between the request for a URL and the one to complete. What was promised (the size, the SHA-256,
which request it was) goes with the file, as metadata that the URL is signed with; any process with the same secret can
read it there. S3 keeps a client from sending other metadata, by its own signature. Our seal is beside it for stores
that look at no signature.

What was sent is read back, and is removed if it is not what was promised: that costs somebody a file. So one reading
is not enough for it, for the bytes may have been damaged on their way to us; a second one must see the same.
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
from filehandoff.form import DEFAULT_CONTENT_TYPE, is_media_type
from filehandoff.http import ObjectInfo
from filehandoff.keys import clean_name, decode_name
from filehandoff.parts import MAX_PART_BYTES, MIN_PART_BYTES, PAGE_PARTS, PartSizes
from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA, Incoming, Stored
from filehandoff.settings import Limits
from filehandoff.verify import quoted_etag

PROMISE_METADATA = "promise"
JSON = "application/json"

#: A promise as metadata: its version, size, parts, SHA-256 if any, hook, media type, the id of the key it is marked
#: with, and its mark.
_PROMISE = re.compile(
    rf"3\.(\d{{1,15}})\.(\d{{1,5}})\.({SHA256_PATTERN}|)\.([a-z]*)\.([!-~]*)\.([\w-]*)\.([\w-]*)", re.ASCII
)
#: Types that say nothing of the bytes: stores answer them where they know none.
_UNKNOWN_TYPES = frozenset({"", DEFAULT_CONTENT_TYPE, "binary/octet-stream"})
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PresignRequest:
    """The file that a client wants to send: its size in bytes, and its SHA-256 in lowercase hex, if it promises one."""

    filename: str
    content_type: str
    size: int
    sha256: str | None


class PresignRequestReader:
    """Reads the JSON object in which a client says what it wants to send: `receive` its bytes, then `finish`.

    Its members are `filename`, `size`, and `sha256` and `content_type`, which may be missing; others are passed over.
    A page without a secure context has no digest to promise: browsers offer `crypto.subtle` by TLS alone.

    Raises:
        UnsupportedMediaType: the body is of another type than JSON.
        BodyTooLarge: it has more bytes than the fields of a form may have.
        JsonMalformed, DigestMalformed: it is not that object.
        FileTooLarge: the file is.
    """

    def __init__(self, mimetype: str, limits: Limits, content_length: int | None = None) -> None:
        if mimetype != JSON:
            raise Unsupported(f"A presigned upload is asked for by {JSON}, not {mimetype or 'a body without a type'}.")
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
        """What the client wants; the body has ended."""
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
            size = int(size)  # JSON knows but one kind of number: 3.0 is as whole as 3
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise JsonMalformed("'size' must be the file's size in bytes, a whole number.")
        if size > self._limits.file_bytes:
            raise FileTooLarge(f"The file has more than {self._limits.file_bytes} bytes.")
        # S3 takes away what surrounds it, and so it would be another than was promised
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
    """Marks values that a client carries back to us, so that we know them for our own: HMAC-SHA256 (RFC 2104).

    Without a secret that all processes share it marks nothing, and S3's own signatures have to do.

    Attributes:
        key_id: tells marks of this secret from those of others, which are not wrong for that; empty without one.
    """

    def __init__(self, secret: str | None) -> None:
        # The secret may be the one that S3's requests are signed with: so that what we sign can be no such signature.
        self._key = hmac.digest(secret.encode(), b"handoff presigned", "sha256") if secret else None
        self.key_id = _base64(hmac.digest(self._key, b"key id", "sha256")[:6]) if self._key else ""

    def sign(self, *values: str | int) -> str:
        """The mark of these values, in this order; empty without a secret."""
        if self._key is None:
            return ""
        message = "".join(f"{len(text)}:{text}" for text in map(str, values))
        return _base64(hmac.digest(self._key, message.encode("utf-8", "replace"), "sha256"))

    def holds(self, mark: str, *values: str | int) -> bool:
        """Whether this is the mark of these values."""
        return hmac.compare_digest(mark.encode(), self.sign(*values).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True)
class Promise:
    """What a client has promised of a file, and by which request, with which hook it was given its URL.

    `size` is in bytes, `parts` 1 for a single put, `sha256` lowercase hex or None. `media_type` is in lower case and
    without parameters: proxies add some (`;charset=UTF-8`).
    """

    size: int
    parts: int
    sha256: str | None
    hook: str
    request_id: str
    media_type: str

    def metadata(self, seal: Seal, incoming: Incoming) -> dict[str, str]:
        """The object's user metadata that carries it; the request's id is the hook's to stamp."""
        metadata = incoming.metadata()
        mark = seal.sign(*self._sealed(incoming.key, metadata[FILENAME_METADATA]))
        promised = f"3.{self.size}.{self.parts}.{self.sha256 or ''}.{self.hook}.{self.media_type}"
        return metadata | {PROMISE_METADATA: f"{promised}.{seal.key_id}.{mark}"}

    @classmethod
    def from_metadata(
        cls, seal: Seal, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[Self, Incoming]:
        """The promise of a stored object, by its type and metadata (names in lowercase), and the file it is of.

        Raises:
            ObjectMissing: the object has none, or one that only a process with another secret can know for its own.
            DigestMismatch: it has one that says it is ours, and is not.
        """
        if PROMISE_METADATA not in metadata:
            raise ObjectMissing("No presigned upload has this key.")
        match = _PROMISE.fullmatch(metadata[PROMISE_METADATA])
        if match is None or match[6] != seal.key_id:
            raise ObjectMissing("This process has not the secret that the object's promise was made with; it was left.")
        size, parts, sha256, hook, promised_type, _, mark = match.groups()
        name, request_id = metadata.get(FILENAME_METADATA, ""), metadata.get(REQUEST_ID_METADATA, "")
        promise = cls(int(size), int(parts), sha256 or None, hook, request_id, promised_type)
        if not seal.holds(mark, *promise._sealed(key, name)):
            raise DigestMismatch("The object carries a promise that was not made here. It was removed.")
        if media_type(content_type) in _UNKNOWN_TYPES:
            content_type = promised_type
        return promise, Incoming(key, decode_name(name) or "", content_type, promise.sha256)

    def _sealed(self, key: str, name: str) -> tuple[str | int, ...]:
        return key, self.size, self.parts, self.sha256 or "", self.hook, self.request_id, self.media_type, name

    def check_size(self, size: int) -> None:
        """Compare with what is stored, in bytes.

        Raises:
            SizeMismatch: they differ.
        """
        if size != self.size:
            raise SizeMismatch(f"What was sent to S3 has {size} bytes, promised were {self.size}. It was removed.")

    def check(self, size: int, sha256: str) -> None:
        """Compare with the bytes that were read back.

        Raises:
            SizeMismatch, DigestMismatch: it is not what was promised.
        """
        self.check_size(size)
        if self.sha256 is not None and sha256 != self.sha256:
            raise DigestMismatch(
                f"The SHA-256 of what was sent to S3 is {sha256}, promised was {self.sha256}. It was removed."
            )

    def check_type(self, content_type: str) -> None:
        """Compare with the type of the stored object, without its parameters.

        Raises:
            TypeMismatch: they differ. The bytes are right, so this is no reason to remove them: a proxy may have
                changed the type on the way here.
        """
        if (stored := media_type(content_type)) != self.media_type:
            raise TypeMismatch(f"S3 has the object as {stored}, promised was {self.media_type}. It was left there.")


@dataclass(frozen=True, slots=True)
class ReadBackObject:
    """What S3 gave of an object when it was read back once: what it said of it, and its bytes' number and SHA-256.

    The bytes are not read, and their SHA-256 is empty, where what S3 says of them shows that they are not the file. Two
    readings are equal if S3 gave the same in both.
    """

    key: str
    info: ObjectInfo
    size: int = 0
    sha256: str = ""

    def is_worth_reading(self, seal: Seal) -> bool:
        """Whether the bytes are worth reading.

        Raises:
            ObjectMissing: as for `Promise.from_metadata`.
        """
        try:
            self._promised(seal)
        except (SizeMismatch, DigestMismatch):
            return False
        return True

    def stored(self, seal: Seal) -> tuple[Stored, Promise]:
        """The file, which is what was promised.

        Raises:
            ObjectMissing: as for `Promise.from_metadata`.
            SizeMismatch, DigestMismatch: it is not.
            TypeMismatch: it is, under another type.
        """
        promise, incoming = self._promised(seal)
        promise.check(self.size, self.sha256)
        promise.check_type(incoming.content_type)
        return Stored(incoming, self.size, self.sha256, self.info.etag.strip('"'), promise.parts), promise

    def _promised(self, seal: Seal) -> tuple[Promise, Incoming]:
        promise, incoming = Promise.from_metadata(seal, self.key, self.info.content_type, self.info.metadata)
        promise.check_size(self.info.length)
        return promise, incoming


def is_aws(endpoint_url: str) -> bool:
    """Whether boto's endpoint is AWS's own S3, of any region or partition, not one that was set."""
    return re.search(r"\.amazonaws\.com(\.cn)?$", urlsplit(endpoint_url).hostname or "") is not None


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case: neither is of the bytes, and proxies change both."""
    return content_type.partition(";")[0].strip().lower()


def put_headers(incoming: Incoming, metadata: Mapping[str, str]) -> dict[str, str]:
    """The headers that a presigned PUT must come with, beside its length, which HTTP clients add themselves.

    `If-None-Match: *` keeps the URL from storing twice, and the checksum other bytes from being stored, in S3
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
    """
    checksum = {"x-amz-checksum-sha256": sha256_header(incoming.promised)} if incoming.promised else {}
    return {
        "Content-Type": incoming.content_type,
        "If-None-Match": "*",
        **checksum,
        **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
    }


def sha256_header(sha256: str) -> str:
    """A SHA-256 in hex as S3's `x-amz-checksum-sha256` wants it: in base64."""
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")


@dataclass(frozen=True, slots=True)
class PresignedMultipart:
    """A multipart upload that the client is sending: which one, and of how many bytes, by parts of which size.

    `part_bytes` is the size of its first part, by the settings of the process that began it.
    """

    key: str
    upload_id: str
    size: int
    part_bytes: int

    @classmethod
    def from_query(cls, seal: Seal, key: str, query: Mapping[str, str], limits: Limits) -> Self | None:
        """The one that a query names; None if it names none.

        Raises:
            ObjectMissing: it was not given by us.
        """
        if "upload_id" not in query:
            return None
        upload = cls(key, query["upload_id"], number(query.get("size"), -1), number(query.get("part_bytes"), -1))
        possible = 0 <= upload.size <= limits.file_bytes and MIN_PART_BYTES <= upload.part_bytes <= MAX_PART_BYTES
        if not possible or not seal.holds(query.get("signature", ""), *upload._sealed()):
            raise ObjectMissing("No presigned upload has this key, upload_id, size, part_bytes and signature.")
        return upload

    def query(self, seal: Seal, **more: int) -> str:
        """The query that names it."""
        named = {"upload_id": self.upload_id, "size": self.size, "part_bytes": self.part_bytes}
        return urlencode({**named, "signature": seal.sign(*self._sealed()), **more})

    def _sealed(self) -> tuple[str | int, ...]:
        return self.key, self.upload_id, self.size, self.part_bytes

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """The numbers and sizes in bytes of all its parts."""
        return part_lengths(self.size, self.part_bytes)

    def page(self, after: int) -> list[tuple[int, int]]:
        """The numbers and sizes in bytes of the parts of one page, the one that follows part `after`."""
        return self.lengths[after : after + PAGE_PARTS]

    def etags(self, listed: Iterable[Mapping[str, Any]]) -> dict[int, str]:
        """The ETags of the parts that S3 lists, by their numbers; a part of another size must be sent again."""
        lengths = dict(self.lengths)
        return {
            part["PartNumber"]: quoted_etag(part) for part in listed if lengths.get(part["PartNumber"]) == part["Size"]
        }

    def check(self, parts: Sequence[tuple[int, int]]) -> None:
        """Compare the parts that S3 has, their numbers and sizes in order, with the whole.

        Raises:
            SizeMismatch: some are missing, or are not what they should be.
        """
        missing = next((number for number, (sent, _) in enumerate(parts, 1) if sent != number), None)
        if missing is not None:
            raise SizeMismatch(f"Part {missing} was not sent to S3. The upload was aborted.")
        if (size := sum(size for _, size in parts)) != self.size:
            raise SizeMismatch(
                f"The {len(parts)} parts that were sent to S3 have {size} bytes, promised were {self.size}. "
                "The upload was aborted."
            )


def part_lengths(size: int, part_bytes: int) -> list[tuple[int, int]]:
    """The numbers and sizes in bytes of all parts of a file: one, of the whole, if a single put is to store it.

    They depend on nothing else, so that every process gives the same, whatever its own settings are.
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
    """What the client is told that sends the file by one put; without when, which comes with `expiry`."""
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
    """The answer to a client that sends the file in parts: one page of them, and where the next one is.

    `etags` are those of the parts that S3 has already, by their numbers.
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
    """What the client is told of how long a URL is good: until when (RFC 3339, in UTC), and how many seconds."""
    until = (now + timedelta(seconds=seconds)).astimezone(UTC)
    return {"expires_at": until.isoformat(timespec="seconds").replace("+00:00", "Z"), "expires_in": int(seconds)}


def number(text: str | None, default: int) -> int:
    """A whole number of a query, the default if it is none."""
    return int(text) if text and _NUMBER.fullmatch(text) else default
