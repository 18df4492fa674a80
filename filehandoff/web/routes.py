"""The routes of both apps as flows, between a shell's request and its response."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from filehandoff import strategies
from filehandoff.digest import from_content_digest
from filehandoff.errors import (
    PROBLEM_CONTENT_TYPE,
    FileClosed,
    HandlerFailed,
    Internal,
    NotFound,
    ObjectMissing,
    UnknownHandoff,
    UnknownHook,
    UploadError,
    file_closed,
    from_http,
)
from filehandoff.explain import explanation
from filehandoff.form import DIGEST_HEADER, FileStart, check_coding
from filehandoff.http import CACHE_CONTROL, ConditionalRequest, ObjectInfo
from filehandoff.keys import is_key, new_key
from filehandoff.presigned import PresignedMultipart, PresignRequest, PresignRequestReader, Promise, number
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3 import calls, flows, presigned
from filehandoff.s3.calls import Flow
from filehandoff.service import Service
from filehandoff.stored import NOT_UNDONE, UNDONE, handle
from filehandoff.web import audit, openapi, page_files
from filehandoff.web.page_files import File
from filehandoff.web.pages import MAX_RECEIPTS, PAGE_HEADERS, StoredReceipt, problem_page, receipts_page, receipts_path
from filehandoff.web.request import RequestValues
from filehandoff.webhook import WebhookFailed

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """A complete response, to which a framework must add no header."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a response of JSON in UTF-8, with sorted members."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _answer(f"{text}\n", status, {"Content-Type": "application/json"} | dict(headers or {}))


def page_answer(page: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a response of a page for a browser."""
    return _answer(page, status, PAGE_HEADERS | dict(headers or {}))


def _answer(text: str, status: int, headers: Mapping[str, str]) -> Answer:
    body = text.encode()
    return Answer(body, status, {**headers, "Content-Length": str(len(body))})


NO_CONTENT = Answer(status=204)


def page(service: Service, request: RequestValues) -> Answer:
    """`GET /`: the page for people."""
    return _file_answer(request, page_files.index(service), page_files.policy(service.settings))


def page_file(service: Service, request: RequestValues, name: str) -> Answer:
    """`GET /page/<name>`: a file that the page loads.

    Raises:
        NotFound: the page loads no file of this name.
    """
    file = page_files.page_files().get(name)
    if file is None:
        raise NotFound("The page has no file of this name.")
    return _file_answer(request, file, page_files.policy(service.settings))


def docs(service: Service, request: RequestValues) -> Answer:
    """`GET /docs`: the description of the API, to read and to try.

    Raises:
        NotFound: the viewer is not installed.
    """
    return _file_answer(request, page_files.docs(service), page_files.DOCS_POLICY)


def docs_file(request: RequestValues, name: str) -> Answer:
    """`GET /docs/<name>`: a file of the viewer.

    Raises:
        NotFound: the viewer has no such file, or is not installed.
    """
    file = page_files.viewer_files().get(name)
    if file is None:
        raise NotFound("The viewer has no file of this name.")
    return _file_answer(request, file, page_files.DOCS_POLICY)


def _file_answer(request: RequestValues, file: File, policy: str) -> Answer:
    """Respond with a file, or with 304 to a browser that has it."""
    info = ObjectInfo(len(file.body), file.content_type, file.etag, "")
    if not ConditionalRequest.of(request.method, request.headers).check(info):
        return Answer(status=304, headers={"ETag": file.etag, "Cache-Control": CACHE_CONTROL})
    return Answer(file.body, headers={**file.headers(policy), "Content-Length": str(len(file.body))})


def strategies_answer(service: Service) -> Answer:
    """`GET /strategies`: every pair of hand-off and hook with its verdict."""
    return json_answer(strategies.describe(service.framework, service.settings))


def openapi_answer(service: Service) -> Answer:
    """`GET /openapi.json`: the OpenAPI document of this API."""
    return json_answer(openapi.document(service.settings.root_path))


def ready(service: Service) -> Flow[Answer]:
    """`GET /readyz`: S3 gives access to the bucket, and no shutdown has begun."""
    service.drain.check_ready()
    yield from flows.ready(service.settings.bucket)
    return json_answer({"status": "ready"})


def upload_context(service: Service, request: RequestValues, handoff: str) -> UploadContext:
    """Return the request's hand-off and hook as an upload context.

    Raises:
        UnknownHandoff, UnknownHook: the name is unknown.
    """
    if handoff not in strategies.HANDOFFS:
        raise UnknownHandoff(f"There is no hand-off '{handoff}'; there are {', '.join(strategies.HANDOFFS)}.")
    hook = request.args.get("hook", strategies.DEFAULT_HOOK)
    if hook not in strategies.HOOKS:
        raise UnknownHook(f"There is no hook '{hook}'; there are {', '.join(strategies.HOOKS)}.")
    return UploadContext(service.framework, handoff, hook, request.request_id, request.identity)


def key_for(service: Service, request: RequestValues, filename: str) -> str:
    """Return a new key for a file of the request's sender."""
    return new_key(service.settings.prefix_of(request.identity.name), filename)


def incoming(service: Service, request: RequestValues, start: FileStart) -> Incoming:
    """Return the form's next file, with a new key."""
    key = key_for(service, request, start.filename)
    return Incoming(key, start.filename, start.content_type, start.promised, request.identity.name)


def incoming_file(service: Service, request: RequestValues, file: Any) -> Incoming:
    """Return the file of a FileStorage, with a new key."""
    promise = file.headers.get(DIGEST_HEADER)
    promised = from_content_digest(promise) if promise else None
    start = FileStart(file.name or "", file.filename or "", file.headers["Content-Type"], promised)
    return incoming(service, request, start)


@contextmanager
def explained(file: Any, context: UploadContext) -> Iterator[None]:
    """Raise FileClosed with the explanation if the block fails because of a closed FileStorage."""
    try:
        yield
    except UploadError:
        raise
    except Exception as error:
        if file.stream.closed:
            raise file_closed(context.handoff, context.hook, explanation(error)) from error
        raise


def stored(
    service: Service,
    request: RequestValues,
    context: UploadContext,
    files: Sequence[Stored],
    keep: Callable[[], None] | None = None,
) -> Flow[Answer]:
    """Call the handler of stored files, then `keep`; respond with 201, or with 303 for browsers.

    Without `keep`, a failed handler undoes nothing.

    Raises:
        HandlerFailed: the handler failed.
    """
    receipts = yield from handled(service, request, context, files, keep)
    return _stored_page(service, files) if request.wants_page else _stored_json(service, receipts)


def handled(
    service: Service,
    request: RequestValues,
    context: UploadContext,
    files: Sequence[Stored],
    keep: Callable[[], None] | None = None,
) -> Flow[list[dict[str, Any]]]:
    """Call the handler of stored files, then `keep`; count and log the files, and return their receipts.

    Raises:
        HandlerFailed: the handler failed.
    """
    elapsed = time.perf_counter() - request.arrived
    receipts = [context.receipt(one, elapsed, base_url(service, request)).as_json() for one in files]

    def kept() -> None:
        if keep is not None:
            keep()
        service.metrics.count_files(context.handoff, [one.size for one in files])
        audit.record(request, "stored", **context.summary(files, elapsed))

    detail = NOT_UNDONE if keep is None else UNDONE
    given = [dict(one) for one in receipts]  # the handler may change its own
    yield from handle(service.on_stored, given, service.settings.handler_timeout, kept, detail)
    return receipts


def _stored_page(service: Service, files: Sequence[Stored]) -> Answer:
    path = receipts_path(service.settings.root_path, [one.incoming.key for one in files])
    return _answer("", 303, {"Location": path, "Vary": "Accept", "Content-Type": PAGE_HEADERS["Content-Type"]})


def _stored_json(service: Service, receipts: Sequence[Mapping[str, Any]]) -> Answer:
    location = object_path(service, receipts[0]["key"])
    return json_answer({"receipts": receipts}, 201, {"Location": location, "Vary": "Accept"})


def base_url(service: Service, request: RequestValues) -> str:
    """Return the app's URL for the client."""
    return service.settings.base_url(f"{request.scheme}://{request.host}")


def object_path(service: Service, key: str) -> str:
    """Return the path of an object at this app."""
    return f"{service.settings.root_path}/objects/{key}"


def presign_request_reader(service: Service, request: RequestValues) -> PresignRequestReader:
    """Return a reader for the body of `POST /uploads/presigned`."""
    check_coding(request.coding)
    return PresignRequestReader(request.mimetype, service.settings.limits, request.content_length)


def presign(service: Service, context: UploadContext, wanted: PresignRequest, hook: Any) -> Flow[Answer]:
    """`POST /uploads/presigned`: the URL for the file, or the first page of part URLs."""
    given = yield from presigned.begin(service, wanted, context, hook)
    return json_answer(given, 201, {"Location": object_path(service, str(given["key"]))})


def presigned_parts(service: Service, request: RequestValues, key: str) -> Flow[Answer]:
    """`GET /uploads/presigned/<key>/parts`: the page of parts that follows part `after`."""
    after = number(request.args.get("after"), 0)
    given = yield from presigned.list_parts(service, _presigned_parts(service, request, key), after)
    return json_answer(given)


def abort_presigned(service: Service, request: RequestValues, key: str) -> Flow[Answer]:
    """`DELETE /uploads/presigned/<key>`: abort an unfinished multipart upload."""
    yield from presigned.abort(service, _presigned_parts(service, request, key))
    audit.record(request, "aborted", keys=[key])
    return NO_CONTENT


def complete_presigned(service: Service, request: RequestValues, key: str) -> Flow[Answer]:
    """`POST /uploads/presigned/<key>/complete`: read the object back, and return the receipt."""
    upload = _presigned_upload(service, request, key)
    file, promise = yield from presigned.complete(service, key, upload, request.request_id)
    return (yield from stored(service, request, _promised_context(service, request, promise), [file]))


def _promised_context(service: Service, request: RequestValues, promise: Promise) -> UploadContext:
    return UploadContext(service.framework, "presigned", promise.hook, promise.request_id, request.identity)


def _presigned_upload(service: Service, request: RequestValues, key: str) -> PresignedMultipart | None:
    """Return the multipart upload that the query names, or None for a single put."""
    check_key(service, request, key)
    return PresignedMultipart.from_query(service.seal, key, request.args, service.settings.limits)


def _presigned_parts(service: Service, request: RequestValues, key: str) -> PresignedMultipart:
    """Return the multipart upload that the query names.

    Raises:
        ObjectMissing: the query names no upload.
    """
    upload = _presigned_upload(service, request, key)
    if upload is None:
        raise ObjectMissing("Name the upload by upload_id, size, part_bytes and signature, as its 'complete' does.")
    return upload


def check_key(service: Service, request: RequestValues, key: str) -> None:
    """Raise ObjectMissing for a key that is not of this app's form, or not the sender's."""
    if not is_key(service.settings.prefix_of(request.identity.name), key):
        raise ObjectMissing("No object has this key.")


def get_object(service: Service, request: RequestValues, key: str) -> Flow[Answer | tuple[ObjectInfo, Any]]:
    """`GET` and `HEAD /objects/<key>`: a response without a body, or the object's headers and body."""
    check_key(service, request, key)
    conditional = ConditionalRequest.of(request.method, request.headers)
    info = (yield from calls.head_object(key)) if conditional.needs_head else None
    if info is not None and (answer := conditional.without_body(info)):
        return Answer(status=answer[0], headers=answer[1])
    return (yield from flows.get(key, conditional.byte_range(info)))


def delete_object(service: Service, request: RequestValues, key: str) -> Flow[Answer]:
    """`DELETE /objects/<key>`."""
    check_key(service, request, key)
    info = yield from calls.head_object(key)
    ConditionalRequest.of(request.method, request.headers).check(info)
    yield from calls.delete_object(key)
    audit.record(request, "deleted", keys=[key])
    return NO_CONTENT


def receipts(service: Service, request: RequestValues) -> Flow[Answer]:
    """`GET /receipts`: the receipts of the objects in the query, from their headers in S3."""
    keys = request.args.getlist("key")[:MAX_RECEIPTS]
    if not keys:
        raise ObjectMissing("Name the objects by their keys, as ?key=….")
    for key in keys:
        check_key(service, request, key)
    found = []
    for key in keys:
        info = yield from calls.head_object(key)
        found.append(StoredReceipt.of(key, info, f"{base_url(service, request)}/objects/{key}"))
    if request.wants_page:
        return page_answer(receipts_page(found, number(request.args.get("more"), 0)))
    headers = {"Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
    return json_answer({"receipts": [receipt.as_json() for receipt in found]}, headers=headers)


def problem(service: Service, request: RequestValues, error: UploadError) -> Answer:
    """Log an error, and respond with problem details (RFC 9457) or a browser's page."""
    if request.trace is not None:
        request.trace.fail(error)
    level, values = service.answer_log.line(error, time.monotonic())
    audited = audit.of_error(request, error)
    (logger if audited is None else audit.logger).log(
        level,
        "%s: %s",
        error.code,
        error.detail if isinstance(error, FileClosed) else error.__cause__ or error.detail,
        exc_info=error.__cause__ if _needs_traceback(error) else None,
        extra={**values, **(audited or {})},
    )
    details = error.problem(request.request_id)
    if request.wants_page:
        return page_answer(problem_page(details), error.status, error.headers)
    headers = {"Content-Type": PROBLEM_CONTENT_TYPE, **error.headers, "Vary": "Accept"}
    return json_answer(details, error.status, headers)


def _needs_traceback(error: UploadError) -> bool:
    """Whether our own code or the handler's has a fault."""
    return isinstance(error, Internal | HandlerFailed) and not isinstance(error.__cause__, WebhookFailed)


def http_problem(service: Service, request: RequestValues, error: Any) -> Answer:
    """Respond to an HTTPException of Werkzeug's, such as the router's 404, with problem details."""
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    status = cast("int", error.code or Internal.status)
    return problem(service, request, from_http(status, error.name, error.description or "", headers))
