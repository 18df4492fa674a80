"""Routes: thin, they choose a hand-off and answer."""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from io import SEEK_END
from typing import Any, cast

import flask
from flask import Blueprint, Response, current_app, jsonify
from werkzeug.datastructures import FileStorage
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
from flask_app import presigned
from flask_app.admission import Admission, Reading
from flask_app.causes import observe
from flask_app.handoffs import OF_A_FILE, stream
from flask_app.hooks import HOOKS, Hook
from flask_app.request import Request, close_after_answer
from flask_app.shutdown import Shutdown
from flask_app.store import Store, send_body
from flask_app.uploads import Batch

FRAMEWORK = "flask"

logger = logging.getLogger(__name__)
routes = Blueprint("uploads", __name__)
request = cast("Request", flask.request)

type Answer = tuple[Response, int, dict[str, str]]


class KeyConverter(PathConverter):
    """A key of an upload's in a route: no address below it, such as `<key>/complete`, is one."""

    regex = f"(?:[^/].*?)?{KEY_PATTERN}"


@contextmanager
def counted(handoff: str, *, begins: bool = False) -> Iterator[None]:
    """Have /metrics count an upload by how this block ends."""
    with metrics().upload(handoff, begins=begins):
        yield


@routes.before_app_request
def begin() -> None:
    """Put the request's id on every line that is logged from here on."""
    logs.bind(request.request_id)


@routes.post("/uploads")
def upload() -> Answer:
    """Store the files of the form by the default hand-off, or any other body as one file."""
    if request.mimetype == FORM_TYPE:
        return store_form(strategies.DEFAULT_HANDOFF)
    return store_body()


@routes.post("/uploads/<name>")
def upload_by(name: str) -> Answer:
    """Store the files of the form by the hand-off of this name, with the hook that the query names."""
    return store_form(name)


@routes.put("/uploads")
@routes.put("/uploads/presigned", defaults={"name": "presigned"})
@routes.put("/uploads/<name>")
def put(name: str = "") -> Answer:
    """Store the body as one file of this name."""
    return store_body(name)


def store_form(handoff: str) -> Answer:
    """Store the files of the form: all of them, or none."""
    with counted(handoff):
        if handoff not in strategies.HANDOFFS:
            raise UnknownHandoff(f"There is no hand-off '{handoff}'; there are {', '.join(strategies.HANDOFFS)}.")
        way, hook = wanted_way(handoff)
        with admitted(), Batch(store(), way, hook, shutdown().check) as batch:
            if handoff == "stream":
                send_stream(batch)
            else:
                send_files(batch, way)
            if not batch:
                raise file_missing(store().settings.limits)
            stored = batch.complete()
        return receipts_of(way, stored)


def store_body(name: str = "") -> Answer:
    """Store the body of the request as one file, while it arrives."""
    with counted(strategies.DEFAULT_HANDOFF):
        way, hook = wanted_way(strategies.DEFAULT_HANDOFF)
        raw = RawBody(name, request.headers, request.content_length, store().settings.limits)
        with admitted(), Batch(store(), way, hook, shutdown().check) as batch:
            with closing(raw_chunks(raw)) as chunks:
                batch.stream(incoming(raw.start), chunks)
            stored = batch.complete()
        return receipts_of(way, stored)


def raw_chunks(raw: RawBody) -> Generator[bytes]:
    """The body's chunks as they arrive, counted; raises at the end if some are missing."""
    with closing(request.chunks()) as body:
        for chunk in body:
            yield raw.receive(chunk)
    raw.finish()


def send_stream(batch: Batch) -> None:
    """Send the files of the form while its body arrives."""
    with closing(request.chunks()) as body:
        stream.hand_off(body, request.form_parser(), lambda start, chunks: batch.stream(incoming(start), chunks))


def send_files(batch: Batch, way: Way) -> None:
    """Send the files that the form parser has made of the form."""
    with temporary_files():
        for file in request.sent_files():
            with explained(file, way):
                OF_A_FILE[way.handoff](file, partial(batch.upload, incoming(describe(file))))


@routes.post("/uploads/presigned")
def presign() -> Answer:
    """The URL, or the first of them, by which the client may send the file that it describes to S3 itself."""
    with counted("presigned", begins=True):
        hook = wanted_hook()
        check_coding(request.coding)
        wanted = WantedReader(request.mimetype, store().settings.limits, request.content_length)
        way = Way(FRAMEWORK, "presigned", hook, request.request_id)
        with admitted():
            with closing(request.chunks()) as body:
                for chunk in body:
                    wanted.receive(chunk)
            given = presigned.begin(store(), wanted.finish(), way, HOOKS[hook]())
        return jsonify(given), 201, {"Location": object_path(str(given["key"]))}


@routes.get("/uploads/presigned/<path:key>/parts")
def presign_parts(key: str) -> Response:
    """The parts that follow part `after`: their URLs, and which of them S3 has."""
    after = number(request.args.get("after"), 0)
    upload = presigned_parts(key)
    take_reading_place()
    return jsonify(presigned.list_parts(store(), upload, after))


@routes.delete("/uploads/presigned/<key:key>")
def abort_presigned(key: str) -> tuple[str, int]:
    """End an upload in parts that is not complete."""
    upload = presigned_parts(key)
    take_reading_place()
    presigned.abort(store(), upload)
    return "", 204


@routes.post("/uploads/presigned/<path:key>/complete")
def complete(key: str) -> Answer:
    """Read back what the client has sent to S3; it is an upload only if it is what was promised."""
    with counted("presigned"):
        upload = presigned_upload(key)
        with admitted():
            stored, promise = presigned.complete(store(), key, upload, shutdown().check, request.request_id)
        return receipts_of(Way(FRAMEWORK, "presigned", promise.hook, promise.request_id), [stored])


@routes.post("/causes/<cause>")
def show_cause(cause: str) -> Response:
    """Run the view that fails by this cause on the file that was sent, and tell what was seen."""
    if cause not in CAUSES:
        raise UnknownCause(f"There is no cause '{cause}'; there are {', '.join(CAUSES)}.")
    with metrics().refusals(), admitted(), temporary_files():
        file = next(iter(request.sent_files()), None)
        if file is None:
            raise file_missing(store().settings.limits)
        if file.stream.seek(0, SEEK_END) > MAX_BYTES:
            raise FileTooLarge(f"A cause is shown with a file of at most {MAX_BYTES} bytes.")
        file.stream.seek(0)
        key = new_key(store().settings.key_prefix, file.filename or "")
        seen = observe(cause, file, store(), key, request.request_id, shutdown().check)
    return jsonify(report(cause, FRAMEWORK, request.request_id, seen.error, seen.closing).as_json())


@routes.get("/objects/<path:key>")
def get_object(key: str) -> Response:
    """The object's bytes, streamed, or one range of them; without them to HEAD, and to whoever has them already."""
    check_key(key)
    take_reading_place()
    asked = Asked.of(request.method, request.headers)
    info = store().head(key) if asked.needs_head else None
    if info is not None and (answer := asked.without_body(info)):
        response = Response("", answer[0])
        response.headers.clear()
        response.headers.update(answer[1])
        return response
    info, body = store().get(key, asked.byte_range(info))
    return Response(shutdown().download(send_body(body), request.hang_up), info.status, info.headers())


@routes.delete("/objects/<path:key>")
def delete_object(key: str) -> tuple[str, int]:
    """Remove the object."""
    check_key(key)
    take_reading_place()
    Asked.of(request.method, request.headers).check(store().head(key))
    store().delete(key)
    return "", 204


@routes.get("/receipts")
def get_receipts() -> Response:
    """The receipts of the objects that the query names, from their heads in S3."""
    keys = request.args.getlist("key")[:MAX_RECEIPTS]
    if not keys:
        raise ObjectMissing("Name the objects by their keys, as ?key=….")
    for key in keys:
        check_key(key)
    take_reading_place()
    receipts = [StoredReceipt.of(key, store().head(key), f"{base_url()}/objects/{key}") for key in keys]
    if request.wants_page:
        return Response(receipts_page(receipts, number(request.args.get("more"), 0)), headers=PAGE_HEADERS)
    response = jsonify(receipts=[receipt.as_json() for receipt in receipts])
    response.headers.update({"Cache-Control": CACHE_CONTROL, "Vary": "Accept"})
    return response


@routes.get("/strategies")
def get_strategies() -> Response:
    """Every pair of hand-off and hook, and what becomes of a file in it."""
    return jsonify(strategies.describe(FRAMEWORK, store().settings))


@routes.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return jsonify(status="ok")


@routes.get("/readyz")
def readyz() -> Response:
    """S3 answers for our bucket, within a second, and the process is not about to end."""
    shutdown().check_ready()
    store().ready()
    return jsonify(status="ready")


@routes.get("/metrics")
def get_metrics() -> Response:
    """What this app has done so far, in numbers, for Prometheus."""
    text, content_type = metrics().render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@routes.get("/openapi.json")
def get_openapi() -> Response:
    """What this service promises, as OpenAPI."""
    return jsonify(openapi.document(store().settings.root_path))


@routes.after_app_request
def add_request_id(response: Response) -> Response:
    """Put the request's id on every answer."""
    response.headers[REQUEST_ID_HEADER] = request.request_id
    request.leave(response)
    response.call_on_close(request.until_answered.close)
    if close_after_answer.get() is None:  # otherwise our worker does it, whose own lines about the request come later
        response.call_on_close(logs.unbind)
    return response


@routes.app_errorhandler(UploadError)
def answer_error(error: UploadError) -> Answer:
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
def answer_http_error(error: HTTPException) -> Answer:
    """An error of Flask's own, such as its router's 404, as problem details."""
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return answer_error(from_http(error.code or Internal.status, error.name, error.description or "", headers))


@routes.app_errorhandler(Exception)
def answer_fault(error: Exception) -> Answer:
    """Anything else is our fault: the log has it, the client gets its request's id."""
    return answer_error(fault(error))


def metrics() -> Metrics:
    """The app's numbers."""
    return store().metrics


def store() -> Store:
    """The app's store."""
    return cast("Store", current_app.extensions["handoff"])


def shutdown() -> Shutdown:
    """The app's end."""
    return cast("Shutdown", current_app.extensions["handoff.shutdown"])


@contextmanager
def admitted() -> Iterator[None]:
    """One of the uploads that run at once, until it is over or its time is up: for every view that moves a file.

    Raises:
        Overloaded: this process takes no more now; before any of the request's body was read.
    """
    admission = cast("Admission", current_app.extensions["handoff.admission"])
    with shutdown().upload(request.cut), admission.place():
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
