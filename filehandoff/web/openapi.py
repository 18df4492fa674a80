"""The OpenAPI 3.1 document of both apps, with an example of each part.

Hand-offs, hooks, errors and receipts come from the modules that define them; only the routes stand here. A unit test
compares them with the apps' routing tables, schemathesis in the contract suite with the apps' responses.
"""

from collections.abc import Iterable

from filehandoff.causes import MAX_BYTES
from filehandoff.errors import (
    ERRORS,
    PROBLEM_CONTENT_TYPE,
    BodyTooLarge,
    DigestMalformed,
    DigestMismatch,
    FileClosed,
    FileTooLarge,
    Forbidden,
    FormError,
    FormMalformed,
    HandlerFailed,
    HostNotAllowed,
    IdentityUnavailable,
    Internal,
    LimitsUnavailable,
    MethodNotAllowed,
    NotFound,
    ObjectMissing,
    OriginNotAllowed,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimedOut,
    SizeMismatch,
    StorageFull,
    StoreRejected,
    StoreUnavailable,
    TooManyRequests,
    TypeMismatch,
    TypeNotAllowed,
    Unauthorized,
    UnknownCause,
    UnknownHandoff,
    UnknownHook,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.http import REQUEST_ID_HEADER, REQUEST_ID_PATTERN
from filehandoff.strategies import DEFAULT_HANDOFF, DEFAULT_HOOK, FORM_HANDOFFS
from filehandoff.web import openapi_files
from filehandoff.web.components import (
    BODY_DIGESTS,
    RATE_LIMITS,
    all_headers,
    all_parameters,
    file_body,
    form_body,
    form_or_file_body,
    form_schema,
    json_response,
    parameter,
    part_bytes_parameter,
    problem_response,
    problems,
    response,
    signature_parameter,
    size_parameter,
    token_scheme,
    upload_id_parameter,
    use,
    without_content,
)
from filehandoff.web.page_files import VIEWER_FILES, page_files
from filehandoff.web.pages import MAX_RECEIPTS
from filehandoff.web.schemas import (
    FILE,
    KEY,
    Node,
    closed,
    items,
    presigned_examples,
    problem_example,
    receipts_example,
    refer,
    report_examples,
    schemas,
    stored_receipts_example,
    strategies_example,
    text,
)

VERSION = "1.0.0"

DESCRIPTION = f"""\
Stores the files of `multipart/form-data` in S3, by every way of handing the bytes over.

- Every response has `{REQUEST_ID_HEADER}`: the request's own if it matches `{REQUEST_ID_PATTERN}`, otherwise a new one.
- An error is `{PROBLEM_CONTENT_TYPE}` (RFC 9457); its `code` is stable, for programs.
- Any other address responds like `#/components/responses/NotFound`, any other method of these addresses like
  `#/components/responses/MethodNotAllowed`; `OPTIONS` on each lists its methods in `Allow`.
- If the app allows other origins (`UPLOAD_CORS_ORIGINS`), it answers their preflight requests with 204, and all its
  responses to them have the headers of CORS.
- A browser that prefers `text/html` to JSON gets pages: an error is a page, and a stored upload responds with 303.
- The server itself rejects malformed HTTP, such as a broken request line, in its own format.
"""

#: The errors by which the apps reject a form.
FORM_ERRORS = tuple(
    error
    for error in ERRORS.values()
    if issubclass(error, FormError) and not issubclass(error, SizeMismatch | TypeMismatch)
)
#: The errors of every route that needs a scope; all of these call S3.
COMMON_ERRORS = (
    *(Unauthorized, Forbidden, HostNotAllowed, IdentityUnavailable),
    *(Internal, StoreRejected, StoreUnavailable),
)
#: The same, of a route that changes something.
CHANGE_ERRORS = (*COMMON_ERRORS, OriginNotAllowed)
#: The same, of a route that counts against a sender's limits.
UPLOAD_ERRORS = (*CHANGE_ERRORS, TooManyRequests, LimitsUnavailable)
#: The errors of a route that an app can close, or ask a scope for.
CLOSED_ERRORS = (Unauthorized, Forbidden, NotFound, HostNotAllowed, IdentityUnavailable)

OBJECT_HEADERS = (
    "Content-Length",
    "ETag",
    "Accept-Ranges",
    "Content-Disposition",
    "Last-Modified",
    "X-Content-Type-Options",
    "Content-Security-Policy",
    "Cache-Control",
)
#: An example of `/metrics`: one series before the first upload.
METRICS = """\
# HELP handoff_uploads_in_flight Uploads in progress.
# TYPE handoff_uploads_in_flight gauge
handoff_uploads_in_flight 0.0
"""
PRECONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


def document(root_path: str = "") -> dict[str, object]:
    """Return the document of an app under `root_path`, as data for JSON."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "filehandoff",
            "summary": "Uploads to S3, and the code that closed the file.",
            "description": DESCRIPTION,
            "version": VERSION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root_path or "/"}],
        "security": [{}, {"Token": []}],
        "tags": [
            {"name": "uploads", "description": "Store files."},
            {"name": "objects", "description": "Read and delete stored files."},
            {"name": "about", "description": "The service itself: its grid, its health, its numbers."},
        ],
        "paths": {path: _with_parameters(item) for path, item in _paths().items()},
        "components": {
            "schemas": schemas() | {"Form": form_schema()},
            "securitySchemes": {"Token": token_scheme()},
            "headers": all_headers() | openapi_files.headers(),
            "parameters": all_parameters() | openapi_files.parameters(),
            "requestBodies": {"Form": form_body(), "File": file_body(), "FormOrFile": form_or_file_body()},
            "responses": {
                "NotFound": problem_response(NotFound),
                "MethodNotAllowed": problem_response(MethodNotAllowed),
            },
            "examples": {
                code: {"summary": error.title, "value": problem_example(error)} for code, error in ERRORS.items()
            },
        },
    }


def _with_parameters(item: Node) -> Node:
    """Move a path's parameters to its operations: Swagger UI shows a lone `any` if an operation has none of its own."""
    shared = item.pop("parameters", [])
    return {
        method: operation | {"parameters": [*operation.get("parameters", []), *shared]}
        for method, operation in item.items()
    }


def _paths() -> Node:
    return {
        "/uploads": {"parameters": use("RequestId"), "post": _upload(), "put": _put("put")},
        "/uploads/{name}": {
            "parameters": use("RequestId"),
            "post": _upload_by(),
            "put": _put("putNamed", parameter("path", "name", text("The file's name."), "hello.txt")),
        },
        "/uploads/presigned": {"parameters": use("RequestId"), "post": _presign(), "put": _put("putPresigned")},
        "/uploads/presigned/{key}": {"parameters": use("RequestId", "Key"), "delete": _abort_presigned()},
        "/uploads/presigned/{key}/parts": _presign_parts(),
        "/uploads/presigned/{key}/complete": {"parameters": use("RequestId", "Key"), "post": _complete()},
        **openapi_files.paths(),
        "/causes/{cause}": {"parameters": use("RequestId", "Cause"), "post": _show_cause()},
        "/objects/{key}": {
            "parameters": use("RequestId", "Key"),
            "get": _get_object(),
            "head": _head_object(),
            "delete": _delete_object(),
        },
        "/": _page("Page", "The page for people", "text/html"),
        "/page/{name}": _page("PageFile", "A file that the page loads", "*/*", names=page_files()),
        "/docs": _page(
            "Docs", "The page to read and try this API, if its viewer is installed", "text/html", optional=True
        ),
        "/docs/{name}": _page("DocsFile", "A file of that viewer", "*/*", names=VIEWER_FILES),
        "/receipts": _get_receipts(),
        "/strategies": _about(
            "getStrategies",
            "Every pair of hand-off and hook, with its outcome for a file",
            refer("Strategies"),
            strategies_example(),
            *CLOSED_ERRORS,
        ),
        "/healthz": _about("getHealth", "Whether the process responds", *_status("ok")),
        "/readyz": _about(
            "getReadiness",
            "Whether S3 finds the bucket within a second, and the process is not shutting down",
            *_status("ready"),
            StoreUnavailable,
            Overloaded,
        ),
        "/metrics": _get_metrics(),
        "/openapi.json": _about(
            "getOpenapi",
            "This document",
            {"type": "object", "required": ["openapi", "info", "paths", "components"]},
            {"openapi": "3.1.1", "info": {"title": "filehandoff", "version": VERSION}, "paths": {}, "components": {}},
            HostNotAllowed,
        ),
    }


def _upload() -> Node:
    return {
        "operationId": "upload",
        "tags": ["uploads"],
        "summary": "Store the files of a form, or any other body as one file",
        "description": f"The hand-off is `{DEFAULT_HANDOFF}`. All files of a form are stored, or none. "
        "The name of a body without a form comes from its `Content-Disposition`.",
        "parameters": use("Hook"),
        "requestBody": {"$ref": "#/components/requestBodies/FormOrFile"},
        "responses": _stored(UnknownHook, FileClosed),
    }


def _upload_by() -> Node:
    handoff = parameter("path", "name", {"enum": FORM_HANDOFFS, **refer("Handoff")}, DEFAULT_HANDOFF)
    return {
        "operationId": "uploadBy",
        "tags": ["uploads"],
        "summary": "Store the files of a form by the hand-off of this name",
        "description": f"The default hook is `{DEFAULT_HOOK}`. All files of a form are stored, or none.",
        "parameters": [handoff, *use("Hook")],
        "requestBody": {"$ref": "#/components/requestBodies/Form"},
        "responses": _stored(UnknownHandoff, NotFound, UnknownHook, FileClosed, StorageFull),
    }


def _put(name: str, *parameters: Node) -> Node:
    return {
        "operationId": name,
        "tags": ["uploads"],
        "summary": "Store the body as one file",
        "description": f"The hand-off is `{DEFAULT_HANDOFF}`. Without a name in the path, the name comes from "
        "`Content-Disposition`.",
        "parameters": [*parameters, *use("Hook", *BODY_DIGESTS)],
        "requestBody": {"$ref": "#/components/requestBodies/File"},
        "responses": _stored(UnknownHook),
    }


def _stored(*errors: type[UploadError]) -> Node:
    return {
        "201": _receipts("Every file is in S3."),
        "303": response(
            "For a browser that prefers HTML: every file is in S3, and `Location` shows the receipts.",
            "Location",
        ),
        **problems(*FORM_ERRORS, *errors, *UPLOAD_ERRORS, HandlerFailed, Overloaded),
    }


def _receipts(description: str) -> Node:
    key = {"key": "$response.body#/receipts/0/key"}
    links = {then: {"operationId": then, "parameters": key} for then in ("getObject", "headObject", "deleteObject")}
    answer = json_response(description, refer("Receipts"), {"receipts": receipts_example()}, "Location", *RATE_LIMITS)
    return answer | {"links": links}


def _presign() -> Node:
    wanted, given = presigned_examples()
    return {
        "operationId": "presign",
        "tags": ["uploads"],
        "summary": "Get the URLs to send a file to S3 itself",
        "description": "For a file of one part the response has one URL and the exact headers of its request. For a "
        "larger file it has a URL for each part, in pages. After sending all bytes, call `complete`.",
        "parameters": use("Hook"),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": refer("Wanted"), "examples": {"file": {"value": wanted}}}},
        },
        "responses": {
            "201": json_response("Nothing is stored yet.", refer("Presigned"), given, "Location", *RATE_LIMITS),
            **problems(
                FormMalformed,
                DigestMalformed,
                UnknownHook,
                RequestTimedOut,
                BodyTooLarge,
                FileTooLarge,
                UnsupportedMediaType,
                *UPLOAD_ERRORS,
                Overloaded,
            ),
        },
    }


def _presign_parts() -> Node:
    parts = {"parts": presigned_examples()[1]["parts"]}
    get: Node = {
        "operationId": "getPresignedParts",
        "tags": ["uploads"],
        "summary": "Get new URLs for the next or the same parts, with the ETags of the parts in S3",
        "parameters": use("UploadId", "Size", "PartBytes", "Signature", "After"),
        "responses": {
            "200": json_response("One page of the parts.", refer("PresignedParts"), parts),
            **problems(ObjectMissing, NotFound, *COMMON_ERRORS, Overloaded),
        },
    }
    head = get | {
        "operationId": "headPresignedParts",
        "summary": f"{get['summary']}: the headers alone",
        "responses": without_content(get["responses"]),
    }
    return {"parameters": use("RequestId", "Key"), "get": get, "head": head}


def _abort_presigned() -> Node:
    return {
        "operationId": "abortPresigned",
        "tags": ["uploads"],
        "summary": "Abort an incomplete upload in parts",
        "description": "S3 deletes the parts, and their URLs no longer store anything. Use the address in `abort`.",
        "parameters": use("UploadId", "Size", "PartBytes", "Signature"),
        "responses": {
            "204": response("S3 has no part of the upload."),
            **problems(ObjectMissing, NotFound, *CHANGE_ERRORS, Overloaded),
        },
    }


def _complete() -> Node:
    upload = [
        parameter | {"required": False}
        for parameter in (upload_id_parameter(), size_parameter(), part_bytes_parameter(), signature_parameter())
    ]
    return {
        "operationId": "completePresigned",
        "tags": ["uploads"],
        "summary": "Read back the object that the client sent to S3",
        "description": "The app removes the object if two reads agree that its bytes or its length differ from the "
        "promise, or if its first bytes are not of an allowed type. The receipt has the id of the request for the URL. "
        "For an upload in parts, use the address in `complete`.",
        "parameters": upload,
        "responses": {
            "201": _receipts("The promised file is in S3."),
            **problems(
                *(ObjectMissing, NotFound, TypeNotAllowed, SizeMismatch, DigestMismatch, TypeMismatch),
                *(*UPLOAD_ERRORS, HandlerFailed, Overloaded),
            ),
        },
    }


def _show_cause() -> Node:
    errors = [
        error for error in FORM_ERRORS if error not in {DigestMismatch, TypeNotAllowed}
    ]  # the view reads a promised digest and does not check it, nor the type: the object is removed
    return {
        "operationId": "showCause",
        "tags": ["about"],
        "summary": "Run the view that fails by this cause on the file that is sent, and report what closed the file",
        "description": f"Takes the form's first file, of at most {MAX_BYTES} bytes; what the view stores is removed.",
        "requestBody": {"$ref": "#/components/requestBodies/Form"},
        "responses": {
            "200": json_response("The outcome for the file.", refer("Report"), report_examples()),
            **problems(*errors, UnknownCause, NotFound, *UPLOAD_ERRORS, Overloaded, StorageFull),
        },
    }


def _get_receipts() -> Node:
    keys = parameter("query", "key", items(refer("Key"), minItems=1))
    keys |= {"required": True, "examples": {"one": {"value": [KEY]}}}
    json = json_response("The receipts.", refer("StoredReceipts"), {"receipts": stored_receipts_example()})
    page = {"text/html": {"schema": {"type": "string"}, "examples": {"page": {"value": "<!doctype html>…"}}}}
    get: Node = {
        "operationId": "getReceipts",
        "tags": ["objects"],
        "summary": "The receipts of stored objects, from their heads in S3",
        "description": f"At most {MAX_RECEIPTS} receipts, those of the first keys.",
        "parameters": [keys],
        "responses": {
            "200": json | {"content": json["content"] | page},
            **problems(ObjectMissing, NotFound, *COMMON_ERRORS, Overloaded),
        },
    }
    head = get | {
        "operationId": "headReceipts",
        "summary": f"{get['summary']}: the headers alone",
        "responses": without_content(get["responses"]),
    }
    return {"parameters": use("RequestId"), "get": get, "head": head}


def _get_object() -> Node:
    content = {"*/*": {"examples": {"text": {"summary": "A text", "value": FILE.decode()}}}}
    return {
        "operationId": "getObject",
        "tags": ["objects"],
        "summary": "The object's bytes, or one range of them",
        "description": "Preconditions apply in the order of RFC 9110, section 13.2.2, and before the range.",
        "parameters": use(*PRECONDITIONS, "Range", "If-Range"),
        "responses": {
            "200": response("The whole object, with the media type of its upload.", *OBJECT_HEADERS)
            | {"content": content},
            "206": response("The range.", *OBJECT_HEADERS, "Content-Range") | {"content": content},
            "304": _not_modified(),
            **problems(ObjectMissing, NotFound, PreconditionFailed, RangeNotSatisfiable, *COMMON_ERRORS, Overloaded),
        },
    }


def _head_object() -> Node:
    return {
        "operationId": "headObject",
        "tags": ["objects"],
        "summary": "The object's headers",
        "description": "Like GET, but without a range (RFC 9110, section 14.2).",
        "parameters": use(*PRECONDITIONS),
        "responses": {
            "200": response("The headers of the whole object.", *OBJECT_HEADERS),
            "304": _not_modified(),
            **without_content(problems(ObjectMissing, NotFound, PreconditionFailed, *COMMON_ERRORS, Overloaded)),
        },
    }


def _not_modified() -> Node:
    return response("The client's copy is current.", "ETag", "Cache-Control")


def _delete_object() -> Node:
    return {
        "operationId": "deleteObject",
        "tags": ["objects"],
        "summary": "Delete the object",
        "parameters": use(*(name for name in PRECONDITIONS if name != "If-Modified-Since")),
        "responses": {
            "204": response("The object is gone."),
            **problems(ObjectMissing, NotFound, PreconditionFailed, *CHANGE_ERRORS, Overloaded),
        },
    }


def _about(name: str, summary: str, schema: Node, example: Node, *errors: type[UploadError]) -> Node:
    get: Node = {
        "operationId": name,
        "tags": ["about"],
        "summary": summary,
        **({} if Unauthorized in errors else {"security": []}),
        "responses": {"200": json_response("The answer.", schema, {"answer": example}), **problems(Internal, *errors)},
    }
    head = get | {
        "operationId": name.replace("get", "head"),
        "summary": f"{summary}: the headers alone",
        "responses": without_content(get["responses"]),
    }
    return {"parameters": use("RequestId"), "get": get, "head": head}


def _page(name: str, summary: str, *types: str, names: Iterable[str] = (), optional: bool = False) -> Node:
    """Return the operations of a page for people, or of the files of these names that it loads."""
    content = {kind: {"examples": {"beginning": {"value": "…"}}} for kind in types}
    shown = response(f"{summary}, with a strict Content-Security-Policy.", "ETag", "Cache-Control")
    errors = (NotFound, Internal) if names or optional else (Internal,)
    own = [parameter("path", "name", {"type": "string", "enum": sorted(names)}, *sorted(names)[:1])] if names else []
    get: Node = {
        "operationId": f"get{name}",
        "tags": ["about"],
        "summary": summary,
        "parameters": [*own, *use("If-None-Match")],
        "responses": {"200": shown | {"content": content}, "304": _not_modified(), **problems(*errors)},
    }
    head = get | {
        "operationId": f"head{name}",
        "summary": f"{summary}: the headers alone",
        "responses": without_content(get["responses"]),
    }
    return {"parameters": use("RequestId"), "get": get, "head": head}


def _get_metrics() -> Node:
    path = _about("getMetrics", "The app's numbers, for Prometheus", {}, {}, *CLOSED_ERRORS)
    body = {"schema": {"type": "string"}, "examples": {"text": {"value": METRICS}}}
    description = "Every series with its value, in the text format of `Accept`."
    content = {"text/plain": body, "application/openmetrics-text": body}
    path["get"]["responses"]["200"] = response(description) | {"content": content}
    path["head"]["responses"]["200"] = response(description)
    return path


def _status(word: str) -> tuple[Node, Node]:
    return closed("The status.", {"status": {"type": "string", "const": word}}), {"status": word}
