"""Routes: each reads its request, runs a flow, and sends the answer (`filehandoff.web.routes`)."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from io import SEEK_END
from typing import cast

import quart
from aiobotocore.response import StreamingBody
from quart import Blueprint, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from filehandoff import logs, strategies
from filehandoff.causes import CAUSES, MAX_BYTES, report
from filehandoff.errors import FileTooLarge, Overloaded, UnknownCause, UploadError, fault, temporary_files
from filehandoff.form import FORM_TYPE, file_missing
from filehandoff.http import REQUEST_ID_HEADER
from filehandoff.keys import KEY_PATTERN, new_key
from filehandoff.raw_body import RawBody
from filehandoff.receipt import UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.web import routes as answers
from filehandoff.web.routes import Answer, explained, incoming, incoming_file, json_answer, upload_context
from quart_app.admission import place
from quart_app.causes import reproduce
from quart_app.handoffs import OF_A_FILE, stream
from quart_app.hooks import HOOKS
from quart_app.request import Request
from quart_app.service import Service, service
from quart_app.store import send_body
from quart_app.uploads import FormUpload

logger = logging.getLogger(__name__)
routes = Blueprint("uploads", __name__)
request = cast("Request", quart.request)


class KeyConverter(PathConverter):
    """A key of an upload's in a route: no address below it, such as `<key>/complete`, is one."""

    regex = f"(?:[^/].*?)?{KEY_PATTERN}"


@contextmanager
def counted(handoff: str, *, begins: bool = False) -> Iterator[None]:
    """Have /metrics count an upload by how this block ends."""
    try:
        with service().metrics.upload(handoff, begins=begins):
            try:
                yield
            except Overloaded:
                if request.has_left:  # it would have ended because of that, if the process had not ended first
                    raise asyncio.CancelledError from None
                raise
    except asyncio.CancelledError:
        logger.info("abandoned: the client has left")
        raise


@asynccontextmanager
async def admitted() -> AsyncIterator[None]:
    """Hold one of the places of uploads for the block, which ends early at the end of the process.

    Raises:
        Overloaded: this process takes no more now; before any of the request's body was read.
    """
    async with service().shutdown.upload(), place(service().uploads):
        yield


def respond(answer: Answer) -> Response:
    """Send a whole answer, with its own headers alone."""
    response = Response(answer.body, answer.status)
    response.headers.clear()
    response.headers.update(answer.headers)
    return response


async def read[T](flow: Flow[T]) -> T:
    """Run a flow about an object, in a place that is held until the answer is sent or its client has left.

    Raises:
        Overloaded: this process answers no more such requests now.
    """
    with service().metrics.refusals():
        request.until_answered.enter_context(service().reads.held())
    return await service().store.run(flow)


@routes.before_app_request
async def begin() -> None:
    """Put the request's id on every line that is logged from here on."""
    logs.bind(request.request_id)


@routes.post("/uploads")
async def upload() -> Response:
    """Store the files of the form by the default hand-off, or any other body as one file."""
    if request.mimetype == FORM_TYPE:
        return await store_form(strategies.DEFAULT_HANDOFF)
    return await store_body()


@routes.post("/uploads/<name>")
async def upload_by(name: str) -> Response:
    """Store the files of the form by the hand-off of this name, with the hook that the query names."""
    return await store_form(name)


@routes.put("/uploads")
@routes.put("/uploads/presigned", defaults={"name": "presigned"})
@routes.put("/uploads/<name>")
async def put(name: str = "") -> Response:
    """Store the body as one file of this name."""
    return await store_body(name)


async def store_form(handoff: str) -> Response:
    """Store the files of the form: all of them, or none."""
    with counted(handoff):
        way = upload_context(service(), request, handoff)
        async with admitted(), FormUpload(service(), way, HOOKS[way.hook]()) as form:
            if handoff == "stream":
                await send_stream(form)
            else:
                await send_files(form, way)
            if not form:
                raise file_missing(service().settings.limits)
            stored = await form.complete()
        return respond(answers.stored(service(), request, way, stored))


async def store_body(name: str = "") -> Response:
    """Store the body of the request as one file, while it arrives."""
    with counted(strategies.DEFAULT_HANDOFF):
        way = upload_context(service(), request, strategies.DEFAULT_HANDOFF)
        raw = RawBody(name, request.headers, request.content_length, service().settings.limits)
        async with admitted(), FormUpload(service(), way, HOOKS[way.hook]()) as form:
            async with aclosing(raw_chunks(raw)) as chunks:
                await form.stream(incoming(service(), raw.start), chunks)
            stored = await form.complete()
        return respond(answers.stored(service(), request, way, stored))


async def raw_chunks(raw: RawBody) -> AsyncGenerator[bytes]:
    """Yield the body's chunks as they arrive, counted; raise at the end if some are missing."""
    async with aclosing(request.chunks()) as body:
        async for chunk in body:
            yield raw.receive(chunk)
    raw.finish()


async def send_stream(form: FormUpload) -> None:
    """Send the files of the form while its body arrives."""
    async with aclosing(request.chunks()) as body:
        parser = request.form_parser()
        await stream.hand_off(body, parser, lambda start, chunks: form.stream(incoming(service(), start), chunks))


async def send_files(form: FormUpload, way: UploadContext) -> None:
    """Send the files that the form parser has made of the form."""
    with temporary_files():
        for file in await request.sent_files():
            with explained(file, way):
                await OF_A_FILE[way.handoff](file, partial(form.upload, incoming_file(service(), file)))


@routes.post("/uploads/presigned")
async def presign() -> Response:
    """The URL, or the first of them, by which the client may send the file that it describes to S3 itself."""
    with counted("presigned", begins=True):
        way = upload_context(service(), request, "presigned")
        reader = answers.wanted_reader(service(), request)
        async with admitted():
            async with aclosing(request.chunks()) as body:
                async for chunk in body:
                    reader.receive(chunk)
            flow = answers.presign(service(), way, reader, HOOKS[way.hook]())
            return respond(await service().store.run(flow))


@routes.get("/uploads/presigned/<path:key>/parts")
async def presign_parts(key: str) -> Response:
    """The parts that follow part `after`: their URLs, and which of them S3 has."""
    return respond(await read(answers.presigned_parts(service(), request, key)))


@routes.delete("/uploads/presigned/<key:key>")
async def abort_presigned(key: str) -> Response:
    """End an upload in parts that is not complete."""
    return respond(await read(answers.abort_presigned(service(), request, key)))


@routes.post("/uploads/presigned/<path:key>/complete")
async def complete(key: str) -> Response:
    """Read back what the client has sent to S3; it is an upload only if it is what was promised."""
    with counted("presigned"):
        flow = answers.complete_presigned(service(), request, key)
        async with admitted():
            return respond(await service().store.run(flow))


@routes.post("/causes/<cause>")
async def show_cause(cause: str) -> Response:
    """Run the view that fails by this cause on the file that was sent, and tell what was seen."""
    if cause not in CAUSES:
        raise UnknownCause(f"There is no cause '{cause}'; there are {', '.join(CAUSES)}.")
    with service().metrics.refusals():
        async with admitted():
            with temporary_files():
                file = next(iter(await request.sent_files()), None)
                if file is None:
                    raise file_missing(service().settings.limits)
                if file.stream.seek(0, SEEK_END) > MAX_BYTES:
                    raise FileTooLarge(f"A cause is shown with a file of at most {MAX_BYTES} bytes.")
                file.stream.seek(0)
                key = new_key(service().settings.key_prefix, file.filename or "")
                close = await reproduce(cause, file, service(), key, request.request_id)
    return respond(json_answer(asdict(report(cause, service().framework, request.request_id, close))))


@routes.get("/objects/<path:key>")
async def get_object(key: str) -> Response:
    """The object's bytes, streamed, or one range of them; without them to HEAD, and to a client that has them."""
    match await read(answers.get_object(service(), request, key)):
        case Answer() as answer:
            return respond(answer)
        case info, body:
            return Response(download(service(), request.hang_up, body), info.status, info.headers())


async def download(own: Service, hang_up: Callable[[], None], body: StreamingBody) -> AsyncGenerator[bytes]:
    """Yield an object's bytes until the time of downloads is up; the request's context has ended by then."""
    with own.drain.download(hang_up):
        async with aclosing(send_body(body)) as chunks:
            async for chunk in chunks:
                yield chunk


@routes.delete("/objects/<path:key>")
async def delete_object(key: str) -> Response:
    """Remove the object."""
    return respond(await read(answers.delete_object(service(), request, key)))


@routes.get("/receipts")
async def get_receipts() -> Response:
    """The receipts of the objects that the query names, from their heads in S3."""
    return respond(await read(answers.receipts(service(), request)))


@routes.get("/strategies")
async def get_strategies() -> Response:
    """Every pair of hand-off and hook, and what becomes of a file in it."""
    return respond(answers.strategies_answer(service()))


@routes.get("/healthz")
async def healthz() -> Response:
    """The process answers."""
    return respond(json_answer({"status": "ok"}))


@routes.get("/readyz")
async def readyz() -> Response:
    """S3 answers for our bucket, within a second, and the process does not end."""
    return respond(await service().store.run(answers.ready(service())))


@routes.get("/metrics")
async def get_metrics() -> Response:
    """What this app has done so far, in numbers, for Prometheus."""
    render = service().metrics.render
    text, content_type = await asyncio.to_thread(render, request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@routes.get("/openapi.json")
async def get_openapi() -> Response:
    """What this service promises, as OpenAPI."""
    return respond(answers.openapi_answer(service()))


@routes.after_app_request
async def add_request_id(response: Response) -> Response:
    """Put the request's id on every answer."""
    response.headers[REQUEST_ID_HEADER] = request.request_id
    return response


@routes.app_errorhandler(UploadError)
async def answer_error(error: UploadError) -> Response:
    """An error of ours as problem details."""
    return respond(answers.problem(service(), request, error))


@routes.app_errorhandler(HTTPException)
async def answer_http_error(error: HTTPException) -> Response:
    """An error of Quart's own, such as its router's 404, as problem details."""
    return respond(answers.http_problem(service(), request, error))


@routes.app_errorhandler(Exception)
async def answer_fault(error: Exception) -> Response:
    """Anything else is our fault: the log has it, the client gets its request's id."""
    return respond(answers.problem(service(), request, fault(error)))
