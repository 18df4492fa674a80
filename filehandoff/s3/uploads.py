"""The uploads of one form's files as flows: send, complete and undo.

S3 has no transactions. So multipart uploads are completed only after every file of the form has been sent. Small files
are put at once. If anything fails, all started uploads are undone.
"""

import logging
from collections import deque
from functools import partial
from typing import IO, Any, TypeAlias

from filehandoff import logs
from filehandoff.digest import Digest
from filehandoff.errors import StoreUnavailable, UploadError
from filehandoff.parts import Part
from filehandoff.receipt import Incoming, Stored
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import AbandonedCall, Finish, Flow, SentPart
from filehandoff.s3.context import Context

logger = logging.getLogger(__name__)


class SinglePut:
    """The upload of a file of at most one part, with a known digest."""

    def __init__(self, service: Context, incoming: Incoming, digest: Digest) -> None:
        self._service = service
        self._incoming = incoming
        self.key = incoming.key
        self._digest = digest
        self._etag = ""
        self._begun = False

    def send(self, body: "Part | IO[bytes]", crc32: int, hook: Any) -> Flow[None]:
        """Put the file; never cancelled, because S3 might store the file after its removal.

        Raises:
            DigestMismatch: the bytes have another digest than the promised one; nothing was sent.
            StoreRejected: the object is missing or differs.
        """
        self._digest.check(self._incoming.promised)
        self._begun = True
        put = flows.put(self._incoming, self._digest.size, body, crc32, hook)
        self._etag = yield from Finish(put, partial(leave, self._service, self))

    def complete(self) -> Flow[Stored]:
        """Return the stored file, which is visible since the put."""
        yield from ()
        return Stored(self._incoming, self._digest.size, self._digest.sha256, self._etag, parts=1)

    def undo(self) -> Flow[None]:
        """Delete the object, also after a failed put, which S3 may have stored."""
        if self._begun:
            yield from calls.delete_object(self.key)


class MultipartUpload:
    """The upload of a larger file: `begin`, `send_part` (also in parallel), then `complete`."""

    def __init__(self, service: Context, incoming: Incoming) -> None:
        self._service = service
        self._incoming = incoming
        self.key = incoming.key
        self.digest = Digest()
        self._upload_id: str | None = None
        self._parts: list[SentPart] = []
        self._begun = False
        self._completing = False

    def begin(self, hook: Any) -> Flow[None]:
        """Create the upload in S3."""
        self._begun = True
        yield from Finish(self._begin(hook), partial(leave, self._service, self))

    def _begin(self, hook: Any) -> Flow[None]:
        self._upload_id = yield from flows.create(self._service, self._incoming, hook)

    def send_part(self, part: Part, crc32: int) -> Flow[None]:
        """Send one part, and release its bytes."""
        assert self._upload_id is not None
        try:
            with self._service.metrics.part():
                self._parts.append((yield from calls.upload_part(self.key, self._upload_id, part, crc32)))
        finally:
            part.release()

    def check_digest(self) -> None:
        """Compare the digest of all parts with the promised one.

        Raises:
            DigestMismatch: the digests differ.
        """
        self.digest.check(self._incoming.promised)

    def complete(self) -> Flow[Stored]:
        """Make one object of the parts, and confirm it.

        Raises:
            StoreRejected: the object is missing or differs.
        """
        self._completing = True
        return (yield from Finish(self._complete(), partial(leave, self._service, self)))

    def _complete(self) -> Flow[Stored]:
        assert self._upload_id is not None
        parts = sorted(self._parts, key=lambda part: part["PartNumber"])
        completed = yield from flows.complete(self.key, self._upload_id, parts)
        completed.check(parts)
        yield from flows.confirm(self.key, self.digest.size, completed.etag, len(parts))
        return Stored(self._incoming, self.digest.size, self.digest.sha256, completed.etag, len(parts))

    def undo(self) -> Flow[None]:
        """Abort the upload; after `complete`, delete the object too.

        The response to `complete` may be lost. The object is deleted even if the abort fails, because most such aborts
        fail when nothing is left to abort.
        """
        failure: UploadError | None = None
        try:
            yield from self._abort()
        except UploadError as error:
            failure = error
        if self._completing:
            yield from calls.delete_object(self.key)
        if failure is not None:
            raise failure

    def _abort(self) -> Flow[None]:
        known = self._upload_id is not None and (yield from flows.abort(self._service, self.key, self._upload_id))
        if self._begun and not known and not self._completing:
            yield from flows.abort_lost(self._service, self.key)  # the id is unknown, or another upload's


FileUpload: TypeAlias = SinglePut | MultipartUpload


def leave(service: Context, upload: FileUpload, call: AbandonedCall) -> None:
    """Undo the upload after its abandoned call has ended."""
    service.cleanup.after(call, upload.undo, logs.bound_id(), upload.key)


def undo_all(left: deque[FileUpload]) -> Flow[None]:
    """Undo one upload after the other, and drop it from `left`.

    An upload whose undo fails stays in `left`. If S3 does not respond, all following uploads stay too.
    """
    for _ in range(len(left)):
        try:
            yield from left[0].undo()
        except Exception as error:  # noqa: BLE001 - also MemoryError: every upload must be undone
            logger.error("an upload could not be removed yet: %s", error.__cause__ or error)  # noqa: TRY400 - an unavailable store would add a traceback per request
            if isinstance(error, StoreUnavailable):
                return
            left.rotate(-1)
        else:
            left.popleft()


def leave_to_cleanup(service: Context, left: deque[FileUpload], request_id: str) -> None:
    """Pass the uploads that `undo_all` has left to the cleanup."""
    for upload in tuple(left):
        service.metrics.undo_failures.inc()
        service.cleanup.later(upload.undo, request_id, upload.key)
