"""The files of one form on their way to S3: all stored, or none.

`filehandoff.s3.uploads` has the flows of each file.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from io import SEEK_END
from traceback import clear_frames
from types import TracebackType
from typing import IO, Self, TypeVar

from filehandoff import cancellation
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.digest import Digest
from filehandoff.file_types import HEAD_BYTES, FirstBytes
from filehandoff.parts import Part, cut, read_chunks
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.s3.uploads import FileUpload, MultipartUpload, SinglePut, leave, leave_to_cleanup, undo_all
from flask_app.hooks import Hook
from flask_app.service import Service
from flask_app.store import PartAborted
from flask_app.threads import THREADS, finish_in_time, wait_for_all, wait_for_first

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FormUpload:
    """The uploads of one form.

    with FormUpload(service, context, hook) as form:
        form.upload(incoming, file)
        answer = form.complete(respond)
    """

    def __init__(self, service: Service, context: UploadContext, hook: Hook) -> None:
        self._service = service
        self._context = context
        self._hook = hook
        self._view = copy_context()
        self._uploads: list[FileUpload] = []
        self._complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, _error: object, traceback: TracebackType | None) -> None:
        try:
            if not self._complete:
                self._undo()
        finally:
            # The failed frames hold the file's bytes, and reference cycles of the error hold the frames. The garbage
            # collector may find such cycles only after many uploads.
            clear_frames(traceback)

    def __bool__(self) -> bool:
        return bool(self._uploads)

    def upload(self, incoming: Incoming, file: IO[bytes]) -> None:
        """Send a readable file to its end, a seekable one from its first byte.

        Raises:
            ValueError: the file was closed meanwhile.
            DigestMismatch: the bytes do not have the promised digest.
            TypeNotAllowed: the first bytes are of a type that is not allowed; nothing was sent to S3.
            StoreRejected, StoreUnavailable: S3 refused the file, or did not respond.
        """
        # A hand-off may call this in another thread, which must know the request's id, cancellation and span.
        self._view.copy().run(self._upload, incoming, file)

    def _upload(self, incoming: Incoming, file: IO[bytes]) -> None:
        if not file.seekable():
            self.stream(incoming, read_chunks(file))
        elif file.seek(0, SEEK_END) > self._service.settings.part_bytes:
            file.seek(0)
            self.stream(incoming, read_chunks(file))
        else:
            # boto reads the file itself, so memory holds none of it.
            digest = Digest()
            file.seek(0)
            if self._service.file_types:
                incoming = self._typed(incoming, file.read(HEAD_BYTES))
                file.seek(0)
            crc32 = digest.update(read_chunks(file))
            file.seek(0)
            self._put(incoming, file, digest, crc32)

    def stream(self, incoming: Incoming, chunks: Iterable[bytes]) -> None:
        """Send a file of any size while its chunks arrive, until they end.

        Raises:
            DigestMismatch: the bytes do not have the promised digest.
            TypeNotAllowed: the first bytes are of a type that is not allowed; nothing was sent to S3.
            StoreRejected, StoreUnavailable: S3 refused the file, or did not respond.
        """
        if self._service.file_types:
            head, chunks = read_head(iter(chunks))
            incoming = self._typed(incoming, head)
        sender = PartSender(self._service, MultipartUpload(self._service, incoming))
        parts = cut(sender.watch(chunks), self._service.settings.part_sizes)
        first = next(parts)
        if first.last:
            digest = Digest()
            crc32 = digest.update(first.chunks)
            self._put(incoming, first, digest, crc32)
        else:
            self._uploads.append(sender.upload)
            all_parts = chain([first], parts)
            del first  # otherwise memory holds it until the upload ends
            sender.send(all_parts, self._hook)

    def _typed(self, incoming: Incoming, head: bytes) -> Incoming:
        """Check the first bytes of a file, and return it with the content type to store."""
        assert self._service.file_types
        return replace(incoming, content_type=self._service.file_types.check(incoming.content_type, head))

    def _put(self, incoming: Incoming, body: "IO[bytes] | Part", digest: Digest, crc32: int) -> None:
        upload = SinglePut(self._service, incoming, digest)
        self._uploads.append(upload)
        self._service.store.run(upload.send(body, crc32, self._hook))

    def complete(self, respond: "Callable[[Sequence[Stored], Callable[[], None]], Flow[T]]") -> T:
        """Make the files visible in S3, in their order, and check each object; then respond.

        `respond` makes a flow of the files and of a function, by which the flow keeps them in S3.

        Raises:
            StoreRejected: an object in S3 is not the file.
        """
        stored = [self._service.store.run(upload.complete()) for upload in self._uploads]
        return self._service.store.run(respond(stored, self._keep))

    def _keep(self) -> None:
        self._complete = True

    def _undo(self) -> None:
        """Remove all uploads in a bounded time, and leave the rest to the cleanup."""
        left = deque(self._uploads)
        try:
            if not finish_in_time(partial(self._service.store.run, undo_all(left))):
                logger.error("an upload could not be removed in time")
        finally:
            leave_to_cleanup(self._service, left, self._context.request_id)


class PartSender:
    """The sender of an upload's parts, by a few threads while the next are read."""

    def __init__(self, service: Service, upload: MultipartUpload) -> None:
        self.upload = upload
        self._service = service
        self._failed = Cancellation(outer=cancellation.current())
        self._sending: set[Future[None]] = set()

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks until a part fails.

        The error does not wait for the next part of a slow client.
        """
        for chunk in chunks:
            cancellation.check()
            if any(future.done() for future in self._sending):
                self._collect_sent()
            yield chunk

    def send(self, parts: Iterator[Part], hook: Hook) -> None:
        """Begin the upload and send every part, with at most one more read ahead."""
        self._service.store.run(self.upload.begin(hook))
        try:
            for part in parts:
                crc32 = self.upload.digest.update(part.chunks)
                if len(self._sending) == self._service.settings.parts_in_flight:
                    self._collect_sent()
                self._sending.add(THREADS.submit(partial(self._send_part, part, crc32)))
            while self._sending:
                self._collect_sent()
        except BaseException:
            self._failed.cancel(PartAborted)
            wait_for_all(self._sending, partial(leave, self._service, self.upload))
            raise
        self.upload.check_digest()

    def _send_part(self, part: Part, crc32: int) -> None:
        with cancelled_by(self._failed):
            self._service.store.run(self.upload.send_part(part, crc32))

    def _collect_sent(self) -> None:
        done, self._sending = wait_for_first(self._sending)
        try:
            for future in done:
                future.result()
        except PartAborted:
            cancellation.check()  # raises the error of the cancellation
            raise


def read_head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Read the first chunks of a file; return its first bytes, and all chunks again."""
    head, ahead = FirstBytes(), list[bytes]()
    while not head.are_complete and (chunk := next(chunks, None)) is not None:
        ahead.append(head.receive(chunk))
    return bytes(head), chain(ahead, chunks)


def chain(first: list[T], rest: Iterator[T]) -> Iterator[T]:
    """Yield the first parts or chunks, then the rest.

    The first ones are removed from their list, or they would stay in memory.
    """
    while first:
        yield first.pop(0)
    yield from rest
