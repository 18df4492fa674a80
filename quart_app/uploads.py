"""The files of one form on their way to S3: all stored, or none.

`filehandoff.s3.uploads` has the flows of each file.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from io import SEEK_END
from traceback import clear_frames
from types import TracebackType
from typing import IO, Protocol, Self, TypeVar

from filehandoff.digest import Digest
from filehandoff.file_types import HEAD_BYTES, FirstBytes
from filehandoff.parts import CHUNK_BYTES, Part, PartCutter, PartSizes
from filehandoff.parts import read_chunks as read_file_chunks
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.s3.uploads import FileUpload, MultipartUpload, SinglePut, leave_to_cleanup, undo_all
from filehandoff.typing_backports import TypeIs
from quart_app.hooks import Hook
from quart_app.service import Service
from quart_app.store import INLINE_BYTES
from quart_app.tasks import finish_in_time

T = TypeVar("T")

logger = logging.getLogger(__name__)


class AsyncReader(Protocol):
    """A file with an async `read` that cannot seek, such as a queue's end."""

    async def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        ...


class FormUpload:
    """The uploads of one form.

    async with FormUpload(service, context, hook) as form:
        await form.upload(incoming, file)
        answer = await form.complete(respond)
    """

    def __init__(self, service: Service, context: UploadContext, hook: Hook) -> None:
        self._service = service
        self._context = context
        self._hook = hook
        self._uploads: list[FileUpload] = []
        self._complete = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _type: object, _error: object, traceback: TracebackType | None) -> None:
        try:
            if not self._complete:
                await self._undo()
        finally:
            # The failed frames hold the file's bytes, and reference cycles of the error hold the frames. The garbage
            # collector may find such cycles only after many uploads.
            clear_frames(traceback)

    def __bool__(self) -> bool:
        return bool(self._uploads)

    async def upload(self, incoming: Incoming, file: IO[bytes] | AsyncReader) -> None:
        """Send a readable file to its end, a seekable one from its first byte.

        Raises:
            ValueError: the file was closed meanwhile.
            DigestMismatch: the bytes do not have the promised digest.
            TypeNotAllowed: the first bytes are of a type that is not allowed; nothing was sent to S3.
            StoreRejected, StoreUnavailable: S3 refused the file, or did not respond.
        """
        if not is_file(file):
            await self.stream(incoming, read_chunks(file.read))
        elif await asyncio.to_thread(file.seek, 0, SEEK_END) > self._service.settings.part_bytes:
            file.seek(0)
            await self.stream(incoming, read_chunks(partial(asyncio.to_thread, file.read)))
        else:
            # boto reads the file itself, so memory holds none of it.
            digest = Digest()
            file.seek(0)
            if self._service.file_types:
                incoming = self._typed(incoming, await asyncio.to_thread(file.read, HEAD_BYTES))
                file.seek(0)
            crc32 = await asyncio.to_thread(digest.update, read_file_chunks(file))
            file.seek(0)
            await self._put(incoming, file, digest, crc32)

    async def stream(self, incoming: Incoming, chunks: AsyncIterator[bytes]) -> None:
        """Send a file of any size while its chunks arrive, until they end.

        Raises:
            DigestMismatch: the bytes do not have the promised digest.
            TypeNotAllowed: the first bytes are of a type that is not allowed; nothing was sent to S3.
            StoreRejected, StoreUnavailable: S3 refused the file, or did not respond.
        """
        if self._service.file_types:
            head, chunks = await read_head(chunks)
            incoming = self._typed(incoming, head)
        async with aclosing(cut(chunks, self._service.settings.part_sizes)) as parts:
            first = await anext(parts)
            if first.last:
                digest = Digest()
                if first.size > INLINE_BYTES:
                    crc32 = await asyncio.to_thread(digest.update, first.chunks)
                else:
                    crc32 = digest.update(first.chunks)
                await self._put(incoming, first, digest, crc32)
            else:
                sender = PartSender(self._service, MultipartUpload(self._service, incoming))
                self._uploads.append(sender.upload)
                all_parts = chain([first], parts)
                del first  # otherwise memory holds it until the upload ends
                await sender.send(all_parts, self._hook)

    def _typed(self, incoming: Incoming, head: bytes) -> Incoming:
        """Check the first bytes of a file, and return it with the content type to store."""
        assert self._service.file_types
        return replace(incoming, content_type=self._service.file_types.check(incoming.content_type, head))

    async def _put(self, incoming: Incoming, body: "IO[bytes] | Part", digest: Digest, crc32: int) -> None:
        upload = SinglePut(self._service, incoming, digest)
        self._uploads.append(upload)
        await self._service.store.run(upload.send(body, crc32, self._hook))

    async def complete(self, respond: "Callable[[Sequence[Stored], Callable[[], None]], Flow[T]]") -> T:
        """Make the files visible in S3, in their order, and check each object; then respond.

        `respond` makes a flow of the files and of a function, by which the flow keeps them in S3.

        Raises:
            StoreRejected: an object in S3 is not the file.
        """
        stored = [await self._service.store.run(upload.complete()) for upload in self._uploads]
        return await self._service.store.run(respond(stored, self._keep))

    def _keep(self) -> None:
        self._complete = True

    async def _undo(self) -> None:
        """Remove all uploads in a bounded time, and leave the rest to the cleanup."""
        left = deque(self._uploads)
        try:
            if not await finish_in_time(self._service.store.run(undo_all(left))):
                logger.error("an upload could not be removed in time")
        finally:
            leave_to_cleanup(self._service, left, self._context.request_id)


class PartSender:
    """The sender of an upload's parts, by a few tasks while the next are read."""

    def __init__(self, service: Service, upload: MultipartUpload) -> None:
        self.upload = upload
        self._service = service
        self._digesting = asyncio.Lock()

    async def send(self, parts: AsyncIterator[Part], hook: Hook) -> None:
        """Begin the upload and send every part, with at most one more read ahead."""
        await self._service.store.run(self.upload.begin(hook))
        slots = asyncio.Semaphore(self._service.settings.parts_in_flight)
        try:
            # A failed part cancels the others and the reading, without a wait for a slow client's next part.
            async with asyncio.TaskGroup() as sending:
                async for part in parts:
                    await slots.acquire()
                    sending.create_task(self._send_part(part)).add_done_callback(lambda _: slots.release())
        except ExceptionGroup as group:
            first = group.exceptions[0]
        else:
            self.upload.check_digest()
            return
        raise first

    async def _send_part(self, part: Part) -> None:
        try:
            async with self._digesting:  # in the order of the parts, because the lock is fair
                crc32 = await asyncio.to_thread(self.upload.digest.update, part.chunks)
            await self._service.store.run(self.upload.send_part(part, crc32))
        finally:
            part.release()


def is_file(body: IO[bytes] | AsyncReader) -> TypeIs[IO[bytes]]:
    """Return whether this is an ordinary file, which needs a thread to read."""
    return hasattr(body, "seek")


async def read_chunks(read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """Yield a file's chunks by its `read`.

    A failed or cancelled read leaves nothing to close.
    """
    while chunk := await read(CHUNK_BYTES):
        yield chunk


async def cut(chunks: AsyncIterator[bytes], sizes: PartSizes) -> AsyncGenerator[Part]:
    """Yield the parts of a file from its chunks."""
    cutter = PartCutter(sizes)
    async for chunk in chunks:
        for part in cutter.receive(chunk):
            yield part
    yield cutter.finish()


async def read_head(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Read the first chunks of a file; return its first bytes, and all chunks again."""
    head, ahead = FirstBytes(), list[bytes]()
    while not head.are_complete and (chunk := await anext(chunks, None)) is not None:
        ahead.append(head.receive(chunk))
    return bytes(head), chain(ahead, chunks)


async def chain(first: list[T], rest: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield the first parts or chunks, then the rest.

    The first ones are removed from their list, or they would stay in memory.
    """
    while first:
        yield first.pop(0)
    async for one in rest:
        yield one
