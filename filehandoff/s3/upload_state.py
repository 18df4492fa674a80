"""The state of resumable uploads in S3, without a database and without a disk.

Each upload has a folder `<prefix>.tus/<sender>/<id>/` of records: numbered objects that are only ever created. The
record with the highest number is the state. All times are the store's own: a record's age is the store's date minus the
record's.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self, TypeVar

from filehandoff.digest import crc32_header, crc32_of_all
from filehandoff.errors import Expired, Locked, NotFound, ObjectMissing, StoreUnavailable
from filehandoff.keys import is_id, user_segment
from filehandoff.parts import Part, PartSizes
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Compute, Flow, Listed, SentPart
from filehandoff.s3.context import Context

T = TypeVar("T")

#: The folder of all uploads' states; no key of an object begins with it.
FOLDER = ".tus/"
#: Stands for a sender without a name; the segment of no name is the same.
ANY_SENDER = "_"
#: Digits of a record's number.
DIGITS = 8
#: Reads of a state that another request keeps replacing, and of one that arrives damaged.
_ATTEMPTS = 5
_DAMAGED_ATTEMPTS = 2
_TYPE = "application/json"
_UNKNOWN = "There is no such upload."


@dataclass(frozen=True, slots=True)
class Rest:
    """The bytes after the last full part, in an object of their own: its key, size and CRC-32."""

    key: str
    size: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One state of an upload; immutable.

    Attributes:
        key: the object's key.
        filename, content_type, promised, user: those of `Incoming`.
        request_id: the id of the request that created the upload.
        metadata: the `Upload-Metadata` as the client sent it.
        concat: the `Upload-Concat` as the client sent it.
        length: the file's length in bytes; None if the client has not declared it.
        part_bytes, largest_file: those of `PartSizes`, from the settings at the creation.
        offset: the bytes that S3 has, in parts and in `rest`.
        upload_id: the multipart upload; None before the first part.
        parts: the ETag and the CRC-32 of each part, in order.
        rest: the bytes after the parts.
        owner: the request that holds the lock, by a random name; empty if none does.
        receipts: the receipts, once the file is stored; the object of a partial upload has none.
        is_done: whether the object exists.
    """

    key: str
    filename: str
    content_type: str
    promised: str | None
    user: str
    request_id: str
    metadata: str
    concat: str
    length: int | None
    part_bytes: int
    largest_file: int
    offset: int = 0
    upload_id: str | None = None
    parts: tuple[tuple[str, str], ...] = ()
    rest: Rest | None = None
    owner: str = ""
    receipts: tuple[dict[str, Any], ...] = ()
    is_done: bool = False

    @property
    def incoming(self) -> Incoming:
        """The file."""
        return Incoming(self.key, self.filename, self.content_type, self.promised, self.user)

    @property
    def sizes(self) -> PartSizes:
        """The sizes of the parts, which no change of the settings moves."""
        return PartSizes(self.part_bytes, self.largest_file)

    @property
    def sent_parts(self) -> list[SentPart]:
        """The parts, as S3 needs them at the end."""
        return [
            {"PartNumber": number, "ETag": etag, "ChecksumCRC32": crc32}
            for number, (etag, crc32) in enumerate(self.parts, 1)
        ]

    def as_bytes(self) -> bytes:
        """Return the state as JSON, after its CRC-32: a store may return other bytes than it got."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        return b"%08x %b" % (zlib.crc32(text), text)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of `as_bytes`.

        Raises:
            StoreUnavailable: the bytes have changed.
        """
        checksum, _, text = data.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            raise StoreUnavailable("S3 returned other bytes of the upload's state than it got; try again.")
        values = json.loads(text)
        rest = values.pop("rest")
        return cls(
            **values
            | {
                "rest": rest and Rest(**rest),
                "parts": tuple((etag, crc32) for etag, crc32 in values["parts"]),
                "receipts": tuple(values["receipts"]),
            }
        )


class PartChecksums:
    """A receiver of an object's bytes that computes the CRC-32 of each part, in base64."""

    def __init__(self, sizes: PartSizes) -> None:
        self._rooms = iter(sizes)
        self._room = next(self._rooms)
        self._crc32 = 0
        self._found: list[str] = []

    def receive(self, chunk: bytes) -> bytes:
        """Take the next bytes."""
        rest = memoryview(chunk)
        while len(rest) > self._room:
            self._crc32 = zlib.crc32(rest[: self._room], self._crc32)
            rest = rest[self._room :]
            self._found.append(crc32_header(self._crc32))
            self._room, self._crc32 = next(self._rooms), 0
        self._crc32 = zlib.crc32(rest, self._crc32)
        self._room -= len(rest)
        return chunk

    @property
    def found(self) -> list[str]:
        """The checksums of all parts so far; the last part may be incomplete."""
        return [*self._found, crc32_header(self._crc32)]

    def check(self, parts: Sequence[str]) -> None:
        """Compare with the checksums of all parts, after the last byte.

        Raises:
            StoreUnavailable: they differ.
        """
        if self.found != list(parts):
            raise StoreUnavailable("S3 returned other bytes of the upload than it got; try again.")


class Collected:
    """A receiver of an object's bytes that keeps them."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def receive(self, chunk: bytes) -> bytes:
        """Keep the next bytes."""
        self.chunks.append(chunk)
        return chunk


@dataclass(frozen=True, slots=True)
class Record:
    """A numbered object: its key, its number, and its age in seconds."""

    key: str
    number: int
    age: float


@dataclass(frozen=True, slots=True)
class Found:
    """An upload's folder as it was at one time: all its objects, its last record, and the state in that."""

    folder: str
    listed: Sequence[Listed]
    last: Record
    state: State


def folder_of(service: Context, user: str, upload_id: str) -> str:
    """Return the folder of a sender's upload."""
    return f"{service.settings.common_prefix}{FOLDER}{user_segment(user) or ANY_SENDER}/{upload_id}/"


def records(folder: str, listed: Sequence[Listed]) -> list[Record]:
    """Return the records among the objects of a folder, in the order of their numbers."""
    found = []
    for one in listed:
        number = one.key[len(folder) :].partition("-")[0]
        if number.isdigit() and len(number) == DIGITS:
            found.append(Record(one.key, int(number), one.age))
    return found


def list_all(prefix: str) -> Flow[list[Listed]]:
    """Return all objects below a prefix."""
    return (yield from flows.all_pages(lambda following: calls.list_objects(prefix, following)))


def open_bytes(state: State) -> Flow[tuple[Any, PartChecksums]]:
    """Return the body of a complete partial upload, and the receiver that checks its bytes."""
    _, body = yield from calls.get_object(state.key)
    return body, PartChecksums(state.sizes)


def read(key: str) -> Flow[list[bytes]]:
    """Return the bytes of an object of ours.

    Raises:
        ObjectMissing: there is none.
    """
    _, body = yield from calls.get_object(key)
    collected = Collected()
    try:
        yield from calls.ReadBack(body, collected)
    finally:
        body.close()
    return collected.chunks


def put(key: str, chunks: Sequence[bytes | memoryview], *, only_new: bool = False) -> Flow[int]:
    """Store bytes as an object of ours; return their CRC-32.

    Raises:
        Exists: with `only_new`, the key has an object already.
    """
    part = Part(1, tuple(chunks), last=True)
    crc32 = yield from Compute(partial(crc32_of_all, part.chunks), part.size)
    yield from flows.put(Incoming(key, "", _TYPE), part.size, part, crc32, None, only_new=only_new)
    return crc32


def find(service: Context, user: str, upload_id: str) -> Flow[Found]:
    """Return the present state of a sender's upload.

    Raises:
        NotFound: there is no such upload.
        Expired: it has expired.
        StoreUnavailable: S3 did not respond, or returned a damaged state twice. rclone shows a record while it still
            writes it, and any connection may break.
    """
    if not is_id(upload_id):
        raise NotFound(_UNKNOWN)
    folder = folder_of(service, user, upload_id)
    damaged = 0
    for _ in range(_ATTEMPTS):
        listed = yield from list_all(folder)
        known = records(folder, listed)
        if not known:
            raise NotFound(_UNKNOWN)
        last = known[-1]
        if last.age > service.settings.resume_seconds:
            raise Expired("This upload has expired; create a new one.")
        try:
            chunks = yield from read(last.key)
            return Found(folder, listed, last, State.from_bytes(b"".join(chunks)))
        except ObjectMissing:
            continue  # a newer record has replaced it meanwhile
        except StoreUnavailable:
            damaged += 1
            if damaged == _DAMAGED_ATTEMPTS:
                raise
    raise Locked
