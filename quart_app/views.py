"""Routes: thin, they choose a hand-off and answer."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from io import SEEK_END
from typing import Any, cast

import quart
from quart import Blueprint, Response, current_app, jsonify
from quart.datastructures import FileStorage
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from filehandoff import logs, strategies
from filehandoff.causes import CAUSES, MAX_BYTES, report
from filehandoff.digest import from_content_digest
from filehandoff.errors import (
    PROBLEM_CONTENT_TYPE,
    FileClosed,
    FileTooLarge,
    Internal,
    ObjectMissing,
    Overloaded,
    UnknownCause,
    UnknownHandoff,
    UnknownHook,
    UploadError,
    fault,
    file_closed,
    from_http,
    temporary_files,
)
from filehandoff.explain import explanation
from filehandoff.form import DIGEST_HEADER, FORM_TYPE, FileStart, check_coding, file_missing
from filehandoff.http import CACHE_CONTROL, REQUEST_ID_HEADER, Asked
from filehandoff.keys import KEY_PATTERN, is_key, new_key
from filehandoff.presigned import Upload, WantedReader, number
from filehandoff.raw_body import RawBody
from filehandoff.receipt import Incoming, Stored, Way
from filehandoff.web import openapi
from filehandoff.web.metrics import Metrics
from filehandoff.web.pages import MAX_RECEIPTS, PAGE_HEADERS, StoredReceipt, problem_page, receipts_page, receipts_path
from quart_app import presigned
from quart_app.admission import Admission, Reading
from quart_app.causes import observe
from quart_app.handoffs import OF_A_FILE, stream
from quart_app.hooks import HOOKS, Hook
from quart_app.request import Request
from quart_app.shutdown import Shutdown
from quart_app.store import Store, send_body
from quart_app.uploads import Batch

FRAMEWORK = "quart"

logger = logging.getLogger(__name__)
routes = Blueprint("uploads", __name__)
request = cast("Request", quart.request)

type Answer = tuple[Response, int, dict[str, str]]


class KeyConverter(PathConverter):
    """A key of an upload's in a route: no address below it, such as `<key>/complete`, is one."""

    regex = f"(?:[^/].*?)?{KEY_PATTERN}"


@contextmanager
def counted(handoff: str, *, begins: bool = False) -> Iterator[None]:
    """Have /metrics count an upload by how this block ends."""
    try:
        with metrics().upload(handoff, begins=begins):
            try:
                yield
            except Overloaded:
                if request.has_left:  # it was to end because of that, when the end of the process came
                    raise asyncio.CancelledError from None
                raise
    except asyncio.CancelledError:
        logger.info("abandoned: the client has left")
        raise


@routes.before_app_request
async def begin() -> None:
    """Put the request's id on every line that is logged from here on."""
    logs.bind(request.request_id)


@routes.post("/uploads")
async def upload() -> Answer:
    """Store the files of the form by the default hand-off, or any other body as one file."""
    if request.mimetype == FORM_TYPE:
        return await store_form(strategies.DEFAULT_HANDOFF)
    return await store_body()


@routes.post("/uploads/<name>")
async def upload_by(name: str) -> Answer:
    """Store the files of the form by the hand-off of this name, with the hook that the query names."""
    return await store_form(name)


@routes.put("/uploads")
@routes.put("/uploads/presigned", defaults={"name": "presigned"})
@routes.put("/uploads/<name>")
async def put(name: str = "") -> Answer:
    """Store the body as one file of this name."""
    return await store_body(name)


async def store_form(handoff: str) -> Answer:
    """Store the files of the form: all of them, or none."""
    with counted(handoff):
        if handoff not in strategies.HANDOFFS:
            raise UnknownHandoff(f"There is no hand-off '{handoff}'; there are {', '.join(strategies.HANDOFFS)}.")
        way, hook = wanted_way(handoff)
        async with admitted(), Batch(store(), way, hook) as batch:
            if handoff == "stream":
                await send_stream(batch)
            else:
                await send_files(batch, way)
            if not batch:
                raise file_missing(store().settings.limits)
            stored = await batch.complete()
        return receipts_of(way, stored)


async def store_body(name: str = "") -> Answer:
    """Store the body of the request as one file, while it arrives."""
    with counted(strategies.DEFAULT_HANDOFF):
        way, hook = wanted_way(strategies.DEFAULT_HANDOFF)
        raw = RawBody(name, request.headers, request.content_length, store().settings.limits)
        async with admitted(), Batch(store(), way, hook) as batch:
            async with aclosing(raw_chunks(raw)) as chunks:
                await batch.stream(incoming(raw.start), chunks)
            stored = await batch.complete()
        return receipts_of(way, stored)


async def raw_chunks(raw: RawBody) -> AsyncGenerator[bytes]:
    """The body's chunks as they arrive, counted; raises at the end if some are missing."""
    async with aclosing(request.chunks()) as body:
        async for chunk in body:
            yield raw.receive(chunk)
    raw.finish()


async def send_stream(batch: Batch) -> None:
    """Send the files of the form while its body arrives."""
    async with aclosing(request.chunks()) as body:
        await stream.hand_off(body, request.form_parser(), lambda start, chunks: batch.stream(incoming(start), chunks))


async def send_files(batch: Batch, way: Way) -> None:
    """Send the files that the form parser has made of the form."""
    with temporary_files():
        for file in await request.sent_files():
            with explained(file, way):
                await OF_A_FILE[way.handoff](file, partial(batch.upload, incoming(describe(file))))


@routes.post("/uploads/presigned")
async def presign() -> Answer:
    """The URL, or the first of them, by which the client may send the file that it describes to S3 itself."""
    with counted("presigned", begins=True):
        hook = wanted_hook()
        check_coding(request.coding)
        wanted = WantedReader(request.mimetype, store().settings.limits, request.content_length)
        way = Way(FRAMEWORK, "presigned", hook, request.request_id)
        async with admitted():
            async with aclosing(request.chunks()) as body:
                async for chunk in body:
                    wanted.receive(chunk)
            given = await presigned.begin(store(), wanted.finish(), way, HOOKS[hook]())
        return jsonify(given), 201, {"Location": object_path(str(given["key"]))}


@routes.get("/uploads/presigned/<path:key>/parts")
async def presign_parts(key: str) -> Response:
    """The parts that follow part `after`: their URLs, and which of them S3 has."""
    after = number(request.args.get("after"), 0)
    upload = presigned_parts(key)
    take_reading_place()
    return jsonify(await presigned.list_parts(store(), upload, after))


@routes.delete("/uploads/presigned/<key:key>")
async def abort_presigned(key: str) -> tuple[str, int]:
    """End an upload in parts that is not complete."""
    upload = presigned_parts(key)
    take_reading_place()
    await presigned.abort(store(), upload)
    return "", 204


@routes.post("/uploads/presigned/<path:key>/complete")
async def complete(key: str) -> Answer:
    """Read back what the client has sent to S3; it is an upload only if it is what was promised."""
    with counted("presigned"):
        upload = presigned_upload(key)
        async with admitted():
            stored, promise = await presigned.complete(store(), key, upload, request.request_id)
        return receipts_of(Way(FRAMEWORK, "presigned", promise.hook, promise.request_id), [stored])


@routes.post("/causes/<cause>")
async def show_cause(cause: str) -> Response:
    """Run the view that fails by this cause on the file that was sent, and tell what was seen."""
    if cause not in CAUSES:
        raise UnknownCause(f"There is no cause '{cause}'; there are {', '.join(CAUSES)}.")
    with metrics().refusals():
        async with admitted():
            with temporary_files():
                file = (await request.files).get("file")
                if file is None:
                    raise file_missing(store().settings.limits)
                if file.stream.seek(0, SEEK_END) > MAX_BYTES:
                    raise FileTooLarge(f"A cause is shown with a file of at most {MAX_BYTES} bytes.")
                file.stream.seek(0)
                key = new_key(store().settings.key_prefix, file.filename or "")
                seen = await observe(cause, file, store(), key, request.request_id)
    return jsonify(report(cause, FRAMEWORK, request.request_id, seen.error, seen.closing).as_json())


@routes.get("/objects/<path:key>")
async def get_object(key: str) -> Response:
    """The object's bytes, streamed, or one range of them; without them to HEAD, and to whoever has them already."""
    check_key(key)
    take_reading_place()
    asked = Asked.of(request.method, request.headers)
    info = await store().head(key) if asked.needs_head else None
    if info is not None and (answer := asked.without_body(info)):
        response = Response("", answer[0])
        response.headers.clear()  # Quart has counted the empty body
        response.headers.update(answer[1])
        return response
    info, body = await store().get(key, asked.byte_range(info))
    return Response(shutdown().download(send_body(body), request.hang_up), info.status, info.headers())


@routes.delete("/objects/<path:key>")
async def delete_object(key: str) -> tuple[str, int]:
    """Remove the object."""
    check_key(key)
    take_reading_place()
    Asked.of(request.method, request.headers).check(await store().head(key))
    await store().delete(key)
    return "", 204


@routes.get("/receipts")
async def get_receipts() -> Response:
    """The receipts of the objects that the query names, from their heads in S3."""
    keys = request.args.getlist("key")[:MAX_RECEIPTS]
    if not keys:
        raise ObjectMissing("Name the objects by their keys, as ?key=….")
    for key in keys:
        check_key(key)
    take_reading_place()
    receipts = [StoredReceipt.of(key, await store().head(key), f"{base_url()}/objects/{key}") for key in keys]
    if request.wants_page:
        return Response(receipts_page(receipts, number(request.args.get("more"), 0)), headers=PAGE_HEADERS)
    response = jsonify(receipts=[receipt.as_json() for receipt in receipts])
    response.headers.update({"Cache-Control": CACHE_CONTROL, "Vary": "Accept"})
    return response


@routes.get("/strategies")
async def get_strategies() -> Response:
    """Every pair of hand-off and hook, and what becomes of a file in it."""
    return jsonify(strategies.describe(FRAMEWORK, store().settings))


@routes.get("/healthz")
async def healthz() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@routes.get("/readyz")
async def readyz() -> Response:
    """S3 answers for our bucket, within a second, and the process is not about to end."""
    shutdown().check_ready()
    await store().ready()
    return jsonify(status="ready")


@routes.get("/metrics")
async def get_metrics() -> Response:
    """What this app has done so far, in numbers, for Prometheus."""
    text, content_type = await asyncio.to_thread(metrics().render, request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@routes.get("/openapi.json")
async def get_openapi() -> Response:
    """What this service promises, as OpenAPI."""
    return jsonify(openapi.document(store().settings.root_path))


@routes.after_app_request
async def add_request_id(response: Response) -> Response:
    """Put the request's id on every answer."""
    response.headers[REQUEST_ID_HEADER] = request.request_id
    return response


@routes.app_errorhandler(UploadError)
async def answer_error(error: UploadError) -> Answer:
    """An error of ours as problem details."""
    level, values = cast("logs.AnswerLog", current_app.extensions["handoff.answer_log"]).line(error, time.monotonic())
    logger.log(
        level,
        "%s: %s",
        error.code,
        error.detail if isinstance(error, FileClosed) else error.__cause__ or error.detail,
        exc_info=error.__cause__ if isinstance(error, Internal) else None,
        extra=values,
    )
    problem = error.problem(request.request_id)
    if request.wants_page:
        return Response(problem_page(problem)), error.status, PAGE_HEADERS | error.headers
    response = jsonify(problem)
    response.content_type = PROBLEM_CONTENT_TYPE
    return response, error.status, error.headers | {"Vary": "Accept"}


@routes.app_errorhandler(HTTPException)
async def answer_http_error(error: HTTPException) -> Answer:
    """An error of Quart's own, such as its router's 404, as problem details."""
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return await answer_error(from_http(error.code or Internal.status, error.name, error.description or "", headers))


@routes.app_errorhandler(Exception)
async def answer_fault(error: Exception) -> Answer:
    """Anything else is our fault: the log has it, the client gets its request's id."""
    return await answer_error(fault(error))


def metrics() -> Metrics:
    """The app's numbers."""
    return store().metrics


def store() -> Store:
    """The app's store."""
    return cast("Store", current_app.extensions["handoff"])


def shutdown() -> Shutdown:
    """The app's end."""
    return cast("Shutdown", current_app.extensions["handoff.shutdown"])


@asynccontextmanager
async def admitted() -> AsyncIterator[None]:
    """One of the uploads that run at once, until it is over or its time is up: for every view that moves a file.

    Raises:
        Overloaded: this process takes no more now; before any of the request's body was read.
    """
    admission = cast("Admission", current_app.extensions["handoff.admission"])
    async with shutdown().upload(), admission.place():
        yield


def take_reading_place() -> None:
    """One of the requests for objects that are answered at once, until its answer is sent or its client has left.

    Raises:
        Overloaded: this process answers no more of them now.
    """
    reading = cast("Reading", current_app.extensions["handoff.reading"])
    with metrics().refusals():
        request.until_answered.enter_context(reading.place())


def wanted_way(handoff: str) -> tuple[Way, Hook]:
    """The way by this hand-off with the hook that the query names, and that hook for this request."""
    hook = wanted_hook()
    return Way(FRAMEWORK, handoff, hook, request.request_id), HOOKS[hook]()


def wanted_hook() -> str:
    """The hook that the query names."""
    hook = request.args.get("hook", strategies.DEFAULT_HOOK)
    if hook not in HOOKS:
        raise UnknownHook(f"There is no hook '{hook}'; there are {', '.join(HOOKS)}.")
    return hook


def receipts_of(way: Way, stored: list[Stored]) -> Answer:
    """The answer to an upload."""
    elapsed = time.perf_counter() - request.arrived
    metrics().count_files(way.handoff, [one.size for one in stored])
    logger.info("stored", extra=way.summary(stored, elapsed))
    if request.wants_page:
        path = receipts_path(store().settings.root_path, [one.incoming.key for one in stored])
        return Response(""), 303, {"Location": path, "Vary": "Accept"}
    receipts = [way.receipt(one, elapsed, base_url()).as_json() for one in stored]
    return jsonify(receipts=receipts), 201, {"Location": object_path(stored[0].incoming.key), "Vary": "Accept"}


def base_url() -> str:
    """Where clients reach the app."""
    return store().settings.base_url(request.host_url)


def object_path(key: str) -> str:
    """The path by which clients reach an object."""
    return f"{store().settings.root_path}/objects/{key}"


def presigned_upload(key: str) -> Upload | None:
    """The multipart upload that the query names, if it names one."""
    check_key(key)
    return Upload.of(store().seal, key, request.args, store().settings.limits)


def presigned_parts(key: str) -> Upload:
    """The multipart upload that the query names.

    Raises:
        ObjectMissing: it names none.
    """
    upload = presigned_upload(key)
    if upload is None:
        raise ObjectMissing("Name the upload by upload_id, size, part_bytes and signature, as its 'complete' does.")
    return upload


def check_key(key: str) -> None:
    """Let no request reach an object that is not an upload of ours."""
    if not is_key(store().settings.key_prefix, key):
        raise ObjectMissing("No object has this key.")


def incoming(start: FileStart) -> Incoming:
    """A file that is to be stored, with a new key for it."""
    key = new_key(store().settings.key_prefix, start.filename)
    return Incoming(key, start.filename, start.content_type, start.promised)


def describe(file: FileStorage) -> FileStart:
    """What the form said of a file."""
    promise: Any = file.headers.get(DIGEST_HEADER)
    return FileStart(
        name=file.name or "",
        filename=file.filename or "",
        content_type=file.headers["Content-Type"],
        promised=from_content_digest(promise) if promise else None,
    )


@contextmanager
def explained(file: FileStorage, way: Way) -> Iterator[None]:
    """Say why, if what failed in this block failed because the file had been closed."""
    try:
        yield
    except UploadError:
        raise
    except Exception as error:
        if file.stream.closed:
            raise file_closed(way.handoff, way.hook, explanation(error)) from error
        raise
