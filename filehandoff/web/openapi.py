"""The OpenAPI 3.1 document of both apps, with an example of each part.

Hand-offs, hooks, errors and receipts come from the modules that define them; only the routes stand here. A unit test
compares them with the apps' routing tables, schemathesis in the contract suite with the apps' responses.
"""

from collections.abc import Iterable
from typing import Any

from filehandoff.causes import CAUSES, MAX_BYTES
from filehandoff.digest import SHA256_PATTERN, Digest, to_content_digest
from filehandoff.errors import (
    ERRORS,
    PROBLEM_CONTENT_TYPE,
    RETRY_AFTER_SECONDS,
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
from filehandoff.form import DIGEST_FIELD, DIGEST_HEADER
from filehandoff.http import CACHE_CONTROL, CONTENT_SECURITY_POLICY, REQUEST_ID_HEADER, REQUEST_ID_PATTERN
from filehandoff.keys import content_disposition
from filehandoff.strategies import DEFAULT_HANDOFF, DEFAULT_HOOK, FORM_HANDOFFS
from filehandoff.web.page_files import VIEWER_FILES, page_files
from filehandoff.web.pages import MAX_RECEIPTS
from filehandoff.web.schemas import (
    ETAG,
    FILE,
    KEY,
    REQUEST_ID,
    STORED,
    Node,
    closed,
    count,
    items,
    presigned_examples,
    problem_example,
    receipts_example,
    refer,
    report_examples,
    schemas,
    sentence,
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
#: The headers about these limits.
RATE_LIMITS = ("RateLimit-Policy", "RateLimit")
#: The errors of a route that an app can close, or ask a scope for.
CLOSED_ERRORS = (Unauthorized, Forbidden, NotFound, HostNotAllowed, IdentityUnavailable)

#: The headers of an error beside the request's id.
ERROR_HEADERS: dict[type[UploadError], tuple[str, ...]] = {
    Unauthorized: ("WWW-Authenticate",),
    Forbidden: ("WWW-Authenticate",),
    IdentityUnavailable: ("Retry-After",),
    MethodNotAllowed: ("Allow",),
    UnsupportedMediaType: ("Accept-Encoding",),
    RangeNotSatisfiable: ("Content-Range",),
    TooManyRequests: ("Retry-After", *RATE_LIMITS),
    LimitsUnavailable: ("Retry-After",),
    StoreUnavailable: ("Retry-After",),
    Overloaded: ("Retry-After",),
    StorageFull: ("Retry-After",),
}
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
#: The request headers that promise the digest of a body without a form.
BODY_DIGESTS = ("Content-Digest", "Repr-Digest")
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
            "schemas": schemas() | {"Form": _form()},
            "securitySchemes": {"Token": _token()},
            "headers": _headers(),
            "parameters": _parameters(),
            "requestBodies": {"Form": _form_body(), "File": _file_body(), "FormOrFile": _form_or_file_body()},
            "responses": {
                "NotFound": _problem(NotFound),
                "MethodNotAllowed": _problem(MethodNotAllowed),
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
        "/uploads": {"parameters": _use("RequestId"), "post": _upload(), "put": _put("put")},
        "/uploads/{name}": {
            "parameters": _use("RequestId"),
            "post": _upload_by(),
            "put": _put("putNamed", _parameter("path", "name", text("The file's name."), "hello.txt")),
        },
        "/uploads/presigned": {"parameters": _use("RequestId"), "post": _presign(), "put": _put("putPresigned")},
        "/uploads/presigned/{key}": {"parameters": _use("RequestId", "Key"), "delete": _abort_presigned()},
        "/uploads/presigned/{key}/parts": _presign_parts(),
        "/uploads/presigned/{key}/complete": {"parameters": _use("RequestId", "Key"), "post": _complete()},
        "/causes/{cause}": {"parameters": _use("RequestId", "Cause"), "post": _show_cause()},
        "/objects/{key}": {
            "parameters": _use("RequestId", "Key"),
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
        "parameters": _use("Hook"),
        "requestBody": {"$ref": "#/components/requestBodies/FormOrFile"},
        "responses": _stored(UnknownHook, FileClosed),
    }


def _upload_by() -> Node:
    handoff = _parameter("path", "name", {"enum": FORM_HANDOFFS, **refer("Handoff")}, DEFAULT_HANDOFF)
    return {
        "operationId": "uploadBy",
        "tags": ["uploads"],
        "summary": "Store the files of a form by the hand-off of this name",
        "description": f"The default hook is `{DEFAULT_HOOK}`. All files of a form are stored, or none.",
        "parameters": [handoff, *_use("Hook")],
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
        "parameters": [*parameters, *_use("Hook", *BODY_DIGESTS)],
        "requestBody": {"$ref": "#/components/requestBodies/File"},
        "responses": _stored(UnknownHook),
    }


def _stored(*errors: type[UploadError]) -> Node:
    return {
        "201": _receipts("Every file is in S3."),
        "303": _answer(
            "For a browser that prefers HTML: every file is in S3, and `Location` shows the receipts.",
            "Location",
        ),
        **_problems(*FORM_ERRORS, *errors, *UPLOAD_ERRORS, HandlerFailed, Overloaded),
    }


def _receipts(description: str) -> Node:
    key = {"key": "$response.body#/receipts/0/key"}
    links = {then: {"operationId": then, "parameters": key} for then in ("getObject", "headObject", "deleteObject")}
    answer = _json(description, refer("Receipts"), {"receipts": receipts_example()}, "Location", *RATE_LIMITS)
    return answer | {"links": links}


def _presign() -> Node:
    wanted, given = presigned_examples()
    return {
        "operationId": "presign",
        "tags": ["uploads"],
        "summary": "Get the URLs to send a file to S3 itself",
        "description": "For a file of one part the response has one URL and the exact headers of its request. For a "
        "larger file it has a URL for each part, in pages. After sending all bytes, call `complete`.",
        "parameters": _use("Hook"),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": refer("Wanted"), "examples": {"file": {"value": wanted}}}},
        },
        "responses": {
            "201": _json("Nothing is stored yet.", refer("Presigned"), given, "Location", *RATE_LIMITS),
            **_problems(
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
        "parameters": _use("UploadId", "Size", "PartBytes", "Signature", "After"),
        "responses": {
            "200": _json("One page of the parts.", refer("PresignedParts"), parts),
            **_problems(ObjectMissing, NotFound, *COMMON_ERRORS, Overloaded),
        },
    }
    head = get | {
        "operationId": "headPresignedParts",
        "summary": f"{get['summary']}: the headers alone",
        "responses": _without_content(get["responses"]),
    }
    return {"parameters": _use("RequestId", "Key"), "get": get, "head": head}


def _abort_presigned() -> Node:
    return {
        "operationId": "abortPresigned",
        "tags": ["uploads"],
        "summary": "Abort an incomplete upload in parts",
        "description": "S3 deletes the parts, and their URLs no longer store anything. Use the address in `abort`.",
        "parameters": _use("UploadId", "Size", "PartBytes", "Signature"),
        "responses": {
            "204": _answer("S3 has no part of the upload."),
            **_problems(ObjectMissing, NotFound, *CHANGE_ERRORS, Overloaded),
        },
    }


def _complete() -> Node:
    upload = [parameter | {"required": False} for parameter in (_upload_id(), _size(), _part_bytes(), _signature())]
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
            **_problems(
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
            "200": _json("The outcome for the file.", refer("Report"), report_examples()),
            **_problems(*errors, UnknownCause, NotFound, *UPLOAD_ERRORS, Overloaded, StorageFull),
        },
    }


def _get_receipts() -> Node:
    keys = _parameter("query", "key", items(refer("Key"), minItems=1))
    keys |= {"required": True, "examples": {"one": {"value": [KEY]}}}
    json = _json("The receipts.", refer("StoredReceipts"), {"receipts": stored_receipts_example()})
    page = {"text/html": {"schema": {"type": "string"}, "examples": {"page": {"value": "<!doctype html>…"}}}}
    get: Node = {
        "operationId": "getReceipts",
        "tags": ["objects"],
        "summary": "The receipts of stored objects, from their heads in S3",
        "description": f"At most {MAX_RECEIPTS} receipts, those of the first keys.",
        "parameters": [keys],
        "responses": {
            "200": json | {"content": json["content"] | page},
            **_problems(ObjectMissing, NotFound, *COMMON_ERRORS, Overloaded),
        },
    }
    head = get | {
        "operationId": "headReceipts",
        "summary": f"{get['summary']}: the headers alone",
        "responses": _without_content(get["responses"]),
    }
    return {"parameters": _use("RequestId"), "get": get, "head": head}


def _get_object() -> Node:
    content = {"*/*": {"examples": {"text": {"summary": "A text", "value": FILE.decode()}}}}
    return {
        "operationId": "getObject",
        "tags": ["objects"],
        "summary": "The object's bytes, or one range of them",
        "description": "Preconditions apply in the order of RFC 9110, section 13.2.2, and before the range.",
        "parameters": _use(*PRECONDITIONS, "Range", "If-Range"),
        "responses": {
            "200": _answer("The whole object, with the media type of its upload.", *OBJECT_HEADERS)
            | {"content": content},
            "206": _answer("The range.", *OBJECT_HEADERS, "Content-Range") | {"content": content},
            "304": _not_modified(),
            **_problems(ObjectMissing, NotFound, PreconditionFailed, RangeNotSatisfiable, *COMMON_ERRORS, Overloaded),
        },
    }


def _head_object() -> Node:
    return {
        "operationId": "headObject",
        "tags": ["objects"],
        "summary": "The object's headers",
        "description": "Like GET, but without a range (RFC 9110, section 14.2).",
        "parameters": _use(*PRECONDITIONS),
        "responses": {
            "200": _answer("The headers of the whole object.", *OBJECT_HEADERS),
            "304": _not_modified(),
            **_without_content(_problems(ObjectMissing, NotFound, PreconditionFailed, *COMMON_ERRORS, Overloaded)),
        },
    }


def _not_modified() -> Node:
    return _answer("The client's copy is current.", "ETag", "Cache-Control")


def _delete_object() -> Node:
    return {
        "operationId": "deleteObject",
        "tags": ["objects"],
        "summary": "Delete the object",
        "parameters": _use(*(name for name in PRECONDITIONS if name != "If-Modified-Since")),
        "responses": {
            "204": _answer("The object is gone."),
            **_problems(ObjectMissing, NotFound, PreconditionFailed, *CHANGE_ERRORS, Overloaded),
        },
    }


def _about(name: str, summary: str, schema: Node, example: Node, *errors: type[UploadError]) -> Node:
    get: Node = {
        "operationId": name,
        "tags": ["about"],
        "summary": summary,
        **({} if Unauthorized in errors else {"security": []}),
        "responses": {"200": _json("The answer.", schema, {"answer": example}), **_problems(Internal, *errors)},
    }
    head = get | {
        "operationId": name.replace("get", "head"),
        "summary": f"{summary}: the headers alone",
        "responses": _without_content(get["responses"]),
    }
    return {"parameters": _use("RequestId"), "get": get, "head": head}


def _page(name: str, summary: str, *types: str, names: Iterable[str] = (), optional: bool = False) -> Node:
    """Return the operations of a page for people, or of the files of these names that it loads."""
    content = {kind: {"examples": {"beginning": {"value": "…"}}} for kind in types}
    shown = _answer(f"{summary}, with a strict Content-Security-Policy.", "ETag", "Cache-Control")
    errors = (NotFound, Internal) if names or optional else (Internal,)
    own = [_parameter("path", "name", {"type": "string", "enum": sorted(names)}, *sorted(names)[:1])] if names else []
    get: Node = {
        "operationId": f"get{name}",
        "tags": ["about"],
        "summary": summary,
        "parameters": [*own, *_use("If-None-Match")],
        "responses": {"200": shown | {"content": content}, "304": _not_modified(), **_problems(*errors)},
    }
    head = get | {
        "operationId": f"head{name}",
        "summary": f"{summary}: the headers alone",
        "responses": _without_content(get["responses"]),
    }
    return {"parameters": _use("RequestId"), "get": get, "head": head}


def _get_metrics() -> Node:
    path = _about("getMetrics", "The app's numbers, for Prometheus", {}, {}, *CLOSED_ERRORS)
    body = {"schema": {"type": "string"}, "examples": {"text": {"value": METRICS}}}
    description = "Every series with its value, in the text format of `Accept`."
    content = {"text/plain": body, "application/openmetrics-text": body}
    path["get"]["responses"]["200"] = _answer(description) | {"content": content}
    path["head"]["responses"]["200"] = _answer(description)
    return path


def _status(word: str) -> tuple[Node, Node]:
    return closed("The status.", {"status": {"type": "string", "const": word}}), {"status": word}


def _use(*parameters: str) -> list[Node]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in parameters]


def _answer(description: str, *headers: str) -> Node:
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID_HEADER, *headers)},
    }


def _json(description: str, schema: Node, examples: dict[str, Node], *headers: str) -> Node:
    values = {name: {"value": example} for name, example in examples.items()}
    content = {"application/json": {"schema": schema, "examples": values}}
    return _answer(description, *headers) | {"content": content}


def _problems(*errors: type[UploadError]) -> Node:
    """Return a response for each status, with its possible codes."""
    by_status: dict[int, list[type[UploadError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {str(status): _problem(*by_status[status]) for status in sorted(by_status)}


def _problem(*errors: type[UploadError]) -> Node:
    codes = [error.code for error in errors]
    schema = refer("Problem") | {
        "properties": {"status": {"const": errors[0].status}, "code": {"enum": codes}},
    }
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    headers = [header for error in errors for header in ERROR_HEADERS.get(error, ())]
    return _answer("\n\n".join(f"`{error.code}`: {sentence(error)}" for error in errors), *headers) | {
        "content": {PROBLEM_CONTENT_TYPE: {"schema": schema, "examples": examples}}
    }


def _without_content(responses: Node) -> Node:
    """Return the same responses without content, for HEAD."""
    return {
        status: {member: value for member, value in response.items() if member != "content"}
        for status, response in responses.items()
    }


def _token() -> Node:
    return {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of an app that identifies senders (`UPLOAD_AUTH`), with the scope `upload`, `read`, "
        "`delete` or `operate`. Other apps accept requests without one.",
    }


def _form() -> Node:
    return {
        "type": "object",
        "required": ["file"],
        "properties": {
            DIGEST_FIELD: text(
                "A promise: the SHA-256 of the next file in lowercase hex. It must come before its file. If the "
                "file has another, nothing of the form is stored.",
                pattern=f"^{SHA256_PATTERN}$",
            ),
            "file": items(
                {"type": "string", "contentMediaType": "application/octet-stream"},
                minItems=1,
                description="The files: one part with a filename each; `/strategies` lists the field's other names.",
            ),
        },
        "propertyNames": {"minLength": 1, "description": "A part has a name (RFC 7578, section 4.2)."},
        "additionalProperties": {"type": "string", "description": "Other fields and files are ignored."},
    }


def _form_body() -> Node:
    digest = Digest()
    digest.update([FILE])
    file = FILE.decode()
    return {
        "required": True,
        "description": "A form (RFC 7578) with at least one file.",
        "content": {
            "multipart/form-data": {
                "schema": refer("Form"),
                "encoding": {
                    "file": {
                        "contentType": "*/*",
                        "headers": {DIGEST_HEADER: {"$ref": f"#/components/headers/{DIGEST_HEADER}"}},
                    },
                    DIGEST_FIELD: {"contentType": "text/plain"},
                },
                "examples": {
                    "file": {"summary": "One file", "value": {"file": [file]}},
                    "files": {"summary": "Two files", "value": {"file": [file, file]}},
                    "promised": {
                        "summary": "A file with its promised digest",
                        "value": {DIGEST_FIELD: digest.sha256, "file": [file]},
                    },
                },
            }
        },
    }


def _file_body() -> Node:
    return {
        "required": True,
        "description": "The file's bytes, of any media type.",
        "content": {"*/*": {"examples": {"text": {"summary": "A text", "value": FILE.decode()}}}},
    }


def _form_or_file_body() -> Node:
    form, file = _form_body(), _file_body()
    return {
        "required": True,
        "description": f"{form['description']} Or the bytes of one file, of any other media type.",
        "content": form["content"] | file["content"],
    }


def _parameters() -> Node:
    digest = to_content_digest(receipts_example()["receipts"][0]["sha256"])
    promise = text(
        "A promise: the SHA-256 of the body (RFC 9530). If the body has another, nothing is stored.",
        pattern=r"^sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:$",
    )
    return {
        **{name: _parameter("header", name, promise, digest) for name in BODY_DIGESTS},
        "RequestId": _parameter(
            "header",
            REQUEST_ID_HEADER,
            text("Kept if it has the form of a request id, otherwise replaced."),
            REQUEST_ID,
        ),
        "UploadId": _upload_id(),
        "Size": _size(),
        "PartBytes": _part_bytes(),
        "Signature": _signature(),
        "After": _parameter("query", "after", count("The part after which the page begins.") | {"default": 0}, 0),
        "Cause": _parameter("path", "cause", refer("Cause"), *CAUSES),
        "Hook": _parameter("query", "hook", refer("Hook") | {"default": DEFAULT_HOOK}, DEFAULT_HOOK),
        "Key": _parameter("path", "key", refer("Key"), KEY)
        | {"description": "The object's key. Its slashes may be plain or encoded as `%2F`."},
        "Range": _parameter(
            "header",
            "Range",
            text("One range of bytes; several, backward and malformed ranges are ignored (RFC 9110, section 14.2)."),
            "bytes=0-4",
            "bytes=-4",
            f"bytes={len(FILE)}-",
        ),
        "If-Range": _parameter(
            "header",
            "If-Range",
            text("A strong ETag or a date: the range applies only if the object still matches."),
            f'"{ETAG}"',
            STORED,
        ),
        "If-Match": _parameter(
            "header",
            "If-Match",
            text(f"ETags or `*`: fails with `{PreconditionFailed.code}` unless the object has one of them."),
            "*",
        ),
        "If-None-Match": _parameter(
            "header",
            "If-None-Match",
            text("ETags or `*`: 304 to GET and HEAD if the object has one of them, by weak comparison."),
            f'"{ETAG}"',
            '"another"',
        ),
        "If-Modified-Since": _parameter(
            "header",
            "If-Modified-Since",
            text("A date: 304 if the object was not stored after it. Ignored beside `If-None-Match`, or if malformed."),
            STORED,
        ),
        "If-Unmodified-Since": _parameter(
            "header",
            "If-Unmodified-Since",
            text("A date: fails if the object was stored after it. Ignored beside `If-Match`, or if malformed."),
            STORED,
        ),
    }


def _upload_id() -> Node:
    schema = text("S3's id of the upload in parts.", minLength=1)
    return _parameter("query", "upload_id", schema, "an-upload") | {"required": True}


def _size() -> Node:
    return _parameter("query", "size", count("The file's size in bytes."), 20_000_000) | {"required": True}


def _part_bytes() -> Node:
    schema = count("The size of the first part in bytes, from the response that began the upload.")
    return _parameter("query", "part_bytes", schema, 8_388_608) | {"required": True}


def _signature() -> Node:
    schema = text("The app's signature of key, upload_id, size and part_bytes; empty if the processes share no secret.")
    return _parameter("query", "signature", schema, "a-signature") | {"required": True}


def _parameter(place: str, name: str, schema: Node, *examples: str | int) -> Node:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": schema,
        "examples": {str(example): {"value": example} for example in examples},
    }


def _headers() -> Node:
    digest = to_content_digest(receipts_example()["receipts"][0]["sha256"])
    return {
        REQUEST_ID_HEADER: _header(refer("RequestId"), REQUEST_ID),
        "Location": _header(
            text("The first object; with a presigned upload, the client must still send it.", format="uri-reference"),
            f"/objects/{KEY}",
        ),
        "Retry-After": _header(count("Seconds before a retry."), RETRY_AFTER_SECONDS),
        "RateLimit-Policy": _header(
            text("The limits that the request has met (draft-ietf-httpapi-ratelimit-headers-10)."),
            '"uploads-60";q=100;w=60, "bytes-86400";q=10737418240;w=86400;qu="content-bytes"',
            required=False,
        ),
        "RateLimit": _header(
            text("The rest of each of these limits (`r`), and the seconds until its period ends (`t`)."),
            '"uploads-60";r=99;t=30, "bytes-86400";r=10737418000;t=3600',
            required=False,
        ),
        "WWW-Authenticate": _header(text("The credentials that are needed (RFC 6750, section 3)."), "Bearer"),
        "Allow": _header(text("The methods of this address."), "POST, OPTIONS"),
        "Accept-Encoding": _header(
            {"type": "string", "const": "identity", "description": "Only in the response to a compressed body."},
            "identity",
            required=False,
        ),
        "Content-Length": _header(count("Bytes of the body."), len(FILE)),
        "Content-Range": _header(
            text(
                "The range and the object's size; in an error only the size.",
                pattern=r"^bytes (?:\d+-\d+|\*)/\d+$",
            ),
            f"bytes 0-4/{len(FILE)}",
        ),
        "ETag": _header(text("The object's ETag in S3.", pattern=r'^"[^"]+"$'), f'"{ETAG}"'),
        "Accept-Ranges": _header({"type": "string", "const": "bytes"}, "bytes"),
        "Content-Disposition": _header(
            text("A download with the original name (RFC 6266), never a page.", pattern="^attachment; "),
            content_disposition("hello.txt", KEY),
        ),
        "Last-Modified": _header(text("The time of the upload (RFC 9110, section 5.6.7)."), STORED, required=False),
        "X-Content-Type-Options": _header({"type": "string", "const": "nosniff"}, "nosniff"),
        "Content-Security-Policy": _header(
            {
                "type": "string",
                "const": CONTENT_SECURITY_POLICY,
                "description": "A browser that shows the file anyway runs and loads nothing in it.",
            },
            CONTENT_SECURITY_POLICY,
        ),
        "Cache-Control": _header(
            {
                "type": "string",
                "const": CACHE_CONTROL,
                "description": "The bytes of a key never change, but the object may be deleted: a client must "
                "revalidate its copy each time (RFC 9111, section 5.2.2.4).",
            },
            CACHE_CONTROL,
        ),
        DIGEST_HEADER: _header(
            text("The promised digest of this file (RFC 9530), in base64; an alternative to the field."),
            digest,
            required=False,
        ),
    }


def _header(schema: Node, example: Any, *, required: bool = True) -> Node:
    return {"required": required, "schema": schema, "example": example}
