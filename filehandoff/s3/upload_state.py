"""The state of resumable uploads in S3, and their locks, without a database and without a disk.

Each upload has a folder `<prefix>.tus/<sender>/<id>/` of records: numbered objects that are only ever created. The
record with the highest number is the state. Its writer creates the next number with `If-None-Match: *`, so of two
writers one fails. A record with an `owner` locks the upload, until its writer creates one without, or until it is
`UPLOAD_RESUME_LOCK` seconds old. All times are the store's own: a record's age is the store's date minus the record's.

A process may pause, and then create a number that others have created and removed meanwhile. So a writer lists the
records again after a claim, and after each record that comes so late that its lock may have expired: its record counts
only if the one before it still exists, and none after it. Records are removed in the order of their numbers, and the
last one only together with the upload.

Without conditional writes in the store, a record's name holds its owner too, and two claims of one number both fail.
That is as safe only where a list shows every object that was created before.
"""

import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from secrets import token_hex
from typing import Any, Self, TypeVar

from filehandoff.digest import crc32_header, crc32_of_all
from filehandoff.errors import Expired, Locked, NotFound, ObjectMissing, StoreRejected, StoreUnavailable, UploadError
from filehandoff.keys import is_id, user_segment
from filehandoff.parts import Part, PartSizes
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Compute, Exists, Flow, Listed, SentPart
from filehandoff.s3.context import Context
from filehandoff.settings import Settings
from filehandoff.tus import PARTIAL

T = TypeVar("T")

logger = logging.getLogger(__name__)

UNCONDITIONAL = (
    "the store has no conditional writes (If-None-Match): of two processes that continue one resumable upload at the "
    "same time, one is kept out only if the store's lists show every object at once"
)
#: The folder of all uploads' states; no key of an object begins with it.
FOLDER = ".tus/"
#: Stands for a sender without a name; the segment of no name is the same.
ANY_SENDER = "_"
#: Slashes in the path of an upload's folder below `FOLDER`: behind the sender and behind the id.
_FOLDER_DEPTH = 2
#: Digits of a record's number.
_DIGITS = 8
#: Useless objects that are removed at once, while a request is long.
_MOST_STALE = 50
#: Reads of a state that another request keeps replacing.
_ATTEMPTS = 5
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
        if number.isdigit() and len(number) == _DIGITS:
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


def find(service: Context, user: str, upload_id: str) -> Flow[Found]:
    """Return the present state of a sender's upload.

    Raises:
        NotFound: there is no such upload.
        Expired: it has expired.
    """
    if not is_id(upload_id):
        raise NotFound(_UNKNOWN)
    folder = folder_of(service, user, upload_id)
    for _ in range(_ATTEMPTS):
        listed = yield from list_all(folder)
        known = records(folder, listed)
        if not known:
            raise NotFound(_UNKNOWN)
        last = known[-1]
        if last.age > service.settings.resume_seconds:
            raise Expired("This upload has expired; create a new one.")
        with suppress(ObjectMissing):  # a newer record has replaced it meanwhile
            chunks = yield from read(last.key)
            return Found(folder, listed, last, State.from_bytes(b"".join(chunks)))
    raise Locked


def create(
    service: Context,
    folder: str,
    state: State,
    *,
    locked: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Flow["Held"]:
    """Create the first record of a new upload."""
    held = Held(service, folder, state, 0, clock)
    yield from held.write(replace(state, owner=held.owner if locked else ""))
    return held


def check_free(service: Context, found: Found) -> None:
    """Raise Locked if another request holds an upload."""
    if found.state.owner and found.last.age < service.settings.resume_lock:
        raise Locked


def claim(service: Context, found: Found, clock: Callable[[], float] = time.monotonic) -> Flow["Held"]:
    """Lock an upload, if no other request holds it, or if its lock has expired.

    Raises:
        Locked: another request holds it, or locks it now.
    """
    check_free(service, found)
    held = Held(service, found.folder, found.state, found.last.number, clock)
    yield from held.write(replace(found.state, owner=held.owner))
    rest = found.state.rest
    held.stale = [one.key for one in found.listed if rest is None or one.key != rest.key]
    return held


class Held:
    """A locked upload: the only writer of its records.

    `clock` returns seconds and never goes back.

    Attributes:
        owner: the random name of this writer.
        state: the state in the last record.
        number: the number of the last record.
        stale: the keys of objects that the last record makes useless.
    """

    def __init__(
        self, service: Context, folder: str, state: State, number: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self.folder = folder
        self.owner = token_hex(8)
        self._clock = clock
        #: When this writer last began to create a record.
        self._written = float("-inf") if number else clock()
        self.state = state
        self.number = number
        self.stale: list[str] = []

    @property
    def age(self) -> float:
        """The seconds since this writer began to create its last record; infinite before a claim."""
        return self._clock() - self._written

    def record_key(self, number: int) -> str:
        """Return the key of a record by this writer."""
        suffix = "" if self._service.conditional_writes else f"-{self.owner}"
        return f"{self.folder}{number:0{_DIGITS}}{suffix}"

    def write(self, state: State) -> Flow[None]:
        """Create the next record.

        Raises:
            Locked: another writer has taken the lock over.
        """
        if self._service.conditional_writes is None:
            self._service.conditional_writes = yield from writes_conditionally(self._service.settings)
        key = self.record_key(self.number + 1)
        began = self._clock()
        try:
            yield from put(key, (state.as_bytes(),), only_new=bool(self._service.conditional_writes))
        except Exists:
            yield from self._check_own(key, state)
        is_late = self.age >= self._service.settings.resume_lock  # others may have taken the lock over meanwhile
        if is_late or not self._service.conditional_writes:
            yield from self._check_number(self.number + 1)
        self._written = began
        if self.number:
            self.stale.append(self.record_key(self.number))
        if self.state.rest is not None and self.state.rest != state.rest:
            self.stale.append(self.state.rest.key)
        self.number += 1
        self.state = state
        if len(self.stale) >= _MOST_STALE:
            yield from self._drop_stale()

    def _check_number(self, number: int) -> Flow[None]:
        """Check that the new record of this writer follows its last one, and is alone; remove it otherwise.

        Raises:
            Locked: there is another record of its number or a higher one, or no longer one before it.
        """
        present = [record.number for record in records(self.folder, (yield from list_all(self.folder)))]
        if present[-2:] != [number - 1, number][-number:]:
            yield from calls.delete_object(self.record_key(number))
            raise Locked

    def _check_own(self, key: str, state: State) -> Flow[None]:
        """Recognize a record of our own, whose first response was lost."""
        try:
            chunks = yield from read(key)
        except ObjectMissing:
            raise Locked from None
        if State.from_bytes(b"".join(chunks)) != state:
            raise Locked

    def check(self) -> Flow[None]:
        """Check that this writer still has the lock.

        Raises:
            Locked: another writer has taken the lock over, or has removed the upload.
        """
        present = records(self.folder, (yield from list_all(self.folder)))
        if not present or present[-1].key != self.record_key(self.number):
            raise Locked

    def release(self, state: State) -> Flow[None]:
        """Create a record without the lock, and remove all that it makes useless.

        Raises:
            Locked: another writer has taken the lock over.
        """
        yield from self.write(replace(state, owner=""))
        yield from self._drop_stale()

    def _drop_stale(self) -> Flow[None]:
        with suppress(UploadError):  # the end of the upload, or the sweep, removes the rest
            yield from calls.delete_objects(self.stale)
        self.stale = []


def put(key: str, chunks: Sequence[bytes | memoryview], *, only_new: bool = False) -> Flow[int]:
    """Store bytes as an object of ours; return their CRC-32.

    Raises:
        Exists: with `only_new`, the key has an object already.
    """
    part = Part(1, tuple(chunks), last=True)
    crc32 = yield from Compute(partial(crc32_of_all, part.chunks), part.size)
    yield from flows.put(Incoming(key, "", _TYPE), part.size, part, crc32, None, only_new=only_new)
    return crc32


def check_store(settings: Settings) -> Flow[None]:
    """Check the bucket before the first request; log a warning if its store has no conditional writes.

    Raises:
        BucketMissing: there is no such bucket.
    """
    if (yield from flows.check_bucket(settings.bucket)):
        with suppress(UploadError):
            if not (yield from writes_conditionally(settings)):
                logger.warning(UNCONDITIONAL)


def writes_conditionally(settings: Settings) -> Flow[bool]:
    """Return whether the store rejects a put with `If-None-Match: *` of a key that has an object."""
    key = f"{settings.common_prefix}{FOLDER}{ANY_SENDER}/{token_hex(8)}/probe"  # in a folder that the sweep removes
    try:
        yield from put(key, (b"first",))
        try:
            yield from put(key, (b"second",), only_new=True)
        except Exists:
            return True
        except StoreRejected:  # the store does not know the header
            return False
        return False
    finally:
        with suppress(UploadError):
            yield from calls.delete_object(key)


def remove(service: Context, folder: str, state: State) -> Flow[None]:
    """Remove an upload: its parts, its object unless the client has a receipt for that, and its folder."""
    yield from flows.abort_lost(service, state.key)
    if not state.is_done or state.concat == PARTIAL:
        yield from calls.delete_object(state.key)
    yield from remove_folder(folder)


@dataclass(frozen=True, slots=True)
class Uploads:
    """The resumable uploads of all senders.

    Attributes:
        living: the ids of those that a client may continue.
        expired: the folders of all others, with the age of their last record in seconds.
    """

    living: frozenset[str]
    expired: Mapping[str, float]


def all_uploads(service: Context) -> Flow[Uploads]:
    """Return the resumable uploads of all senders."""
    ages: dict[str, float] = {}
    below = f"{service.settings.common_prefix}{FOLDER}"
    for one in (yield from list_all(below)):
        folder = one.key.rpartition("/")[0] + "/"
        if folder.removeprefix(below).count("/") == _FOLDER_DEPTH:  # of an upload; any other object is not ours
            ages[folder] = min(one.age, ages.get(folder, one.age))
    life = service.settings.resume_seconds
    living = frozenset(folder.split("/")[-2] for folder, age in ages.items() if age <= life)
    return Uploads(living, {folder: age for folder, age in ages.items() if age > life})


def remove_expired(service: Context, folder: str) -> Flow[None]:
    """Remove an expired upload, also an incomplete rest of one."""
    known = records(folder, (yield from list_all(folder)))
    try:
        state = State.from_bytes(b"".join((yield from read(known[-1].key)))) if known else None
    except ObjectMissing:
        state = None
    if state is None:
        yield from remove_folder(folder)
    else:
        yield from remove(service, folder, state)


def remove_folder(folder: str) -> Flow[None]:
    """Remove all objects of a folder, its records in order."""
    keys = sorted((one.key for one in (yield from list_all(folder))), key=_in_order(folder))
    for key in keys:
        yield from calls.delete_object(key)


def _in_order(folder: str) -> Callable[[str], tuple[bool, str]]:
    """Return a function that puts the bytes before the records."""
    return lambda key: (key[len(folder) :][:_DIGITS].isdigit(), key)
