"""The bytes of resumable uploads in S3: chunks of any size become parts, the bytes after the last full part an object.

`Writer` takes the chunks of one request, and `filehandoff.s3.upload_state` keeps the result. Parts always
begin at the same offsets, so two writers of one upload could only write the same bytes twice. The last part is sent
only by `finish`: the upload has all its bytes in S3 exactly when its object exists, and a client that continues from
the last offset always sends some bytes again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from filehandoff.digest import Digest, crc32_header, crc32_of_all
from filehandoff.errors import (
    DigestMismatch,
    FileTooLarge,
    FormMalformed,
    Locked,
    ObjectMissing,
    StoreUnavailable,
    TypeNotAllowed,
    UploadGone,
)
from filehandoff.file_types import HEAD_BYTES
from filehandoff.parts import Part, PartCutter
from filehandoff.receipt import Stored
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Compute, Finish, Flow
from filehandoff.s3.context import Context
from filehandoff.s3.upload_lock import Held
from filehandoff.s3.upload_removal import remove
from filehandoff.s3.upload_state import PartChecksums, Rest, State, put, read
from filehandoff.tus import PARTIAL, Chunk

T = TypeVar("T")

#: Records of one lock: one more is due when this part of its time is over.
_RENEWALS = 3


class Writer:
    """The bytes of one request on their way into an upload, sans I/O.

    A shell runs `open`, then calls `receive` with each chunk of the body. It sends each part that `receive` yields by
    `send`, also in parallel, after `begin` for the first one. At the end of the body it runs `finish` if the file is
    complete, otherwise `pause`. After any failure it runs `pause` too. While the body arrives, it runs `renew` whenever
    `is_old`.

    Args:
        service: the app's state.
        held: the locked upload.
        chunk: the head of the request.
        hook: the boto event hook of the object.
    """

    def __init__(self, service: Context, held: Held, chunk: Chunk, hook: object) -> None:
        base = held.state
        self._service = service
        self._held = held
        self._base = base
        self._chunk = chunk
        self._hook = hook
        self._length = chunk.length if base.length is None else base.length
        self._upload_id = base.upload_id
        self._content_type = base.content_type
        self._cutter = PartCutter(base.sizes, after=len(base.parts))
        self._sent: dict[int, tuple[str, str]] = dict(enumerate(base.parts, 1))
        self._cut = len(base.parts)
        self._offset = base.offset
        self._failed = False
        self._removed = False
        #: Whether the chunk has no checksum, or the right one.
        self._trusted = chunk.checksum is None
        #: The digest of the whole file, if all its bytes pass through this request.
        self._digest = None if base.parts else Digest()

    def open(self) -> Flow[None]:
        """Read the bytes after the last full part again.

        Raises:
            StoreUnavailable: S3 returned other bytes.
        """
        rest = self._base.rest
        if rest is None:
            return
        chunks = yield from read(rest.key)
        crc32 = yield from Compute(partial(crc32_of_all, chunks), rest.size)
        for chunk in chunks:
            tuple(self._cutter.receive(chunk))  # less than a part, so it yields none
        if (crc32, sum(map(len, chunks))) != (rest.crc32, rest.size):
            raise StoreUnavailable("S3 returned other bytes of the upload than it got; try again.")

    def receive(self, chunk: bytes) -> Iterator[Part]:
        """Take the next bytes; yield each part that they complete, the last part of the file never.

        Raises:
            FileTooLarge: the bytes exceed the file's length, or the largest file.
        """
        limit = self._base.largest_file if self._length is None else self._length
        if self._offset + len(chunk) > limit:
            self._failed = True
            raise FileTooLarge(f"The upload has {limit} bytes, and the request has more.")
        self._offset += len(chunk)
        for part in self._cutter.receive(chunk):
            self._cut = part.number
            yield part
        if self._length is not None and self._offset < self._length:
            for part in self._cutter.full():
                self._cut = part.number
                yield part

    @property
    def needs_begin(self) -> bool:
        """Whether `begin` must run before a part is sent."""
        return self._upload_id is None

    def begin(self, part: Part) -> Flow[None]:
        """Create the multipart upload before its first part, and note it in the state.

        Raises:
            TypeNotAllowed: the first bytes are of a type that is not allowed; the upload is removed.
        """
        yield from Finish(self._begin(part))

    def _begin(self, part: Part) -> Flow[None]:
        yield from self._check_type(part)
        incoming = replace(self._base.incoming, content_type=self._content_type)
        self._upload_id = yield from flows.create(self._service, incoming, self._hook)
        yield from self._note()

    def _note(self) -> Flow[None]:
        """Note in the state which parts S3 has."""
        yield from self._held.write(replace(self._progress(), owner=self._held.owner))

    def _check_type(self, part: Part) -> Flow[None]:
        if self._service.file_types is None or self._base.concat == PARTIAL:
            return
        head = b"".join(_up_to(part.chunks, HEAD_BYTES))
        try:
            self._content_type = self._service.file_types.check(self._base.content_type, head)
        except TypeNotAllowed:
            yield from self.remove()
            raise

    def digest(self, part: Part) -> int:
        """Return the CRC-32 of the next part, in the order of the parts; it takes a millisecond for each MiB."""
        if self._digest is not None:
            return self._digest.update(part.chunks)
        return crc32_of_all(part.chunks)

    def send(self, part: Part, crc32: int) -> Flow[None]:
        """Send one part, and release its bytes.

        Raises:
            UploadGone: S3 no longer has the parts before it; the upload is removed.
        """
        assert self._upload_id is not None
        try:
            with self._service.metrics.part():
                sent = yield from calls.upload_part(self._base.key, self._upload_id, part, crc32)
            self._sent[part.number] = sent["ETag"], sent["ChecksumCRC32"]
        except UploadGone:  # a sweep has aborted it
            if part.number <= self._cut:
                yield from self.remove()
            raise
        finally:
            part.release()

    @property
    def is_old(self) -> bool:
        """Whether the lock must be renewed."""
        return self._held.age > self._service.settings.resume_lock / _RENEWALS

    def renew(self) -> Flow[None]:
        """Renew the lock, and note the parts that S3 has.

        Raises:
            Locked: another request has taken the lock over.
        """
        yield from self._note()

    def check(self) -> None:
        """Check the body after its last byte.

        Raises:
            FormMalformed: it is shorter than declared.
            ChecksumMismatch: it differs from its checksum.
        """
        received = self._offset - self._base.offset
        if received < (self._chunk.size or 0):
            raise FormMalformed("The body ends before its declared length; it was cut short.", cut_short=True)
        if self._chunk.checksum is not None:
            self._chunk.checksum.check()
            self._trusted = True

    @property
    def is_complete(self) -> bool:
        """Whether all bytes of the file have arrived."""
        return self._offset == self._length

    def pause(self) -> Flow[State]:
        """Keep the bytes that arrived, and release the lock; return the new state.

        A chunk with a checksum is kept only after `check`.

        Raises:
            Locked: another request has taken the lock over.
        """
        return (yield from Finish(self._pause()))

    def _pause(self) -> Flow[State]:
        if self._removed:
            return self._base
        state = self._progress()
        if self._trusted and not self._failed and not self.is_complete and len(state.parts) == self._cut:
            state = yield from self._with_rest(state)
        try:
            yield from self._held.release(state)
        except Locked:
            if state.rest is not None and state.rest != self._base.rest:
                yield from calls.delete_object(state.rest.key)
            raise
        return state

    def remove(self) -> Flow[None]:
        """Remove the upload; once more does nothing.

        Raises:
            Locked: another request holds it by now.
        """
        if not self._removed:
            yield from self._held.check()
            self._removed = True
            yield from remove(self._service, self._held.folder, self._base)

    def _with_rest(self, state: State) -> Flow[State]:
        """Store the bytes after the last part as an object, and return the state with it."""
        part = self._cutter.finish()
        size = part.size
        if self._offset == self._base.offset or not size:  # S3 has all bytes already
            return replace(state, length=self._length)
        key = f"{self._held.folder}rest-{self._held.owner}"
        crc32 = yield from put(key, part.chunks)
        part.release()
        return replace(state, offset=self._offset, length=self._length, rest=Rest(key, size, crc32))

    def _progress(self) -> State:
        """Return the state with all parts that S3 has without a gap; without those of a chunk that may be wrong."""
        known = len(self._base.parts)
        while self._trusted and known < self._cut and known + 1 in self._sent:
            known += 1
        state = replace(self._base, owner="", upload_id=self._upload_id, content_type=self._content_type)
        if known == len(self._base.parts):
            return state
        return replace(state, parts=self._first(known), offset=self._base.sizes.end(known), rest=None)

    def _first(self, count: int) -> tuple[tuple[str, str], ...]:
        return tuple(self._sent[number] for number in range(1, count + 1))

    def finish(self, respond: Callable[[Stored], Flow[T]]) -> Flow[T]:
        """Make the object, and run `respond` with its file, whose result this returns.

        `respond` makes the last record, by `done`.

        Raises:
            DigestMismatch, TypeNotAllowed: the file is not the promised one; the upload is removed.
            StoreRejected, StoreUnavailable: S3 refused the file, or did not respond; the client can try again.
        """
        return (yield from Finish(self._finish(respond)))

    def _finish(self, respond: Callable[[Stored], Flow[T]]) -> Flow[T]:
        self._failed = True  # the last part's bytes are lost after an error
        part = self._cutter.finish()
        crc32 = yield from Compute(partial(self.digest, part), part.size)
        if self._digest is not None:
            yield from self._check_promise(self._digest)
        if self.is_old:
            yield from self._held.check()
        if self._upload_id is None:
            stored = yield from self._put(part, crc32)
        else:
            stored = yield from self._complete(part, crc32)
        return (yield from respond(stored))

    def _check_promise(self, digest: Digest) -> Flow[None]:
        try:
            digest.check(self._base.promised)
        except DigestMismatch:
            yield from self.remove()
            raise

    def _put(self, part: Part, crc32: int) -> Flow[Stored]:
        assert self._digest is not None
        yield from self._check_type(part)
        incoming = replace(self._base.incoming, content_type=self._content_type)
        etag = yield from flows.put(incoming, part.size, part, crc32, self._hook)
        self._sent[1] = etag, crc32_header(crc32)
        return Stored(incoming, self._digest.size, self._digest.sha256, etag, parts=1)

    def _complete(self, part: Part, crc32: int) -> Flow[Stored]:
        assert self._length is not None
        number = part.number
        checksums = [*(crc for _, crc in self._first(number - 1)), crc32_header(crc32)]
        etag = yield from self._assemble(part, crc32)
        yield from flows.confirm(self._base.key, self._length, etag, number)
        # of requests that have lost S3's answer, or their process, when they created the upload
        abort_lost = partial(flows.abort_lost, self._service, self._base.key)
        yield from flows.undo_or_later(self._service, abort_lost, self._base.request_id, self._base.key)
        incoming = replace(self._base.incoming, content_type=self._content_type)
        sha256 = (yield from self._read_back(checksums)) if self._digest is None else self._digest.sha256
        return Stored(incoming, self._length, sha256, etag, number)

    def _assemble(self, part: Part, crc32: int) -> Flow[str]:
        """Send the last part, and make one object of all; return its ETag.

        The record before it lets a later request recognize the object, if this process ends here.
        """
        assert self._upload_id is not None
        try:
            yield from self.send(part, crc32)
            yield from self._note()
            parts = replace(self._base, parts=self._first(part.number)).sent_parts
            completed = yield from flows.complete(self._base.key, self._upload_id, parts)
        except UploadGone:
            return (yield from self._completed_before())
        completed.check(parts)
        return completed.etag

    def _completed_before(self) -> Flow[str]:
        """Return the ETag of an object that an interrupted `finish` has made.

        Raises:
            UploadGone: there is none, so the parts are lost; the upload is removed.
        """
        try:
            return (yield from calls.head_completed(self._base.key)).etag
        except ObjectMissing:
            yield from self.remove()
            raise UploadGone from None

    def _read_back(self, checksums: Sequence[str]) -> Flow[str]:
        """Return the object's SHA-256, from bytes that have the parts' checksums.

        Raises:
            DigestMismatch: it is not the promised one; the upload is removed.
        """
        if self._base.concat == PARTIAL:
            return ""
        _, body = yield from calls.get_object(self._base.key)
        received = PartChecksums(self._base.sizes)
        try:
            size, sha256 = yield from calls.ReadBack(body, received, "S3 stopped sending the object; try again.")
        finally:
            body.close()
        received.check(checksums)
        if self._base.promised not in {None, sha256}:
            yield from self.remove()
            raise DigestMismatch(
                f"The {size} bytes received have the SHA-256 {sha256}, not the promised {self._base.promised}. "
                "Nothing was stored."
            )
        return sha256

    def done(self, receipts: Sequence[dict[str, object]]) -> Flow[State]:
        """Create the last record, after which no request changes the upload; return its state.

        That of a partial upload has the checksums of its parts, for the final one that reads it.
        """
        assert self._length is not None
        state = replace(
            self._progress(),
            length=self._length,
            offset=self._length,
            upload_id=None,
            parts=self._first(len(self._sent)) if self._base.concat == PARTIAL else (),
            rest=None,
            receipts=tuple(receipts),
            is_done=True,
        )
        yield from self._held.release(state)
        return state


def _up_to(chunks: Sequence[bytes | memoryview], size: int) -> Iterator[bytes | memoryview]:
    """Yield the first bytes of a part, at most `size`."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return
