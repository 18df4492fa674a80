"""What both apps promise, as one OpenAPI 3.1 document: every route, code, schema, header, and an example of each.

Hand-offs, hooks, errors and receipts are read off the modules that define them; only the routes are written here, and
held to the running apps: their routing tables by a unit test, their answers by schemathesis in the contract suite.
"""

from typing import Any

from filehandoff.causes import CAUSES, MAX_BYTES
from filehandoff.digest import SHA256_PATTERN, Digest, to_content_digest
from filehandoff.errors import (
    PROBLEM_CONTENT_TYPE,
    RETRY_AFTER_SECONDS,
    BodyTooLarge,
    DigestMalformed,
    DigestMismatch,
    FileClosed,
    FileTooLarge,
    FormError,
    FormMalformed,
    Internal,
    MethodNotAllowed,
    NotFound,
    ObjectMissing,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimedOut,
    SizeMismatch,
    StorageFull,
    StoreRejected,
    StoreUnavailable,
    TypeMismatch,
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
from filehandoff.web.pages import MAX_RECEIPTS
from filehandoff.web.schemas import (
    ERRORS,
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
Takes `multipart/form-data` and puts its files into S3, by every way of handing the bytes over.

- Every answer has `{REQUEST_ID_HEADER}`: the request's own if it matches `{REQUEST_ID_PATTERN}`, otherwise a new one.
- An error is `{PROBLEM_CONTENT_TYPE}` (RFC 9457); its `code` is for programs and does not change.
- Any other address is answered like `#/components/responses/NotFound`, any other method of these like
  `#/components/responses/MethodNotAllowed`; `OPTIONS` on each has its methods in `Allow`.
- A browser that prefers `text/html` to JSON gets pages: an error is one, and a stored upload is answered by 303.
- What is no HTTP at all, such as a broken request line, is answered by the server before the app, in its own words.
"""

#: What a form may be refused for.
FORM_ERRORS = tuple(
    error
    for error in ERRORS.values()
    if issubclass(error, FormError) and not issubclass(error, SizeMismatch | TypeMismatch)
)
STORE_ERRORS = (Internal, StoreRejected, StoreUnavailable)

#: The headers that come with an error beside the request's id.
ERROR_HEADERS: dict[type[UploadError], tuple[str, ...]] = {
    MethodNotAllowed: ("Allow",),
    UnsupportedMediaType: ("Accept-Encoding",),
    RangeNotSatisfiable: ("Content-Range",),
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
#: One series of `/metrics`, as it looks before the first upload.
METRICS = """\
# HELP handoff_uploads_in_flight Uploads in progress.
# TYPE handoff_uploads_in_flight gauge
handoff_uploads_in_flight 0.0
"""
#: The request headers that promise the digest of a body that is one file.
BODY_DIGESTS = ("Content-Digest", "Repr-Digest")
PRECONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


def document(root_path: str = "") -> dict[str, object]:
    """The document of an app below `root_path`, as plain data for JSON; the same from both apps."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "filehandoff",
            "summary": "Uploads to S3, and who closed the file.",
            "description": DESCRIPTION,
            "version": VERSION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root_path or "/"}],
        "security": [],
        "tags": [
            {"name": "uploads", "description": "Files in."},
            {"name": "objects", "description": "What was stored."},
            {"name": "about", "description": "What this service is and how it is."},
        ],
        "paths": _paths(),
        "components": {
            "schemas": schemas() | {"Form": _form()},
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
        "/receipts": _get_receipts(),
        "/strategies": _about(
            "getStrategies",
            "Every pair of hand-off and hook, and what becomes of a file in it",
            refer("Strategies"),
            strategies_example(),
        ),
        "/healthz": _about("getHealth", "Whether the process answers", *_status("ok")),
        "/readyz": _about(
            "getReadiness",
            "Whether S3 answers for the bucket, within a second, and the process is not about to end",
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
        ),
    }


def _upload() -> Node:
    return {
        "operationId": "upload",
        "tags": ["uploads"],
        "summary": "Store the files of a form, or any other body as one file",
        "description": f"The hand-off is `{DEFAULT_HANDOFF}`. All files of a form are stored, or none. "
        "A body that is no form is named by its `Content-Disposition`.",
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
        "description": f"Without more, the hook is `{DEFAULT_HOOK}`. All files of a form are stored, or none.",
        "parameters": [handoff, *_use("Hook")],
        "requestBody": {"$ref": "#/components/requestBodies/Form"},
        "responses": _stored(UnknownHandoff, NotFound, UnknownHook, FileClosed, StorageFull),
    }


def _put(name: str, *parameters: Node) -> Node:
    return {
        "operationId": name,
        "tags": ["uploads"],
        "summary": "Store the body as one file",
        "description": f"The hand-off is `{DEFAULT_HANDOFF}`. Without a name in the path, the file is named by the "
        "`Content-Disposition`.",
        "parameters": [*parameters, *_use("Hook", *BODY_DIGESTS)],
        "requestBody": {"$ref": "#/components/requestBodies/File"},
        "responses": _stored(UnknownHook),
    }


def _stored(*errors: type[UploadError]) -> Node:
    return {
        "201": _receipts("Every file is in S3."),
        "303": _answer("Every file is in S3, to a browser that prefers HTML to JSON: see `/receipts`.", "Location"),
        **_problems(*FORM_ERRORS, *errors, *STORE_ERRORS, Overloaded),
    }


def _receipts(description: str) -> Node:
    key = {"key": "$response.body#/receipts/0/key"}
    links = {then: {"operationId": then, "parameters": key} for then in ("getObject", "headObject", "deleteObject")}
    answer = _json(description, refer("Receipts"), {"receipts": receipts_example()}, "Location")
    return answer | {"links": links}


def _presign() -> Node:
    wanted, given = presigned_examples()
    return {
        "operationId": "presign",
        "tags": ["uploads"],
        "summary": "Ask for the URLs by which a file may be sent to S3 itself",
        "description": "A file of one part gets one URL, and the headers that it must be sent with, exactly. A larger "
        "one gets a URL for each part, in pages. When all is sent, `complete` is to be called.",
        "parameters": _use("Hook"),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": refer("Wanted"), "examples": {"file": {"value": wanted}}}},
        },
        "responses": {
            "201": _json("Nothing is stored yet.", refer("Presigned"), given, "Location"),
            **_problems(
                FormMalformed,
                DigestMalformed,
                UnknownHook,
                RequestTimedOut,
                BodyTooLarge,
                FileTooLarge,
                UnsupportedMediaType,
                *STORE_ERRORS,
                Overloaded,
            ),
        },
    }


def _presign_parts() -> Node:
    parts = {"parts": presigned_examples()[1]["parts"]}
    get: Node = {
        "operationId": "getPresignedParts",
        "tags": ["uploads"],
        "summary": "The next parts, or the same ones anew: their URLs, and which of them S3 has",
        "parameters": _use("UploadId", "Size", "PartBytes", "Signature", "After"),
        "responses": {
            "200": _json("One page of them.", refer("PresignedParts"), parts),
            **_problems(ObjectMissing, NotFound, *STORE_ERRORS, Overloaded),
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
        "summary": "End an upload in parts that is not complete",
        "description": "S3 frees its parts, and their URLs store nothing any more. The query is that of `abort`.",
        "parameters": _use("UploadId", "Size", "PartBytes", "Signature"),
        "responses": {
            "204": _answer("S3 has no part of it any more."),
            **_problems(ObjectMissing, NotFound, *STORE_ERRORS, Overloaded),
        },
    }


def _complete() -> Node:
    upload = [parameter | {"required": False} for parameter in (_upload_id(), _size(), _part_bytes(), _signature())]
    return {
        "operationId": "completePresigned",
        "tags": ["uploads"],
        "summary": "Read back what was sent to S3",
        "description": "It is removed if two readings agree that its bytes or its length are not the promised ones. "
        "The receipt names the request that gave the URL. An upload in parts has the query of its `complete`.",
        "parameters": upload,
        "responses": {
            "201": _receipts("What was promised is in S3."),
            **_problems(ObjectMissing, NotFound, SizeMismatch, DigestMismatch, TypeMismatch, *STORE_ERRORS, Overloaded),
        },
    }


def _show_cause() -> Node:
    errors = [error for error in FORM_ERRORS if error is not DigestMismatch]  # a promise is read, not kept
    return {
        "operationId": "showCause",
        "tags": ["about"],
        "summary": "Run the view that fails by this cause on the file that is sent, and report what closed the file",
        "description": f"Takes the form's first file, of at most {MAX_BYTES} bytes; what the view stores is removed.",
        "requestBody": {"$ref": "#/components/requestBodies/Form"},
        "responses": {
            "200": _json("What became of the file.", refer("Report"), report_examples()),
            **_problems(*errors, UnknownCause, NotFound, *STORE_ERRORS, Overloaded, StorageFull),
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
        "description": f"Of the first {MAX_RECEIPTS} keys.",
        "parameters": [keys],
        "responses": {
            "200": json | {"content": json["content"] | page},
            **_problems(ObjectMissing, NotFound, *STORE_ERRORS, Overloaded),
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
        "description": "Preconditions are judged in the order of RFC 9110, section 13.2.2, and before the range.",
        "parameters": _use(*PRECONDITIONS, "Range", "If-Range"),
        "responses": {
            "200": _answer("The whole object, of the type it was sent with.", *OBJECT_HEADERS) | {"content": content},
            "206": _answer("The range.", *OBJECT_HEADERS, "Content-Range") | {"content": content},
            "304": _not_modified(),
            **_problems(ObjectMissing, NotFound, PreconditionFailed, RangeNotSatisfiable, *STORE_ERRORS, Overloaded),
        },
    }


def _head_object() -> Node:
    return {
        "operationId": "headObject",
        "tags": ["objects"],
        "summary": "What is known of the object",
        "description": "As for GET; only a range is passed over (RFC 9110, section 14.2).",
        "parameters": _use(*PRECONDITIONS),
        "responses": {
            "200": _answer("The headers of the whole object.", *OBJECT_HEADERS),
            "304": _not_modified(),
            **_without_content(_problems(ObjectMissing, NotFound, PreconditionFailed, *STORE_ERRORS, Overloaded)),
        },
    }


def _not_modified() -> Node:
    return _answer("The client has the object already, as it says itself.", "ETag", "Cache-Control")


def _delete_object() -> Node:
    return {
        "operationId": "deleteObject",
        "tags": ["objects"],
        "summary": "Remove the object",
        "parameters": _use(*(name for name in PRECONDITIONS if name != "If-Modified-Since")),
        "responses": {
            "204": _answer("The object is gone."),
            **_problems(ObjectMissing, NotFound, PreconditionFailed, *STORE_ERRORS, Overloaded),
        },
    }


def _about(name: str, summary: str, schema: Node, example: Node, *errors: type[UploadError]) -> Node:
    get: Node = {
        "operationId": name,
        "tags": ["about"],
        "summary": summary,
        "responses": {"200": _json("As asked.", schema, {"answer": example}), **_problems(Internal, *errors)},
    }
    head = get | {
        "operationId": name.replace("get", "head"),
        "summary": f"{summary}: the headers alone",
        "responses": _without_content(get["responses"]),
    }
    return {"parameters": _use("RequestId"), "get": get, "head": head}


def _get_metrics() -> Node:
    path = _about("getMetrics", "What this app has done so far, in numbers, for Prometheus", {}, {})
    body = {"schema": {"type": "string"}, "examples": {"text": {"value": METRICS}}}
    description = "Every series and its value, in the text format that `Accept` asks for."
    content = {"text/plain": body, "application/openmetrics-text": body}
    path["get"]["responses"]["200"] = _answer(description) | {"content": content}
    path["head"]["responses"]["200"] = _answer(description)
    return path


def _status(word: str) -> tuple[Node, Node]:
    return closed("A word.", {"status": {"type": "string", "const": word}}), {"status": word}


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
    """An answer for each status, with the codes it may have."""
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
    """The same answers to HEAD."""
    return {
        status: {member: value for member, value in response.items() if member != "content"}
        for status, response in responses.items()
    }


def _form() -> Node:
    return {
        "type": "object",
        "required": ["file"],
        "properties": {
            DIGEST_FIELD: text(
                "A promise: the SHA-256 of the next file in lowercase hex. It must come before its file; if the file "
                "is another, nothing of the form is stored.",
                pattern=f"^{SHA256_PATTERN}$",
            ),
            "file": items(
                {"type": "string", "contentMediaType": "application/octet-stream"},
                minItems=1,
                description="The files: one part with a filename for each; `/strategies` has their other names.",
            ),
        },
        "propertyNames": {"minLength": 1, "description": "A part has a name (RFC 7578, section 4.2)."},
        "additionalProperties": {"type": "string", "description": "Other fields and files are passed over."},
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
        "description": "The bytes of the file, of any type.",
        "content": {"*/*": {"examples": {"text": {"summary": "A text", "value": FILE.decode()}}}},
    }


def _form_or_file_body() -> Node:
    form, file = _form_body(), _file_body()
    return {
        "required": True,
        "description": f"{form['description']} Or the bytes of one file, of any other type.",
        "content": form["content"] | file["content"],
    }


def _parameters() -> Node:
    digest = to_content_digest(receipts_example()["receipts"][0]["sha256"])
    promise = text(
        "A promise: the SHA-256 of the body (RFC 9530). Nothing is stored if the body is another.",
        pattern=r"^sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:$",
    )
    return {
        **{name: _parameter("header", name, promise, digest) for name in BODY_DIGESTS},
        "RequestId": _parameter(
            "header",
            REQUEST_ID_HEADER,
            text("Kept if it has the form of a request id, replaced otherwise."),
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
        | {"description": "The object's key. Its slashes may be sent as they are or as `%2F`."},
        "Range": _parameter(
            "header",
            "Range",
            text("One range of bytes; several, backward and unreadable ranges are ignored (RFC 9110, section 14.2)."),
            "bytes=0-4",
            "bytes=-4",
            f"bytes={len(FILE)}-",
        ),
        "If-Range": _parameter(
            "header",
            "If-Range",
            text("A strong ETag or a date: the range, if the object is still that one; otherwise all of it."),
            f'"{ETAG}"',
            STORED,
        ),
        "If-Match": _parameter(
            "header",
            "If-Match",
            text(f"ETags or `*`: only if the object has one of them; otherwise `{PreconditionFailed.code}`."),
            "*",
        ),
        "If-None-Match": _parameter(
            "header",
            "If-None-Match",
            text("ETags or `*`: only if the object has none of them, compared weakly; otherwise 304 to GET and HEAD."),
            f'"{ETAG}"',
            '"another"',
        ),
        "If-Modified-Since": _parameter(
            "header",
            "If-Modified-Since",
            text("A date: only if the object was stored after it. Passed over beside `If-None-Match`, or unreadable."),
            STORED,
        ),
        "If-Unmodified-Since": _parameter(
            "header",
            "If-Unmodified-Since",
            text("A date: only if the object was not stored after it. Passed over beside `If-Match`, or unreadable."),
            STORED,
        ),
    }


def _upload_id() -> Node:
    schema = text("S3's name of the upload in parts.", minLength=1)
    return _parameter("query", "upload_id", schema, "an-upload") | {"required": True}


def _size() -> Node:
    return _parameter("query", "size", count("The file's size in bytes."), 20_000_000) | {"required": True}


def _part_bytes() -> Node:
    schema = count("The size of its first part in bytes, by the app that began it.")
    return _parameter("query", "part_bytes", schema, 8_388_608) | {"required": True}


def _signature() -> Node:
    schema = text("Our mark of key, upload_id, size and part_bytes; empty where the processes share no secret.")
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
            text("The first object; a presigned one is still to be sent.", format="uri-reference"), f"/objects/{KEY}"
        ),
        "Retry-After": _header(count("Seconds after which to try again."), RETRY_AFTER_SECONDS),
        "Allow": _header(text("The methods that this address has."), "POST, OPTIONS"),
        "Accept-Encoding": _header(
            {"type": "string", "const": "identity", "description": "Where the body was compressed."},
            "identity",
            required=False,
        ),
        "Content-Length": _header(count("Bytes of the body."), len(FILE)),
        "Content-Range": _header(
            text(
                "Which bytes of how many these are; of an error, how many there are.",
                pattern=r"^bytes (?:\d+-\d+|\*)/\d+$",
            ),
            f"bytes 0-4/{len(FILE)}",
        ),
        "ETag": _header(text("S3's.", pattern=r'^"[^"]+"$'), f'"{ETAG}"'),
        "Accept-Ranges": _header({"type": "string", "const": "bytes"}, "bytes"),
        "Content-Disposition": _header(
            text("A download under the original name (RFC 6266), never a page.", pattern="^attachment; "),
            content_disposition("hello.txt", KEY),
        ),
        "Last-Modified": _header(text("When it was stored (RFC 9110, section 5.6.7)."), STORED, required=False),
        "X-Content-Type-Options": _header({"type": "string", "const": "nosniff"}, "nosniff"),
        "Content-Security-Policy": _header(
            {
                "type": "string",
                "const": CONTENT_SECURITY_POLICY,
                "description": "Where the file is shown after all, it is a page that runs and loads nothing.",
            },
            CONTENT_SECURITY_POLICY,
        ),
        "Cache-Control": _header(
            {
                "type": "string",
                "const": CACHE_CONTROL,
                "description": "The bytes of a key never change, but may be deleted: a client's own copy is to be "
                "asked about each time (RFC 9111, section 5.2.2.4).",
            },
            CACHE_CONTROL,
        ),
        DIGEST_HEADER: _header(
            text("A promise for this file (RFC 9530), as by the field, in base64."), digest, required=False
        ),
    }


def _header(schema: Node, example: Any, *, required: bool = True) -> Node:
    return {"required": required, "schema": schema, "example": example}
