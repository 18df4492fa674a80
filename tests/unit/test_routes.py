"""The routes of both apps, with requests and S3's responses as values."""

import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias
from unittest.mock import ANY

import pytest
from unit.s3.script import MISSING, Line, expect, play
from unit.sansio_request import Request, make_request
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.exceptions import Gone, HTTPException, MethodNotAllowed, NotFound

from filehandoff import errors
from filehandoff.digest import to_content_digest
from filehandoff.errors import (
    DigestMalformed,
    FileClosed,
    HandlerFailed,
    ObjectMissing,
    Overloaded,
    PreconditionFailed,
    StoreRejected,
    StoreUnavailable,
    UnknownHandoff,
    UnknownHook,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.form import FileStart
from filehandoff.http import ObjectInfo
from filehandoff.identity import Identity
from filehandoff.keys import is_key
from filehandoff.presigned import PresignedMultipart, Promise
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3.calls import Flow
from filehandoff.service import Service
from filehandoff.settings import MIB, Settings
from filehandoff.stored import NOT_UNDONE, UNDONE
from filehandoff.web import routes
from filehandoff.web.pages import MAX_RECEIPTS
from filehandoff.web.routes import NO_CONTENT, Answer
from filehandoff.webhook import WebhookFailed

NAME = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
KEY = f"in/{NAME}"
SHA256 = "9dcab7f911a30badbe34a46257ed1e2ab99bcfbaea49c1808a1f53ae35f8e01b"
INCOMING = Incoming(KEY, "hello.txt", "text/plain")
STORED = Stored(INCOMING, 11, SHA256, "e", 1)
CONTEXT = UploadContext("flask", "stream", "bound", "a-request")
HEAD = {
    "ContentLength": 11,
    "ETag": '"e"',
    "ContentType": "text/plain",
    "LastModified": datetime(2026, 1, 31, tzinfo=UTC),
}
PAGE = {"Accept": "text/html"}


@pytest.fixture
def service() -> Service:
    """Make a service below a root path, with a key prefix."""
    settings = Settings(key_prefix="in/", root_path="/app", promise_secret="a secret of sixteen and more")
    return Service("flask", settings)


def request(target: str = "/", method: str = "GET", **headers: str) -> Request:
    """Make a request; an underscore in a header's name stands for a hyphen."""
    named: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_request(method, target, {"X-Request-Id": "a-request", **named})


def members(answer: object) -> Any:
    """Return the JSON of a response, and check its headers."""
    assert isinstance(answer, Answer)
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Content-Type"] in {"application/json", "application/problem+json"}
    return json.loads(answer.body)


def page(answer: object) -> str:
    """Return the page of a response, and check its headers."""
    assert isinstance(answer, Answer)
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.body.decode()


def test_json_is_compact_sorted_and_in_utf8() -> None:
    """Equal values give equal bytes; extra headers are kept."""
    answer = routes.json_answer({"b": "ü", "a": [1]}, 201, {"Location": "/x"})
    assert answer.body == '{"a":[1],"b":"ü"}\n'.encode()
    assert answer.status == 201
    assert answer.headers == {"Content-Type": "application/json", "Location": "/x", "Content-Length": "19"}


def test_a_page_has_the_headers_of_all_pages() -> None:
    """Extra headers are added to those of all pages."""
    answer = routes.page_answer("<p>ü", 404, {"Allow": "GET"})
    assert page(answer) == "<p>ü"
    assert (answer.status, answer.headers["Allow"]) == (404, "GET")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_strategies_are_those_of_the_service(service: Service) -> None:
    """The grid has the verdicts for the service's framework and settings."""
    assert members(routes.strategies_answer(service))["framework"] == "flask"


def test_the_openapi_document_has_the_services_path(service: Service) -> None:
    """Clients find the routes below the root path."""
    assert members(routes.openapi_answer(service))["servers"][0]["url"] == "/app"


def test_a_service_is_ready_if_it_has_its_bucket(service: Service) -> None:
    """Each call checks the bucket."""
    assert members(play(routes.ready(service), expect("head_bucket"))) == {"status": "ready"}
    with pytest.raises(StoreUnavailable):
        play(routes.ready(service), expect("head_bucket", MISSING))


def test_an_ending_process_is_not_ready(service: Service) -> None:
    """The flow makes no call to S3."""
    service.drain.refuse()
    with pytest.raises(Overloaded):
        play(routes.ready(service))


@pytest.mark.parametrize(("target", "hook"), [("/", "bound"), ("/?hook=copied", "copied")])
def test_an_upload_has_its_handoff_and_its_hook(service: Service, target: str, hook: str) -> None:
    """Without a hook in the query, the upload has the default hook."""
    assert routes.upload_context(service, request(target), "file") == UploadContext("flask", "file", hook, "a-request")


def test_an_unknown_handoff_or_hook_is_rejected(service: Service) -> None:
    """The error names the known ones."""
    with pytest.raises(UnknownHandoff, match=r"'no'; there are .*stream"):
        routes.upload_context(service, request(), "no")
    with pytest.raises(UnknownHook, match=r"'no'; there are .*bound"):
        routes.upload_context(service, request("/?hook=no"), "stream")


def test_each_file_gets_a_new_key(service: Service) -> None:
    """The key has the service's prefix, and the file keeps its promise."""
    start = FileStart("file", "hello.txt", "text/plain", SHA256)
    one, other = routes.incoming(service, request(), start), routes.incoming(service, request(), start)
    assert one.key != other.key
    assert is_key("in/", one.key)
    assert (one.filename, one.content_type, one.promised) == ("hello.txt", "text/plain", SHA256)


def storage(name: str | None = "hello.txt", digest: str | None = None) -> FileStorage:
    """Make a form's file."""
    headers = Headers({"Content-Type": "text/plain"})
    if digest is not None:
        headers["Content-Digest"] = digest
    return FileStorage(io.BytesIO(b"hello world"), name, "file" if name else None, headers=headers)


def test_a_file_of_a_form_keeps_its_name_type_and_promise(service: Service) -> None:
    """The promise comes from a header of the part."""
    file = routes.incoming_file(service, request(), storage(digest=to_content_digest(SHA256)))
    assert (file.filename, file.content_type, file.promised) == ("hello.txt", "text/plain", SHA256)
    bare = routes.incoming_file(service, request(), storage(None))
    assert (bare.filename, bare.promised) == ("", None)
    with pytest.raises(DigestMalformed):
        routes.incoming_file(service, request(), storage(digest="sha-256=:no:"))


def test_errors_of_an_open_file_pass_unchanged() -> None:
    """Errors of the app, and errors without a closed file, are raised unchanged."""
    file = storage()
    with routes.explained(file, CONTEXT):
        pass
    with pytest.raises(ZeroDivisionError), routes.explained(file, CONTEXT):
        raise ZeroDivisionError
    file.close()
    with pytest.raises(StoreRejected), routes.explained(file, CONTEXT):
        raise StoreRejected("no")


@pytest.mark.parametrize("note", [None, "closed by the hook"])
def test_the_error_of_a_closed_file_is_explained(note: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explanation is the explainer's note, or the grid's known failure."""
    monkeypatch.setattr(routes, "explanation", lambda _error: note)
    file = storage()
    file.close()
    context = UploadContext("flask", "file", "copied", "a-request")
    with pytest.raises(FileClosed, match=note or "pallets/flask#5399") as caught, routes.explained(file, context):
        file.read()
    assert isinstance(caught.value.__cause__, ValueError)


def audited(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the values of the only line in the audit log, whose event is its outcome."""
    (line,) = caplog.records
    assert line.name == "filehandoff.audit"
    assert vars(line)["outcome"] == line.getMessage()
    return vars(line)


def test_the_audit_log_names_sender_key_and_outcome(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Each upload and each deletion has one line."""
    sent = make_request("DELETE", query(service), remote_addr="192.0.2.1")
    sent.identity = Identity("ann")
    acts: dict[str, Callable[[], object]] = {
        "stored": lambda: play(routes.stored(service, sent, CONTEXT, [STORED])),
        "deleted": lambda: play(routes.delete_object(service, sent, KEY), head(), expect("delete_object", Key=KEY)),
        "aborted": lambda: play(routes.abort_presigned(service, sent, KEY), expect("abort_multipart_upload", **NAMED)),
    }
    for outcome, act in acts.items():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            act()
        line = audited(caplog)
        assert (line["outcome"], line["user"], line["address"], line["keys"]) == (outcome, "ann", "192.0.2.1", [KEY])


def test_the_response_to_a_stored_form_has_its_receipts(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the keys, the metrics the bytes, Location the first file's path."""
    other = Stored(Incoming(f"{KEY}2", "b.txt", "text/plain"), 5, SHA256, "f", 1)
    with caplog.at_level(logging.INFO):
        answer = play(routes.stored(service, request(), CONTEXT, [STORED, other]))
    receipts = members(answer)["receipts"]
    assert (answer.status, answer.headers["Location"]) == (201, f"/app/objects/{KEY}")
    assert [receipt["size"] for receipt in receipts] == [11, 5]
    assert receipts[0]["url"] == f"http://host:8080/app/objects/{KEY}"
    assert receipts[0]["elapsed_ms"] >= 0
    assert audited(caplog)["keys"] == [KEY, f"{KEY}2"]
    sample = service.metrics.registry.get_sample_value("handoff_stored_bytes_total", {"handoff": "stream"})
    assert sample == 16


def test_a_browser_is_redirected_to_the_page_of_its_receipts(service: Service) -> None:
    """The response is 303, so that a reload does not upload again."""
    answer = play(routes.stored(service, request(**PAGE), CONTEXT, [STORED]))
    assert (answer.status, answer.body) == (303, b"")
    assert answer.headers["Location"] == f"/app/receipts?key={KEY}"


def test_the_handler_gets_the_receipts_of_the_response(service: Service) -> None:
    """The objects are kept after the handler has returned, and no change of the handler's reaches the response."""
    done: list[object] = []

    def on_stored(receipts: Any) -> None:
        done.append([dict(receipt) for receipt in receipts])
        receipts.clear()

    service.on_stored = on_stored
    answer = play(routes.stored(service, request(), CONTEXT, [STORED], lambda: done.append("kept")))
    assert done == [members(answer)["receipts"], "kept"]


@pytest.mark.parametrize(
    ("keep", "detail"),
    [pytest.param(lambda: None, UNDONE, id="a form"), pytest.param(None, NOT_UNDONE, id="a presigned upload")],
)
def test_a_failed_handler_is_an_error_without_its_text(
    service: Service, caplog: pytest.LogCaptureFixture, keep: Callable[[], None] | None, detail: str
) -> None:
    """Nothing is logged as stored or counted, and the detail depends on whether the objects are removed."""

    def fail(_receipts: object) -> None:
        raise ZeroDivisionError("zero")

    service.on_stored = fail
    with caplog.at_level(logging.INFO), pytest.raises(HandlerFailed) as caught:
        play(routes.stored(service, request(), CONTEXT, [STORED], keep))
    assert (caught.value.detail, str(caught.value.__cause__)) == (detail, "zero")
    assert caplog.records == []
    assert not service.metrics.registry.get_sample_value("handoff_stored_bytes_total", {"handoff": "stream"})


JSON = {"Content_Type": "application/json"}


def test_the_response_to_a_presign_request_has_the_url(service: Service) -> None:
    """Location is the object's address, before the object exists."""
    reader = routes.presign_request_reader(service, request(method="POST", **JSON))
    reader.receive(json.dumps({"filename": "hello.txt", "size": 11, "content_type": "text/plain"}).encode())
    signed = expect(
        "presign_put_object",
        "https://s3/put",
        Key=ANY,
        ContentLength=11,
        ContentType="text/plain",
        IfNoneMatch="*",
        Metadata=ANY,
        Seconds=900,
    )
    answer = play(
        routes.presign(service, UploadContext("flask", "presigned", "bound", "a-request"), reader.finish(), None),
        signed,
    )
    given = members(answer)
    assert (answer.status, answer.headers["Location"]) == (201, f"/app/objects/{given['key']}")
    assert given["url"] == "https://s3/put"


@pytest.mark.parametrize("headers", [{}, {**JSON, "Content_Encoding": "gzip"}], ids=["no type", "a coding"])
def test_a_presign_request_must_be_uncompressed_json(service: Service, headers: dict[str, str]) -> None:
    """The request's head alone decides the rejection."""
    with pytest.raises(UnsupportedMediaType):
        routes.presign_request_reader(service, request(method="POST", **headers))


UPLOAD = PresignedMultipart(KEY, "id", 8 * MIB + 1, 8 * MIB)
NAMED = {"Key": KEY, "UploadId": "id"}


def query(service: Service, **more: int) -> str:
    """Return the query that names the upload."""
    return f"/?{UPLOAD.query(service.seal, **more)}"


def test_the_parts_behind_a_part_are_listed(service: Service) -> None:
    """The query names the upload and the last part of the previous page."""
    signed = expect("presign_upload_part", "https://s3/2", **NAMED, PartNumber=2, ContentLength=1, Seconds=900)
    flow = routes.presigned_parts(service, request(query(service, after=1)), KEY)
    assert [part["number"] for part in members(play(flow, expect("list_parts", **NAMED), signed))["parts"]] == [2]


def test_the_response_to_an_abort_is_empty(service: Service) -> None:
    """The status is 204."""
    flow = routes.abort_presigned(service, request(query(service), "DELETE"), KEY)
    assert play(flow, expect("abort_multipart_upload", **NAMED)) == NO_CONTENT


Route: TypeAlias = Callable[[Service, Request, str], Flow[Any]]


@pytest.mark.parametrize("route", [routes.presigned_parts, routes.abort_presigned])
def test_a_multipart_upload_must_be_named(service: Service, route: Route) -> None:
    """A key without a query names a single put."""
    with pytest.raises(ObjectMissing, match="Name the upload"):
        play(route(service, request(), KEY))


@pytest.mark.parametrize("route", [routes.presigned_parts, routes.abort_presigned, routes.complete_presigned])
def test_an_upload_of_another_seal_is_missing(service: Service, route: Route) -> None:
    """The flow makes no call to S3."""
    service.use_secret(None)
    with pytest.raises(ObjectMissing):
        play(route(service, request(query(Service("flask", Settings()))), KEY))


def test_the_response_to_a_completion_has_the_receipt(service: Service) -> None:
    """The receipt has the request id and the hook of the request for the URL."""
    promise = Promise(11, 1, SHA256, "copied", "first-request", "text/plain")
    metadata = {**promise.metadata(service.seal, INCOMING), "request-id": "first-request"}
    body = io.BytesIO()
    flow = routes.complete_presigned(service, request(method="POST"), KEY)
    got = expect("get_object", HEAD | {"Metadata": metadata, "Body": body}, Key=KEY)
    (receipt,) = members(play(flow, got, expect("read_back", (11, SHA256), Body=body)))["receipts"]
    assert (receipt["handoff"], receipt["hook"], receipt["request_id"]) == ("presigned", "copied", "first-request")
    assert body.closed


@pytest.mark.parametrize(
    "route",
    [
        routes.get_object,
        routes.delete_object,
        routes.presigned_parts,
        routes.abort_presigned,
        routes.complete_presigned,
    ],
)
@pytest.mark.parametrize("key", ["in/report.pdf", NAME, ""])
def test_no_route_reaches_an_object_that_is_no_upload(service: Service, route: Route, key: str) -> None:
    """The flow makes no call to S3."""
    with pytest.raises(ObjectMissing):
        play(route(service, request(), key))


def got(byte_range: str | None = None) -> Line:
    """The call that gets the object for a download."""
    named = {"Range": byte_range} if byte_range else {}
    return expect("get_object", HEAD | {"Body": "body"}, client="downloads", Key=KEY, **named)


def head(answer: object = None) -> Line:
    """The call that gets the object's headers."""
    return expect("head_object", answer or HEAD, Key=KEY)


@pytest.mark.parametrize(
    ("headers", "script"),
    [
        pytest.param({}, [got()], id="the whole"),
        pytest.param({"Range": "bytes=0-3"}, [got("bytes=0-3")], id="a range"),
        pytest.param({"If_None_Match": '"f"'}, [head(), got()], id="a condition that holds"),
        pytest.param({"Range": "bytes=0-3", "If_Range": '"e"'}, [head(), got("bytes=0-3")], id="a range of this state"),
        pytest.param({"Range": "bytes=0-3", "If_Range": '"f"'}, [head(), got()], id="a range of another state"),
    ],
)
def test_the_response_to_a_get_has_the_objects_body(
    service: Service, headers: dict[str, str], script: list[Line]
) -> None:
    """The flow requests the headers first only if the response depends on them."""
    answer = play(routes.get_object(service, request(**headers), KEY), *script)
    assert isinstance(answer, tuple)
    info, body = answer
    assert isinstance(info, ObjectInfo)
    assert body == "body"


def test_a_head_and_a_known_object_have_no_body(service: Service) -> None:
    """The flow does not get the object."""
    answer = play(routes.get_object(service, request(method="HEAD"), KEY), head())
    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "11", b"")
    known = play(routes.get_object(service, request(If_None_Match='"e"'), KEY), head())
    assert isinstance(known, Answer)
    assert (known.status, known.headers["ETag"], known.body) == (304, '"e"', b"")


def test_an_object_is_deleted_if_its_preconditions_hold(service: Service) -> None:
    """A missing object raises ObjectMissing, although S3 would accept its deletion."""
    deleted = expect("delete_object", Key=KEY)
    assert play(routes.delete_object(service, request(method="DELETE"), KEY), head(), deleted) == NO_CONTENT
    with pytest.raises(PreconditionFailed):
        play(routes.delete_object(service, request(method="DELETE", If_Match='"f"'), KEY), head())
    with pytest.raises(ObjectMissing):
        play(routes.delete_object(service, request(method="DELETE"), KEY), head(MISSING))


def test_receipts_are_made_from_the_objects_headers(service: Service) -> None:
    """No cache may store the receipts."""
    answer = play(routes.receipts(service, request(f"/?key={KEY}&key={KEY}")), head(), head())
    receipts = members(answer)["receipts"]
    assert [receipt["size"] for receipt in receipts] == [11, 11]
    assert receipts[0]["url"] == f"http://host:8080/app/objects/{KEY}"
    assert "no-cache" in answer.headers["Cache-Control"]


def test_a_page_of_receipts_shows_the_number_of_missing_ones(service: Service) -> None:
    """An invalid number counts as 0."""
    for more, shown in (("7", "7 more files"), ("x", "hello.txt")):
        flow = routes.receipts(service, request(f"/?key={KEY}&more={more}", **PAGE))
        assert shown in page(play(flow, head()))


def test_receipts_need_keys_of_ours(service: Service) -> None:
    """All keys are checked before the first call."""
    with pytest.raises(ObjectMissing, match="Name the objects"):
        play(routes.receipts(service, request()))
    with pytest.raises(ObjectMissing, match="No object has this key"):
        play(routes.receipts(service, request(f"/?key={KEY}&key=in/report.pdf")))


def test_the_number_of_receipts_is_bounded(service: Service) -> None:
    """Each receipt costs a call to S3."""
    flow = routes.receipts(service, request("/?" + "&".join([f"key={KEY}"] * (MAX_RECEIPTS + 1))))
    assert len(members(play(flow, *[head()] * MAX_RECEIPTS))["receipts"]) == MAX_RECEIPTS


def test_the_response_to_an_error_is_problem_details(service: Service) -> None:
    """The response has the error's headers."""
    answer = routes.problem(service, request(), StoreUnavailable("S3 is silent."))
    assert members(answer) == errors.problem(
        503, "store-unavailable", StoreUnavailable.title, "S3 is silent.", "a-request"
    )
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_browser_gets_a_page_of_the_problem(service: Service) -> None:
    """The page has the error's status and headers."""
    answer = routes.problem(service, request(**PAGE), StoreUnavailable("S3 is silent."))
    assert "S3 is silent." in page(answer)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


def caused(error: UploadError, cause: Exception) -> UploadError:
    """Return the error with this cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line", "traceback"),
    [
        pytest.param(StoreRejected("no"), "store-rejected: no", False, id="a detail"),
        pytest.param(caused(StoreRejected("no"), OSError("reset")), "store-rejected: reset", False, id="a cause"),
        pytest.param(caused(FileClosed("why"), ValueError("I/O")), "file-closed: why", False, id="an explanation"),
        pytest.param(errors.fault(ZeroDivisionError("zero")), "internal: zero", True, id="our own fault"),
        pytest.param(
            caused(HandlerFailed(UNDONE), ZeroDivisionError("zero")), "handler-failed: zero", True, id="a handler"
        ),
        pytest.param(caused(HandlerFailed(UNDONE), WebhookFailed("no")), "handler-failed: no", False, id="a webhook"),
    ],
)
def test_the_log_has_the_cause_of_an_error(
    service: Service, caplog: pytest.LogCaptureFixture, error: UploadError, line: str, *, traceback: bool
) -> None:
    """Only an internal error and a handler's have a traceback, and FileClosed logs its explanation."""
    routes.problem(service, request(), error)
    (record,) = caplog.records
    assert record.getMessage() == line
    assert bool(record.exc_info) is traceback
    assert record.code == error.code  # type: ignore[attr-defined] # one of the line's values


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(NotFound(), 404, "not-found", id="no such route"),
        pytest.param(MethodNotAllowed(["GET", "HEAD"]), 405, "method-not-allowed", id="no such method"),
        pytest.param(Gone(), 410, "gone", id="another status"),
        pytest.param(HTTPException(), 500, "unknown-error", id="no status"),
    ],
)
def test_an_error_of_the_framework_is_problem_details_too(
    service: Service, error: HTTPException, status: int, code: str
) -> None:
    """The response keeps only the header `Allow`."""
    answer = routes.http_problem(service, request(), error)
    assert (answer.status, members(answer)["code"]) == (status, code)
    assert answer.headers.get("Allow") == ("GET, HEAD" if status == 405 else None)
