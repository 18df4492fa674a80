"""Routes: thin, they choose a hand-off and answer."""

import logging
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from io import SEEK_END
from typing import Any, cast

import quart
from quart import Blueprint, Response, current_app, jsonify
from quart.datastructures import FileStorage
from werkzeug.exceptions import HTTPException

from handoff import strategies
from handoff.causes import CAUSES, MAX_BYTES, report
from handoff.digest import from_content_digest
from handoff.errors import (
    PROBLEM_CONTENT_TYPE,
    FileMissing,
    FileTooLarge,
    Internal,
    ObjectMissing,
    UnknownCause,
    UnknownHandoff,
    UnknownHook,
    UploadError,
    file_closed,
    from_http,
)
from handoff.form import DIGEST_HEADER, FileStart
from handoff.http import REQUEST_ID_HEADER, Asked
from handoff.keys import is_key, new_key
from handoff.receipt import Incoming, Way
from handoff.web import openapi
from quart_app.causes import observe
from quart_app.handoffs import OF_A_FILE, stream
from quart_app.hooks import HOOKS
from quart_app.request import Request
from quart_app.shutdown import Shutdown
from quart_app.store import Store, read_body
from quart_app.uploads import Batch

FRAMEWORK = "quart"

logger = logging.getLogger(__name__)
routes = Blueprint("uploads", __name__)
request = cast("Request", quart.request)


@routes.post("/uploads")
@routes.post("/uploads/<handoff>")
async def upload(handoff: str = strategies.DEFAULT_HANDOFF) -> tuple[Response, int, dict[str, str]]:
    """Store the files of the form by this hand-off, with the hook that the query names."""
    hook = request.args.get("hook", strategies.DEFAULT_HOOK)
    if handoff not in strategies.HANDOFFS:
        raise UnknownHandoff(f"There is no hand-off '{handoff}'; there are {', '.join(strategies.HANDOFFS)}.")
    if hook not in HOOKS:
        raise UnknownHook(f"There is no hook '{hook}'; there are {', '.join(HOOKS)}.")
    way = Way(FRAMEWORK, handoff, hook, request.request_id)
    async with shutdown().upload(), Batch(store(), way, HOOKS[hook]()) as batch:
        if handoff == "stream":
            await send_stream(batch)
        else:
            await send_files(batch, way)
        if not batch:
            raise FileMissing("Send the file in a form field named 'file', with a filename.")
        stored = await batch.complete()
    elapsed = time.perf_counter() - request.arrived
    receipts = [way.receipt(one, elapsed).as_json() for one in stored]
    return jsonify(receipts=receipts), 201, {"Location": f"/objects/{stored[0].incoming.key}"}


async def send_stream(batch: Batch) -> None:
    """Send the files of the form while its body arrives."""
    async with aclosing(request.chunks()) as body:
        await stream.hand_off(body, request.form_parser(), lambda start, chunks: batch.stream(incoming(start), chunks))


async def send_files(batch: Batch, way: Way) -> None:
    """Send the files that the form parser has made of the form."""
    for file in (await request.files).getlist("file"):
        with explained(file, way):
            await OF_A_FILE[way.handoff](file, partial(batch.upload, incoming(describe(file))))


@routes.post("/causes/<cause>")
async def show_cause(cause: str) -> Response:
    """Run the view that fails by this cause on the file that was sent, and tell what was seen."""
    if cause not in CAUSES:
        raise UnknownCause(f"There is no cause '{cause}'; there are {', '.join(CAUSES)}.")
    file = (await request.files).get("file")
    if file is None:
        raise FileMissing("Send the file in a form field named 'file', with a filename.")
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
    asked = Asked.of(request.method, request.headers)
    info = await store().head(key) if asked.needs_head else None
    if info is not None and (answer := asked.without_body(info)):
        response = Response("", answer[0])
        response.headers.clear()  # Quart has counted the empty body
        response.headers.update(answer[1])
        return response
    info, body = await store().get(key, asked.byte_range(info))
    return Response(read_body(body), info.status, info.headers())


@routes.delete("/objects/<path:key>")
async def delete_object(key: str) -> tuple[str, int]:
    """Remove the object."""
    check_key(key)
    Asked.of(request.method, request.headers).check(await store().head(key))
    await store().delete(key)
    return "", 204


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
    """S3 answers for our bucket, within a second."""
    await store().ready()
    return jsonify(status="ready")


@routes.get("/openapi.json")
async def get_openapi() -> Response:
    """What this service promises, as OpenAPI."""
    return jsonify(openapi.document())


@routes.after_app_request
async def add_request_id(response: Response) -> Response:
    """Put the request's id on every answer."""
    response.headers[REQUEST_ID_HEADER] = request.request_id
    return response


@routes.app_errorhandler(UploadError)
async def answer_error(error: UploadError) -> tuple[Response, int, dict[str, str]]:
    """An error of ours as problem details."""
    if error.status >= Internal.status:
        logger.error(
            "request %s: %s: %s",
            request.request_id,
            error.code,
            error.__cause__ or error.detail,
            exc_info=error.__cause__ if isinstance(error, Internal) else None,
        )
    response = jsonify(error.problem(request.request_id))
    response.content_type = PROBLEM_CONTENT_TYPE
    return response, error.status, error.headers


@routes.app_errorhandler(HTTPException)
async def answer_http_error(error: HTTPException) -> tuple[Response, int, dict[str, str]]:
    """An error of Quart's own, such as its router's 404, as problem details."""
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return await answer_error(from_http(error.code or Internal.status, error.name, error.description or "", headers))


@routes.app_errorhandler(Exception)
async def answer_fault(error: Exception) -> tuple[Response, int, dict[str, str]]:
    """Anything else is our fault: the log has it, the client gets its request's id."""
    fault = Internal("The log has more under this request's id.")
    fault.__cause__ = error
    return await answer_error(fault)


def store() -> Store:
    """The app's store."""
    return cast("Store", current_app.extensions["handoff"])


def shutdown() -> Shutdown:
    """The app's end."""
    return cast("Shutdown", current_app.extensions["handoff.shutdown"])


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
            raise file_closed(way.handoff, way.hook) from error
        raise
