"""The files of one form on their way into S3: all of them stored, or none.

S3 has no transaction. So multipart uploads are completed only when every file of the form has been sent, small files
are put at once, and when anything fails, whatever was begun is undone.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from io import SEEK_END
from traceback import clear_frames
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from filehandoff import logs
from filehandoff.digest import Digest
from filehandoff.errors import ObjectMissing, StoreRejected, StoreUnavailable, UploadError
from filehandoff.parts import Part, cut, read_chunks
from filehandoff.receipt import Incoming, Stored, Way
from filehandoff.undoing import UNDO_SECONDS
from filehandoff.verify import check_etag, check_size
from flask_app.hooks import Hook
from flask_app.store import Store
from flask_app.threads import THREADS, Calls

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)


class _BrokenOff(BaseException):
    """Nobody wants this part any more; no Exception, or boto would send it again."""


class Batch:
    """The uploads of one form.

    with Batch(store, way, hook, go_on) as batch:
        batch.upload(incoming, file)
        stored = batch.complete()

    While S3 is waited for, and parts are sent, `go_on` is called again and again, and stops the upload by raising.
    """

    def __init__(self, store: Store, way: Way, hook: Hook, go_on: Callable[[], None]) -> None:
        self._store = store
        self._way = way
        self._hook = hook
        self._go_on = go_on
        self._uploads: list[SinglePut | MultipartUpload] = []
        self._complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, _error: object, traceback: TracebackType | None) -> None:
        if not self._complete:
            self._undo()
        # The frames that failed hold the bytes they had, and are themselves held by the error, by way of cycles that
        # the garbage collector may find only after many such uploads.
        clear_frames(traceback)

    def __bool__(self) -> bool:
        return bool(self._uploads)

    def upload(self, incoming: Incoming, file: IO[bytes]) -> None:
        """Send a readable file, a seekable one from its first byte; it is read to its end when this returns.

        Raises:
            ValueError: somebody closed the file meanwhile.
            DigestMismatch: its bytes are not the promised ones.
            StoreRejected, StoreUnavailable: what S3 said.
        """
        with logs.bound(self._way.request_id):  # a hand-off may call this in a thread of its own
            self._upload(incoming, file)

    def _upload(self, incoming: Incoming, file: IO[bytes]) -> None:
        if not file.seekable():
            self.stream(incoming, read_chunks(file))
        elif file.seek(0, SEEK_END) > self._store.settings.part_bytes:
            file.seek(0)
            self.stream(incoming, read_chunks(file))
        else:
            # S3 reads the file itself, so none of it is held here.
            digest = Digest()
            file.seek(0)
            crc32 = digest.update(read_chunks(file))
            file.seek(0)
            self._put(incoming, file, digest, crc32)

    def stream(self, incoming: Incoming, chunks: Iterable[bytes]) -> None:
        """Send a file of any size as its bytes come, in chunks; they have come to their end when this returns.

        Raises:
            DigestMismatch: its bytes are not the promised ones.
            StoreRejected, StoreUnavailable: what S3 said.
        """
        upload = MultipartUpload(self._store, incoming, self._go_on)
        parts = cut(upload.watch(chunks), self._store.settings.part_sizes)
        first = next(parts)
        if first.last:
            digest = Digest()
            crc32 = digest.update(first.chunks)
            self._put(incoming, first.open(), digest, crc32)
        else:
            self._uploads.append(upload)
            all_parts = chain([first], parts)
            del first  # or it would be held in memory for as long as the upload takes
            upload.send(all_parts, self._hook)

    def _put(self, incoming: Incoming, body: IO[bytes], digest: Digest, crc32: int) -> None:
        upload = SinglePut(self._store, incoming, digest, self._go_on)
        self._uploads.append(upload)
        upload.send(body, crc32, self._hook)

    def complete(self) -> list[Stored]:
        """Make the files visible in S3, in the order they were sent, and see that it has all of each.

        Raises:
            StoreRejected: what S3 has is not what it was sent.
        """
        stored = [upload.complete() for upload in self._uploads]
        for upload, one in zip(self._uploads, stored, strict=True):
            upload.calls.make(partial(self._confirm, one))
        self._complete = True
        return stored

    def _confirm(self, stored: Stored) -> None:
        try:
            size, etag = self._store.look(stored.incoming.key)
        except ObjectMissing as error:
            raise StoreRejected("S3 does not have the object that it said it had stored.") from error
        check_size(stored.size, size)
        check_etag(stored.etag, etag.strip('"'), stored.parts)

    def _undo(self) -> None:
        """Undo all in a bounded time, and have the rest undone later."""
        left = deque(self._uploads)
        _, running = wait([THREADS.submit(partial(self._undo_all, left))], UNDO_SECONDS)
        if running:
            logger.error("an upload could not be undone in time")
        for upload in tuple(left):
            self._store.metrics.undo_failures.inc()
            self._store.undoing.later(upload.undo, self._way.request_id, upload.key)

    def _undo_all(self, left: "deque[SinglePut | MultipartUpload]") -> None:
        """Undo one after the other: those that fail stay, and all that come after S3 did not answer for one."""
        for _ in range(len(left)):
            try:
                left[0].undo()
            except Exception as error:  # noqa: BLE001 - also a want of memory must lose no upload
                logger.error("an upload could not be undone yet: %s", error.__cause__ or error)  # noqa: TRY400 - a store that is down needs no traceback for each request
                if isinstance(error, StoreUnavailable):
                    return
                left.rotate(-1)
            else:
                left.popleft()


class SinglePut:
    """A file of at most one part, whose digest is known before it is sent."""

    def __init__(self, store: Store, incoming: Incoming, digest: Digest, go_on: Callable[[], None]) -> None:
        self._store = store
        self._incoming = incoming
        self.key = incoming.key
        self.calls = Calls(store.undoing, self.undo, self.key, go_on)
        self._digest = digest
        self._etag = ""
        self._begun = False

    def send(self, body: IO[bytes], crc32: int, hook: Hook) -> None:
        """Put the file."""
        self._digest.check(self._incoming.promised)
        self._begun = True
        self._etag = self.calls.make(partial(self._store.put, self._incoming, body, crc32, hook))

    def complete(self) -> Stored:
        """Nothing is left to do: a put is visible at once."""
        return Stored(self._incoming, self._digest.size, self._digest.sha256, self._etag, parts=1)

    def undo(self) -> None:
        """Remove the object; also after a put that failed, for its answer alone may have been lost."""
        if self._begun:
            self._store.delete(self._incoming.key)


class MultipartUpload:
    """A larger file: its parts are sent by a few threads while the next ones are read."""

    def __init__(self, store: Store, incoming: Incoming, go_on: Callable[[], None]) -> None:
        self._store = store
        self._incoming = incoming
        self.key = incoming.key
        self._go_on = go_on
        self.calls = Calls(store.undoing, self.undo, self.key, go_on)
        self._digest = Digest()
        self._upload_id: str | None = None
        self._sending: set[Future[CompletedPartTypeDef]] = set()
        self._parts: list[CompletedPartTypeDef] = []
        self._begun = False
        self._broken_off = False
        self._completing = False

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks for as long as no part has failed: a slow client need not send the next part to be told so."""
        for chunk in chunks:
            self._go_on()
            if any(future.done() for future in self._sending):
                self._take_sent()
            yield chunk

    def send(self, parts: Iterator[Part], hook: Hook) -> None:
        """Begin the upload and send every part, while at most one more is read from `parts`."""
        self._begun = True
        upload_id = self.calls.make(partial(self._begin, hook))
        self._send_parts(parts, upload_id)
        self._digest.check(self._incoming.promised)

    def _begin(self, hook: Hook) -> str:
        self._upload_id = self._store.create_multipart(self._incoming, hook)
        return self._upload_id

    def _send_parts(self, parts: Iterator[Part], upload_id: str) -> None:
        try:
            for part in parts:
                crc32 = self._digest.update(part.chunks)
                if len(self._sending) == self._store.settings.parts_in_flight:
                    self._take_sent()
                self._sending.add(THREADS.submit(partial(self._send_part, upload_id, part, crc32)))
            while self._sending:
                self._take_sent()
        except BaseException:
            self._broken_off = True
            self.calls.end(self._sending)
            raise

    def _send_part(self, upload_id: str, part: Part, crc32: int) -> "CompletedPartTypeDef":
        try:
            return self._store.upload_part(self._incoming.key, upload_id, part, crc32, self._check_wanted)
        finally:
            part.release()

    def _check_wanted(self) -> None:
        try:
            self._go_on()
        except UploadError as error:
            raise _BrokenOff from error
        if self._broken_off:
            raise _BrokenOff

    def _take_sent(self) -> None:
        done, self._sending = self.calls.first_of(self._sending)
        try:
            self._parts.extend(future.result() for future in done)
        except _BrokenOff:
            self._go_on()  # raises what broke it off
            raise

    def complete(self) -> Stored:
        """Make one object of the parts."""
        assert self._upload_id is not None
        self._completing = True
        parts = sorted(self._parts, key=lambda part: part["PartNumber"])
        complete = partial(self._store.complete_multipart, self._incoming.key, self._upload_id, parts)
        completed = self.calls.make(complete)
        completed.check(parts)
        return Stored(self._incoming, self._digest.size, self._digest.sha256, completed.etag, len(parts))

    def undo(self) -> None:
        """Abort the upload; if it was to be completed, remove the object, for the answer alone may have been lost.

        The object is removed also if aborting fails: most often because there is nothing left to abort.
        """
        failure: UploadError | None = None
        try:
            self._abort()
        except UploadError as error:
            failure = error
        if self._completing:
            self._store.delete(self._incoming.key)
        if failure is not None:
            raise failure

    def _abort(self) -> None:
        key = self._incoming.key
        known = self._upload_id is not None and self._store.abort_multipart(key, self._upload_id)
        if self._begun and not known and not self._completing:
            self._store.abort_lost(key)  # its id was not answered, or another than it has


def chain(first: list[Part], rest: Iterator[Part]) -> Iterator[Part]:
    """The first parts, which are taken out of their list, or they would stay in memory, then the rest."""
    while first:
        yield first.pop(0)
    yield from rest
