"""The files of one form on their way into S3: all of them stored, or none.

S3 has no transaction. So multipart uploads are completed only when every file of the form has been sent, small files
are put at once, and when anything fails, or the task is cancelled, whatever was begun is undone.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from functools import partial
from io import SEEK_END
from traceback import clear_frames
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, TypeIs

from filehandoff import logs
from filehandoff.digest import Digest
from filehandoff.errors import ObjectMissing, StoreRejected, UploadError
from filehandoff.parts import CHUNK_BYTES, Part, PartCutter, PartSizes
from filehandoff.parts import read_chunks as read_file_chunks
from filehandoff.receipt import Incoming, Stored, Way
from filehandoff.undoing import UNDO_SECONDS
from filehandoff.verify import check_etag, check_size
from quart_app.hooks import Hook
from quart_app.shutdown import stopped_for
from quart_app.store import Store

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)

#: What is digested on the event loop: in a tenth of a millisecond, and a thread would take longer to be asked.
INLINE_BYTES = 64 * 1024


#: How often one who waits for a call after he was cancelled looks whether the process is to end, in seconds.
LOOK_EVERY = 0.2


class AsyncReader(Protocol):
    """A file that cannot seek and is awaited, such as the end of a queue."""

    async def read(self, size: int) -> bytes:
        """As many bytes as were asked for, fewer only at the end."""
        ...


class Batch:
    """The uploads of one form.

    async with Batch(store, way, hook) as batch:
        await batch.upload(incoming, file)
        stored = await batch.complete()
    """

    def __init__(self, store: Store, way: Way, hook: Hook) -> None:
        self._store = store
        self._way = way
        self._hook = hook
        self._uploads: list[SinglePut | MultipartUpload] = []
        self._complete = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _type: object, _error: object, traceback: TracebackType | None) -> None:
        try:
            if not self._complete:
                await to_the_end(self._undo())
        finally:
            # The frames that failed hold the bytes they had, and are themselves held by the error, by way of cycles
            # that the garbage collector may find only after many such uploads.
            clear_frames(traceback)

    def __bool__(self) -> bool:
        return bool(self._uploads)

    async def upload(self, incoming: Incoming, file: IO[bytes] | AsyncReader) -> None:
        """Send a readable file, a seekable one from its first byte; it is read to its end when this returns.

        Raises:
            ValueError: somebody closed the file meanwhile.
            DigestMismatch: its bytes are not the promised ones.
            StoreRejected, StoreUnavailable: what S3 said.
        """
        if not is_file(file):
            await self.stream(incoming, read_chunks(file.read))
        elif await asyncio.to_thread(file.seek, 0, SEEK_END) > self._store.settings.part_bytes:
            file.seek(0)
            await self.stream(incoming, read_chunks(partial(asyncio.to_thread, file.read)))
        else:
            # S3 reads the file itself, so none of it is held here.
            digest = Digest()
            file.seek(0)
            crc32 = await asyncio.to_thread(digest.update, read_file_chunks(file))
            file.seek(0)
            await self._put(incoming, file, digest, crc32)

    async def stream(self, incoming: Incoming, chunks: AsyncIterator[bytes]) -> None:
        """Send a file of any size as its bytes come, in chunks; they have come to their end when this returns.

        Raises:
            DigestMismatch: its bytes are not the promised ones.
            StoreRejected, StoreUnavailable: what S3 said.
        """
        async with aclosing(cut(chunks, self._store.settings.part_sizes)) as parts:
            first = await anext(parts)
            if first.last:
                digest = Digest()
                if first.size > INLINE_BYTES:
                    crc32 = await asyncio.to_thread(digest.update, first.chunks)
                else:
                    crc32 = digest.update(first.chunks)
                await self._put(incoming, first, digest, crc32)
            else:
                upload = MultipartUpload(self._store, incoming)
                self._uploads.append(upload)
                all_parts = chain([first], parts)
                del first  # or it would be held in memory for as long as the upload takes
                await upload.send(all_parts, self._hook)

    async def _put(self, incoming: Incoming, file: IO[bytes] | Part, digest: Digest, crc32: int) -> None:
        upload = SinglePut(self._store, incoming, digest)
        self._uploads.append(upload)
        await upload.send(file, crc32, self._hook)

    async def complete(self) -> list[Stored]:
        """Make the files visible in S3, in the order they were sent, and see that it has all of each.

        Raises:
            StoreRejected: what S3 has is not what it was sent.
        """
        stored = [await upload.complete() for upload in self._uploads]
        for one in stored:
            await self._confirm(one)
        self._complete = True
        return stored

    async def _confirm(self, stored: Stored) -> None:
        try:
            size, etag = await self._store.look(stored.incoming.key)
        except ObjectMissing as error:
            raise StoreRejected("S3 does not have the object that it said it had stored.") from error
        check_size(stored.size, size)
        check_etag(stored.etag, etag.strip('"'), stored.parts)

    async def _undo(self) -> None:
        try:
            async with asyncio.timeout(UNDO_SECONDS):
                await asyncio.gather(*(undo(upload, self._store, self._way.request_id) for upload in self._uploads))
        except TimeoutError:
            self._store.metrics.undo_failures.inc()
            logger.error("an upload could not be undone in time")  # noqa: TRY400 - likewise


class SinglePut:
    """A file of at most one part, whose digest is known before it is sent."""

    def __init__(self, store: Store, incoming: Incoming, digest: Digest) -> None:
        self._store = store
        self._incoming = incoming
        self.key = incoming.key
        self._digest = digest
        self._etag = ""
        self._begun = False

    async def send(self, file: IO[bytes] | Part, crc32: int, hook: Hook) -> None:
        """Put the file."""
        self._digest.check(self._incoming.promised)
        self._begun = True
        # A put that is cut off may be stored all the same, and after it was undone at that: so it is never cut off.
        self._etag = await to_the_end(self._store.put(self._incoming, file, crc32, hook), self._leave)

    async def complete(self) -> Stored:
        """Nothing is left to do: a put is visible at once."""
        return Stored(self._incoming, self._digest.size, self._digest.sha256, self._etag, parts=1)

    async def undo(self) -> None:
        """Remove the object; also after a put that failed, for its answer alone may have been lost."""
        if self._begun:
            await self._store.delete(self._incoming.key)

    def _leave(self, call: asyncio.Task[Any]) -> None:
        self._store.undoing.after(call, self.undo, logs.bound_id(), self.key)


class MultipartUpload:
    """A larger file: its parts are sent by a few tasks while the next ones are read."""

    def __init__(self, store: Store, incoming: Incoming) -> None:
        self._store = store
        self._incoming = incoming
        self.key = incoming.key
        self._digest = Digest()
        self._digesting = asyncio.Lock()
        self._upload_id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._begun = False
        self._completing = False

    async def send(self, parts: AsyncIterator[Part], hook: Hook) -> None:
        """Begin the upload and send every part, while at most one more is read from `parts`."""
        self._begun = True
        upload_id = await to_the_end(self._begin(hook), self._leave)
        await self._send_parts(parts, upload_id)
        self._digest.check(self._incoming.promised)

    async def _begin(self, hook: Hook) -> str:
        self._upload_id = await self._store.create_multipart(self._incoming, hook)
        return self._upload_id

    async def _send_parts(self, parts: AsyncIterator[Part], upload_id: str) -> None:
        slots = asyncio.Semaphore(self._store.settings.parts_in_flight)
        try:
            # A part that fails cancels the others and the reading: a slow client need not send the next one first.
            async with asyncio.TaskGroup() as sending:
                async for part in parts:
                    await slots.acquire()
                    sending.create_task(self._send_part(upload_id, part)).add_done_callback(lambda _: slots.release())
        except ExceptionGroup as group:
            first = group.exceptions[0]
        else:
            return
        raise first

    async def _send_part(self, upload_id: str, part: Part) -> None:
        try:
            async with self._digesting:  # one after the other, in the order of the parts: the lock is fair
                crc32 = await asyncio.to_thread(self._digest.update, part.chunks)
            self._parts.append(await self._store.upload_part(self._incoming.key, upload_id, part, crc32))
        finally:
            part.release()

    async def complete(self) -> Stored:
        """Make one object of the parts."""
        assert self._upload_id is not None
        self._completing = True
        parts = sorted(self._parts, key=lambda part: part["PartNumber"])
        complete = self._store.complete_multipart(self._incoming.key, self._upload_id, parts)
        completed = await to_the_end(complete, self._leave)
        completed.check(parts)
        return Stored(self._incoming, self._digest.size, self._digest.sha256, completed.etag, len(parts))

    async def undo(self) -> None:
        """Abort the upload; if it was to be completed, remove the object, for the answer alone may have been lost.

        The object is removed also if aborting fails: most often because there is nothing left to abort.
        """
        failure: UploadError | None = None
        try:
            await self._abort()
        except UploadError as error:
            failure = error
        if self._completing:
            await self._store.delete(self._incoming.key)
        if failure is not None:
            raise failure

    async def _abort(self) -> None:
        key = self._incoming.key
        known = self._upload_id is not None and await self._store.abort_multipart(key, self._upload_id)
        if self._begun and not known and not self._completing:
            await self._store.abort_lost(key)  # its id was not answered, or another than it has

    def _leave(self, call: asyncio.Task[Any]) -> None:
        self._store.undoing.after(call, self.undo, logs.bound_id(), self.key)


def is_file(body: IO[bytes] | AsyncReader) -> TypeIs[IO[bytes]]:
    """Whether this is an ordinary file, which can seek but must be read in a thread."""
    return hasattr(body, "seek")


async def read_chunks(read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """A file's chunks by its `read`; when awaiting a chunk fails or is cancelled, nothing is left to close."""
    while chunk := await read(CHUNK_BYTES):
        yield chunk


async def cut(chunks: AsyncIterator[bytes], sizes: PartSizes) -> AsyncGenerator[Part]:
    """The parts of a file from its chunks."""
    cutter = PartCutter(sizes)
    async for chunk in chunks:
        for part in cutter.receive(chunk):
            yield part
    yield cutter.finish()


async def chain(first: list[Part], rest: AsyncIterator[Part]) -> AsyncIterator[Part]:
    """The first parts, which are taken out of their list, or they would stay in memory, then the rest."""
    while first:
        yield first.pop(0)
    async for part in rest:
        yield part


async def undo(upload: SinglePut | MultipartUpload, store: Store, request_id: str) -> None:
    """Undo one upload, or have it undone later; a store that is away cannot keep the others from being undone."""
    try:
        await upload.undo()
    except Exception as error:  # noqa: BLE001 - also a want of memory must lose no upload
        store.metrics.undo_failures.inc()
        logger.error("an upload could not be undone yet: %s", error.__cause__ or error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        store.undoing.later(upload.undo, request_id, upload.key)
    except asyncio.CancelledError:
        store.undoing.later(upload.undo, request_id, upload.key)
        raise


async def to_the_end[T](work: Coroutine[Any, Any, T], leave: Callable[[asyncio.Task[Any]], None] | None = None) -> T:
    """Run `work` to its end even if this task is cancelled meanwhile; the cancellation is raised after it.

    What S3 began while we looked away could not be undone. `work` must be bounded in time, as S3 calls are. A task may
    be cancelled twice: when its client goes, and when the process ends. Then it is not waited for: `leave` is told of
    it, to undo what it does when it ends; without, it gets the time that undoing has.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_see)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done() and stopped_for() <= (0 if leave else UNDO_SECONDS):
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task], timeout=LOOK_EVERY)
        if leave is not None and not task.done():
            leave(task)
        raise


def _see(task: asyncio.Task[Any]) -> None:
    """Its error is raised to whoever waits for it, and is no news to asyncio if nobody does."""
    if not task.cancelled():
        task.exception()
