"""The routes of resumable uploads (`filehandoff.tus`): each reads its request, runs flows, and sends the answer.

`filehandoff.web.files` makes the flows and the answers, `filehandoff.s3.resumable` the writer of a request's bytes.
"""

import logging
from collections.abc import Generator, Iterable
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from traceback import clear_frames

from flask import Blueprint, Response

from filehandoff.cancellation import Cancellation, cancelled_by
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
from flask_app.hooks import HOOKS, stamping
from flask_app.request import Request
from flask_app.service import Service
from flask_app.store import read_body, store_errors
from flask_app.threads import THREADS, finish_in_time, wait_for_first
from flask_app.uploads import FormUpload
from flask_app.views import admitted, current, read, respond

logger = logging.getLogger(__name__)

routes = Blueprint("files", __name__)


@routes.route(PATH, methods=["OPTIONS"], defaults={"rule": PATH})
@routes.route(f"{PATH}/<upload_id>", methods=["OPTIONS"], defaults={"rule": f"{PATH}/<upload_id>"})
def upload_options(rule: str, upload_id: str = "") -> Response:  # noqa: ARG001 - all uploads have the same
    """Return the supported parts of the protocol."""
    return respond(files.options(current()[0], rule))


@routes.post(PATH)
def create_upload() -> Response:
    """Create an upload, and store the bytes that come with the request."""
    own, sent = current()
    creation = files.creation_of(own, sent)
    if creation.parts:
        return respond(concatenate(own, sent, creation))
    if creation.chunk is None:
        return respond(read(files.create(own, sent, creation)))
    return respond(receive(own, sent, files.create_receiving(own, sent, creation)))


@routes.get(f"{PATH}/<upload_id>")
def get_upload(upload_id: str) -> Response:
    """Return the offset of an upload, or the receipt of a complete one."""
    own, sent = current()
    flow = files.status if sent.method == "HEAD" else files.receipts
    return respond(read(flow(own, sent, upload_id)))


@routes.patch(f"{PATH}/<upload_id>")
def patch_upload(upload_id: str) -> Response:
    """Store the next bytes of an upload."""
    own, sent = current()
    return respond(receive(own, sent, files.claim(own, sent, upload_id)))


@routes.delete(f"{PATH}/<upload_id>")
def delete_upload(upload_id: str) -> Response:
    """Remove an upload."""
    own, sent = current()
    return respond(read(files.terminate(own, sent, upload_id)))


@routes.post(f"{PATH}/<upload_id>")
def override(upload_id: str) -> Response:
    """Act by the method in a header, for clients that send only GET and POST."""
    match files.overridden(current()[1]):
        case "PATCH":
            return patch_upload(upload_id)
        case "DELETE":
            return delete_upload(upload_id)
        case _:
            own, sent = current()
            return respond(read(files.status(own, sent, upload_id)))


def receive(own: Service, sent: Request, claim: Flow[Receiving | Answer]) -> Answer:
    """Lock an upload, and store the bytes of the request."""
    with own.metrics.chunk(), admitted(own):
        match own.store.run(claim):
            case Receiving() as receiving:
                return store_bytes(own, sent, receiving)
            case Answer() as answer:
                return answer


def store_bytes(own: Service, sent: Request, receiving: Receiving) -> Answer:
    """Store the bytes of the request; keep those that arrived, if it fails."""
    writer = receiving.writer(own, stamping)
    sender = ChunkSender(own, writer)
    try:
        with closing(sent.chunks()) as body:
            sender.send(body, receiving)
        writer.check()
        if writer.is_complete:
            return own.store.run(writer.finish(partial(files.finished, own, sent, receiving, writer)))
        return receiving.answer(own, own.store.run(writer.pause()))
    except BaseException as error:
        try:
            sender.end(receiving.after_failure(writer))
        finally:
            clear_frames(error.__traceback__)  # they hold bytes, and cycles hold them
        raise


class ChunkSender:
    """The sender of a request's bytes, by a few threads while the next arrive."""

    def __init__(self, service: Service, writer: Writer) -> None:
        self._service = service
        self._writer = writer
        self._sending: set[Future[None]] = set()
        #: The end of the process stops the reading, but no part in flight.
        self._unstoppable = Cancellation()

    def send(self, chunks: Iterable[bytes], receiving: Receiving) -> None:
        """Send the full parts in the chunks; a failed part ends the reading with the next chunk."""
        checksum = receiving.chunk.checksum
        self._service.store.run(self._writer.open())
        for chunk in chunks:
            if checksum is not None:
                checksum.update(chunk)
            if any(future.done() for future in self._sending):
                self._collect_sent()
            self._take(chunk)
        while self._sending:
            self._collect_sent()

    def _take(self, chunk: bytes) -> None:
        if self._writer.is_old:
            self._service.store.run(self._writer.renew())
        for part in self._writer.receive(chunk):
            if self._writer.needs_begin:
                self._service.store.run(self._writer.begin(part))
            crc32 = self._writer.digest(part)
            if len(self._sending) == self._service.settings.parts_in_flight:
                self._collect_sent()
            with cancelled_by(self._unstoppable):
                self._sending.add(THREADS.submit(partial(self._send_part, part, crc32)))

    def _send_part(self, part: Part, crc32: int) -> None:
        self._service.store.run(self._writer.send(part, crc32))

    def _collect_sent(self) -> None:
        done, self._sending = wait_for_first(self._sending)
        for future in done:
            future.result()

    def end(self, flow: Flow[object]) -> None:
        """Wait for the parts in flight, and run the flow after a failure, in a bounded time."""
        with cancelled_by(self._unstoppable):
            finish_in_time(partial(self._end, flow))

    def _end(self, flow: Flow[object]) -> None:
        wait(self._sending)
        try:
            self._service.store.run(flow)
        except UploadError as error:
            logger.warning("the bytes of a resumable upload could not be kept: %s", error.__cause__ or error)


def concatenate(own: Service, sent: Request, creation: Creation) -> Answer:
    """Make one object of the partial uploads' bytes."""
    context = UploadContext(own.framework, TUS, DEFAULT_HOOK, sent.request_id, sent.identity)
    with own.metrics.chunk(), admitted(own), FormUpload(own, context, HOOKS[DEFAULT_HOOK]()) as form:
        made = own.store.run(files.concatenation(own, sent, creation))
        with closing(bytes_of(own, made.parts)) as chunks:
            form.stream(made.incoming, chunks)
        return form.complete(partial(files.concatenated, own, sent, made))


def bytes_of(own: Service, parts: Iterable[State]) -> Generator[bytes]:
    """Yield the bytes of complete partial uploads."""
    for state in parts:
        body, received = own.store.run(open_bytes(state))
        with store_errors():
            yield from map(received.receive, read_body(body))
        received.check([crc32 for _, crc32 in state.parts])
