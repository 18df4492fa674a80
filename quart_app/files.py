"""The routes of resumable uploads (`filehandoff.tus`): each reads its request, runs flows, and sends the answer.

`filehandoff.web.files` makes the flows and the answers, `filehandoff.s3.resumable` the writer of a request's bytes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from traceback import clear_frames

from quart import Blueprint, Response

from filehandoff.errors import UploadError
from filehandoff.parts import Part
from filehandoff.receipt import UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.s3.resumable import Writer
from filehandoff.s3.upload_state import State, open_bytes
from filehandoff.strategies import DEFAULT_HOOK, TUS
from filehandoff.tus import Creation
from filehandoff.web import files
from filehandoff.web.files import PATH, Receiving
from filehandoff.web.routes import Answer
from quart_app.hooks import HOOKS, stamping
from quart_app.request import Request
from quart_app.service import Service
from quart_app.store import INLINE_BYTES, read_body, store_errors
from quart_app.tasks import finish_despite_cancel, finish_in_time
from quart_app.uploads import FormUpload
from quart_app.views import admitted, current, read, respond

logger = logging.getLogger(__name__)

routes = Blueprint("files", __name__)


@routes.route(PATH, methods=["OPTIONS"], defaults={"rule": PATH})
@routes.route(f"{PATH}/<upload_id>", methods=["OPTIONS"], defaults={"rule": f"{PATH}/<upload_id>"})
async def upload_options(rule: str, upload_id: str = "") -> Response:  # noqa: ARG001 - all uploads have the same
    """Return the supported parts of the protocol."""
    return respond(files.options(current()[0], rule))


@routes.post(PATH)
async def create_upload() -> Response:
    """Create an upload, and store the bytes that come with the request."""
    own, sent = current()
    creation = files.creation_of(own, sent)
    if creation.parts:
        return respond(await concatenate(own, sent, creation))
    if creation.chunk is None:
        return respond(await read(files.create(own, sent, creation)))
    return respond(await finish_despite_cancel(receive(own, sent, files.create_receiving(own, sent, creation))))


@routes.get(f"{PATH}/<upload_id>")
async def get_upload(upload_id: str) -> Response:
    """Return the offset of an upload, or the receipt of a complete one."""
    own, sent = current()
    flow = files.status if sent.method == "HEAD" else files.receipts
    return respond(await read(flow(own, sent, upload_id)))


@routes.patch(f"{PATH}/<upload_id>")
async def patch_upload(upload_id: str) -> Response:
    """Store the next bytes of an upload."""
    own, sent = current()
    return respond(await finish_despite_cancel(receive(own, sent, files.claim(own, sent, upload_id))))


@routes.delete(f"{PATH}/<upload_id>")
async def delete_upload(upload_id: str) -> Response:
    """Remove an upload."""
    own, sent = current()
    return respond(await read(files.terminate(own, sent, upload_id)))


@routes.post(f"{PATH}/<upload_id>")
async def override(upload_id: str) -> Response:
    """Act by the method in a header, for clients that send only GET and POST."""
    match files.overridden(current()[1]):
        case "PATCH":
            return await patch_upload(upload_id)
        case "DELETE":
            return await delete_upload(upload_id)
        case _:
            own, sent = current()
            return respond(await read(files.status(own, sent, upload_id)))


async def receive(own: Service, sent: Request, claim: Flow[Receiving | Answer]) -> Answer:
    """Lock an upload, and store the bytes of the request.

    A client's disconnect cancels the request's task, perhaps before this has read the bytes that arrived. So this must
    run in a task of its own, which the disconnect reaches as the end of the body.
    """
    with own.metrics.chunk():
        async with admitted(own):
            match await own.store.run(claim):
                case Receiving() as receiving:
                    return await store_bytes(own, sent, receiving)
                case Answer() as answer:
                    return answer


async def store_bytes(own: Service, sent: Request, receiving: Receiving) -> Answer:
    """Store the bytes of the request; keep those that arrived, if it fails."""
    writer = receiving.writer(own, stamping)
    sender = ChunkSender(own, writer)
    try:
        async with aclosing(sent.chunks()) as body:
            await sender.send(body, receiving)
        writer.check()
        if writer.is_complete:
            return await own.store.run(writer.finish(partial(files.finished, own, sent, receiving, writer)))
        return receiving.answer(own, await own.store.run(writer.pause()))
    except BaseException as error:
        try:
            await finish_in_time(sender.end(receiving.after_failure(writer)))
        finally:
            clear_frames(error.__traceback__)  # they hold bytes, and cycles hold them
        raise


class ChunkSender:
    """The sender of a request's bytes, by a few tasks while the next arrive."""

    def __init__(self, service: Service, writer: Writer) -> None:
        self._service = service
        self._writer = writer
        self._digesting = asyncio.Lock()
        self._slots = asyncio.Semaphore(service.settings.parts_in_flight)
        self._sending: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Timeout | None = None

    async def send(self, chunks: AsyncIterator[bytes], receiving: Receiving) -> None:
        """Send the full parts in the chunks; a failed part ends the reading."""
        checksum = receiving.chunk.checksum
        await self._service.store.run(self._writer.open())
        try:
            async with asyncio.timeout(None) as self._reading:
                async for chunk in chunks:
                    if checksum is not None and len(chunk) > INLINE_BYTES:
                        await asyncio.to_thread(checksum.update, chunk)
                    elif checksum is not None:
                        checksum.update(chunk)
                    await self._take(chunk)
        except TimeoutError:
            if not any(task.done() for task in self._sending):
                raise
        finally:
            self._reading = None
        await self._wait()
        for task in self._sending:
            task.result()

    async def _take(self, chunk: bytes) -> None:
        if self._writer.is_old:
            await self._service.store.run(self._writer.renew())
        for part in self._writer.receive(chunk):
            if self._writer.needs_begin:
                await self._service.store.run(self._writer.begin(part))
            await self._slots.acquire()
            task = asyncio.create_task(self._send_part(part))
            self._sending.add(task)
            task.add_done_callback(self._end)

    async def _send_part(self, part: Part) -> None:
        try:
            async with self._digesting:  # in the order of the parts, because the lock is fair
                crc32 = await asyncio.to_thread(self._writer.digest, part)
            await self._service.store.run(self._writer.send(part, crc32))
        finally:
            part.release()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        if not task.cancelled() and task.exception() is None:
            self._sending.discard(task)
        elif self._reading is not None:
            self._reading.reschedule(0)

    async def _wait(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending)

    async def end(self, flow: Flow[object]) -> None:
        """Wait for the parts in flight, and run the flow after a failure."""
        await self._wait()
        try:
            await self._service.store.run(flow)
        except UploadError as error:
            logger.warning("the bytes of a resumable upload could not be kept: %s", error.__cause__ or error)


async def concatenate(own: Service, sent: Request, creation: Creation) -> Answer:
    """Make one object of the partial uploads' bytes."""
    context = UploadContext(own.framework, TUS, DEFAULT_HOOK, sent.request_id, sent.identity)
    with own.metrics.chunk():
        async with admitted(own), FormUpload(own, context, HOOKS[DEFAULT_HOOK]()) as form:
            made = await own.store.run(files.concatenation(own, sent, creation))
            async with aclosing(bytes_of(own, made.parts)) as chunks:
                await form.stream(made.incoming, chunks)
            return await form.complete(partial(files.concatenated, own, sent, made))


async def bytes_of(own: Service, parts: Iterable[State]) -> AsyncGenerator[bytes]:
    """Yield the bytes of complete partial uploads."""
    for state in parts:
        body, received = await own.store.run(open_bytes(state))
        with store_errors():
            async with aclosing(read_body(body)) as chunks:
                async for chunk in chunks:
                    yield received.receive(chunk)
        received.check([crc32 for _, crc32 in state.parts])
