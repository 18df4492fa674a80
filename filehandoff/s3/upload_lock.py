"""The locks of resumable uploads, by conditional writes of their records.

The writer of an upload creates the record of the next number with `If-None-Match: *`, so of two writers one fails. A
record with an `owner` locks the upload, until its writer creates one without, or until it is `UPLOAD_RESUME_LOCK`
seconds old.

A process may pause, and then create a number that others have created and removed meanwhile. So a writer lists the
records again after a claim, and after each record that comes so late that its lock may have expired: its record counts
only if the one before it still exists, and none after it. Records are removed in the order of their numbers, and the
last one only together with the upload.

Without conditional writes in the store, a record's name holds its owner too, and two claims of one number both fail.
That is as safe only where a list shows every object that was created before.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex

from filehandoff.errors import Locked, ObjectMissing, StoreRejected, UploadError
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Exists, Flow
from filehandoff.s3.context import Context
from filehandoff.s3.upload_state import ANY_SENDER, DIGITS, FOLDER, Found, State, list_all, put, read, records
from filehandoff.settings import Settings

logger = logging.getLogger(__name__)

UNCONDITIONAL = (
    "the store has no conditional writes (If-None-Match): of two processes that continue one resumable upload at the "
    "same time, one is kept out only if the store's lists show every object at once"
)
#: Useless objects that are removed at once, while a request is long.
_MOST_STALE = 50


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
        return f"{self.folder}{number:0{DIGITS}}{suffix}"

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
