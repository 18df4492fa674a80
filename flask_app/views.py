"""Routes: each reads its request, runs a flow, and sends the answer.

`filehandoff.web.routes` makes the flows and the answers.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from io import SEEK_END
from typing import Any, TypeVar, cast

import flask
from botocore.response import StreamingBody
from flask import Blueprint, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from filehandoff import logs, strategies
from filehandoff.causes import CAUSES, MAX_BYTES, report
from filehandoff.errors import FileTooLarge, UnknownCause, UploadError, fault
from filehandoff.form import FORM_TYPE, file_missing
from filehandoff.http import REQUEST_ID_HEADER
from filehandoff.keys import KEY_PATTERN
from filehandoff.quotas import UPLOADS
from filehandoff.raw_body import RawBody
from filehandoff.receipt import UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.temporary_files import temporary_files
from filehandoff.web import access, cors, files
from filehandoff.web import routes as answers
from filehandoff.web.routes import Answer, explained, incoming, incoming_file, json_answer, key_for, upload_context
from flask_app.admission import place
from flask_app.causes import reproduce
from flask_app.handoffs import OF_A_FILE, stream
from flask_app.hooks import HOOKS
from flask_app.request import Request, close_after_answer
from flask_app.service import Service, service
from flask_app.store import send_body
from flask_app.uploads import FormUpload

T = TypeVar("T")

routes = Blueprint("uploads", __name__)
request = cast("Request", flask.request)


class KeyConverter(PathConverter):
    """The key of an upload in a route; a path below it, `<key>/complete`, never matches."""

    regex = f"(?:[^/].*?)?{KEY_PATTERN}"


@contextmanager
def counted(handoff: str, *, begins: bool = False) -> Iterator[None]:
    """Count an upload in /metrics by the outcome of this block."""
    with service().metrics.upload(handoff, begins=begins):
        yield


@contextmanager
def admitted(own: Service) -> Iterator[None]:
    """Hold a place for an upload during the block, which the process's end stops.

    Raises:
        Overloaded: this process takes no more uploads now; it has read none of the body.
    """
    with own.drain.upload(request.stop_receiving), place(own.uploads):
        yield


def current() -> tuple[Service, Request]:
    """Return the service and the request themselves: each use of their proxies takes half a microsecond."""
    return service(), cast("Any", flask.request)._get_current_object()  # noqa: SLF001 - documented despite its underscore


class _BareResponse(Response):
    """A response to which the framework adds no header when it is made."""

    default_mimetype = None
    automatically_set_content_length = False


def respond(answer: Answer) -> Response:
    """Send a whole answer, with no header but its own."""
    response = _BareResponse(answer.body, answer.status, dict(answer.headers))
    response.automatically_set_content_length = True  # for other code that replaces the body
    return response


def read(flow: Flow[T]) -> T:
    """Run a flow about an object, within the limit for such requests.

    The request counts until its answer is sent or its client has disconnected.

    Raises:
        Overloaded: this process answers no more such requests now.
    """
    with service().metrics.refusals():
        request.until_answered.enter_context(service().reads.held())
    return service().store.run(flow)


@routes.before_app_request
def begin() -> None:
    """Put the request's id on every later log line, check its head, identify its sender, and count its upload."""
    own, sent = current()
    logs.bind(sent.request_id)
    access.check_host(own.settings, sent)
    access.check_origin(own.settings, sent)
    authenticate, scope = own.authenticate, access.needed_scope(own.settings, sent)
    if authenticate is not None and scope is not None:
        access.identify(own, sent, authenticate(sent.head), scope)
    sent.account = access.account_of(sent, own.limiter.limits)
    if sent.account is not None:
        with own.metrics.refusals():
            own.limiter.run(sent.account.add(UPLOADS, access.uploads_in(sent)))


@routes.post("/uploads")
def upload() -> Response:
    """Store the form's files by the default hand-off, or another body as one file."""
    if request.mimetype == FORM_TYPE:
        return store_form(strategies.DEFAULT_HANDOFF)
    return store_body()


@routes.post("/uploads/<name>")
def upload_by(name: str) -> Response:
    """Store the form's files by this hand-off, with the hook in the query."""
    return store_form(name)


@routes.put("/uploads")
@routes.put("/uploads/presigned", defaults={"name": "presigned"})
@routes.put("/uploads/<name>")
def put(name: str = "") -> Response:
    """Store the body as one file of this name."""
    return store_body(name)


def store_form(handoff: str) -> Response:
    """Store all files of the form, or none."""
    own, sent = current()
    with counted(handoff):
        context = upload_context(own, sent, handoff)
        with admitted(own), FormUpload(own, context, HOOKS[context.hook]()) as form:
            if handoff == "stream":
                send_stream(own, sent, form)
            else:
                send_files(form, context)
            if not form:
                raise file_missing(own.settings.limits)
            answer = form.complete(partial(answers.stored, own, sent, context))
        return respond(answer)


def store_body(name: str = "") -> Response:
    """Store the request's body as one file while it arrives."""
    own, sent = current()
    with counted(strategies.DEFAULT_HANDOFF):
        context = upload_context(own, sent, strategies.DEFAULT_HANDOFF)
        raw = RawBody(name, sent.headers, sent.content_length, own.settings.limits)
        with admitted(own), FormUpload(own, context, HOOKS[context.hook]()) as form:
            with closing(raw_chunks(raw)) as chunks:
                form.stream(incoming(own, sent, raw.start), chunks)
            answer = form.complete(partial(answers.stored, own, sent, context))
        return respond(answer)


def raw_chunks(raw: RawBody) -> Generator[bytes]:
    """Yield and count the body's chunks as they arrive; raise if some are missing."""
    with closing(request.chunks()) as body:
        for chunk in body:
            yield raw.receive(chunk)
    raw.finish()


def send_stream(own: Service, sent: Request, form: FormUpload) -> None:
    """Send the form's files while the body arrives."""
    with closing(sent.chunks()) as body:
        parser = sent.form_parser()
        stream.hand_off(body, parser, lambda start, chunks: form.stream(incoming(own, sent, start), chunks))


def send_files(form: FormUpload, context: UploadContext) -> None:
    """Send the files that the form parser has read."""
    with temporary_files():
        for file in request.sent_files():
            with explained(file, context):
                OF_A_FILE[context.handoff](file, partial(form.upload, incoming_file(service(), request, file)))


@routes.post("/uploads/presigned")
def presign() -> Response:
    """Return the URL, or the first URLs, for the client's upload to S3."""
    with counted("presigned", begins=True):
        context = upload_context(service(), request, "presigned")
        reader = answers.presign_request_reader(service(), request)
        with admitted(service()):
            with closing(request.chunks()) as body:
                for chunk in body:
                    reader.receive(chunk)
            wanted = reader.finish()
            flow = answers.presign(service(), context, wanted, HOOKS[context.hook]())
            return respond(promised(wanted.size, flow))


def promised(size: int, flow: Flow[Answer]) -> Answer:
    """Run a flow that lets the client send a file to S3; count the file against the sender's quotas."""
    if request.account is None:
        return service().store.run(flow)
    with service().limiter.meter(request.account, size) as meter:
        answer = service().store.run(flow)
        service().limiter.run(meter.receive(size))
    return answer


@routes.get("/uploads/presigned/<path:key>/parts")
def presign_parts(key: str) -> Response:
    """Return the URLs of the parts after part `after`, and the parts in S3."""
    return respond(read(answers.presigned_parts(service(), request, key)))


@routes.delete("/uploads/presigned/<key:key>")
def abort_presigned(key: str) -> Response:
    """Abort an incomplete upload in parts."""
    return respond(read(answers.abort_presigned(service(), request, key)))


@routes.post("/uploads/presigned/<path:key>/complete")
def complete(key: str) -> Response:
    """Read the client's object back; make it an upload if it matches its promise."""
    with counted("presigned"):
        flow = answers.complete_presigned(service(), request, key)
        with admitted(service()):
            return respond(service().store.run(flow))


@routes.post("/causes/<cause>")
def show_cause(cause: str) -> Response:
    """Reproduce an early close with the uploaded file, and return the report."""
    if cause not in CAUSES:
        raise UnknownCause(f"There is no cause '{cause}'; there are {', '.join(CAUSES)}.")
    with service().metrics.refusals(), admitted(service()), temporary_files():
        file = next(iter(request.sent_files()), None)
        if file is None:
            raise file_missing(service().settings.limits)
        if file.stream.seek(0, SEEK_END) > MAX_BYTES:
            raise FileTooLarge(f"A cause is shown with a file of at most {MAX_BYTES} bytes.")
        file.stream.seek(0)
        key = key_for(service(), request, file.filename or "")
        run = reproduce(cause, file, service(), key, request.request_id)
    return respond(json_answer(asdict(report(cause, service().framework, request.request_id, run))))


@routes.get("/objects/<path:key>")
def get_object(key: str) -> Response:
    """Return the object's bytes, or one range of them, streamed.

    HEAD gets no bytes, and neither does a client that has them.
    """
    match read(answers.get_object(service(), request, key)):
        case Answer() as answer:
            return respond(answer)
        case info, body:
            return Response(download(service(), request.hang_up, body), info.status, info.headers())


def download(own: Service, hang_up: Callable[[], None], body: StreamingBody) -> Generator[bytes]:
    """Yield an object's bytes until the time limit of downloads.

    `own` is an argument because the request's context has ended by then.
    """
    with own.drain.download(hang_up), closing(send_body(body)) as chunks:
        yield from chunks


@routes.delete("/objects/<path:key>")
def delete_object(key: str) -> Response:
    """Remove the object."""
    return respond(read(answers.delete_object(service(), request, key)))


@routes.get("/receipts")
def get_receipts() -> Response:
    """Return the receipts of the objects in the query, from their heads in S3."""
    return respond(read(answers.receipts(service(), request)))


@routes.get("/")
def get_page() -> Response:
    """Return the page for people."""
    return respond(answers.page(service(), request))


@routes.get("/page/<name>")
def get_page_file(name: str) -> Response:
    """Return a file that the page loads."""
    return respond(answers.page_file(service(), request, name))


@routes.get("/docs")
def get_docs() -> Response:
    """Return the page to read and try this API."""
    return respond(answers.docs(service(), request))


@routes.get("/docs/<name>")
def get_docs_file(name: str) -> Response:
    """Return a file of the viewer."""
    return respond(answers.docs_file(request, name))


@routes.get("/strategies")
def get_strategies() -> Response:
    """Return every pair of hand-off and hook, and the outcome for a file."""
    return respond(answers.strategies_answer(service()))


@routes.get("/healthz")
def healthz() -> Response:
    """Report that the process responds."""
    return respond(json_answer({"status": "ok"}))


@routes.get("/readyz")
def readyz() -> Response:
    """Report whether this process can take uploads.

    S3 must answer for the bucket within a second, and the process must not be ending.
    """
    return respond(service().store.run(answers.ready(service())))


@routes.get("/metrics")
def get_metrics() -> Response:
    """Return this app's numbers for Prometheus."""
    text, content_type = service().metrics.render(request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


@routes.get("/openapi.json")
def get_openapi() -> Response:
    """Return the description of this API, as OpenAPI."""
    return respond(answers.openapi_answer(service()))


@routes.after_app_request
def add_request_id(response: Response) -> Response:
    """Put the request's id on every answer, and the headers for pages of other origins."""
    own, sent = current()
    if sent.method == "OPTIONS":
        preflight = cors.preflight_answer(own.settings, sent, response.headers.get("Allow"))
        response = response if preflight is None else respond(preflight)
    response.headers[REQUEST_ID_HEADER] = sent.request_id
    response.headers.update(files.headers(sent))
    if sent.account is not None:
        response.headers.update(sent.account.headers)
    response.headers.extend(cors.headers(own.settings, sent))
    sent.discard_after(response)
    response.call_on_close(sent.until_answered.close)
    if close_after_answer.get() is None:  # otherwise our worker does so, after its own lines about the request
        response.call_on_close(logs.unbind)
    return response


@routes.app_errorhandler(UploadError)
def answer_error(error: UploadError) -> Response:
    """Answer an error of ours with problem details."""
    return respond(answers.problem(service(), request, error))


@routes.app_errorhandler(HTTPException)
def answer_http_error(error: HTTPException) -> Response:
    """Answer an error of Flask's, such as its router's 404, with problem details."""
    return respond(answers.http_problem(service(), request, error))


@routes.app_errorhandler(Exception)
def answer_fault(error: Exception) -> Response:
    """Log any other error; answer with problem details that have the request's id."""
    return respond(answers.problem(service(), request, fault(error)))
