"""The part of the OpenAPI document about resumable uploads (`filehandoff.tus`), with an example of each part."""

import base64

from filehandoff.digest import crc32_header, crc32_of_all
from filehandoff.errors import (
    ChecksumMismatch,
    ChecksumUnsupported,
    DigestMalformed,
    DigestMismatch,
    Expired,
    FileTooLarge,
    FinalUpload,
    Forbidden,
    FormMalformed,
    HandlerFailed,
    HostNotAllowed,
    IdentityUnavailable,
    Internal,
    LimitsUnavailable,
    Locked,
    MethodNotAllowed,
    NotFound,
    ObjectMissing,
    OffsetConflict,
    OriginNotAllowed,
    Overloaded,
    PartialUnfinished,
    RequestTimedOut,
    StoreRejected,
    StoreUnavailable,
    TooManyRequests,
    TusMalformed,
    TusVersionUnsupported,
    TypeNotAllowed,
    Unauthorized,
    UnsupportedMediaType,
)
from filehandoff.tus import CONTENT_TYPE, METHOD_OVERRIDE, METHODS, VERSION
from filehandoff.web.components import header, json_response, parameter, problems, response, use, without_content
from filehandoff.web.schemas import FILE, KEY, Node, count, receipts_example, refer, text

ID = KEY.split("/")[-2]
_METADATA = f"filename {base64.b64encode(b'hello.txt').decode()}"
_CHECKSUM = f"crc32 {crc32_header(crc32_of_all([FILE]))}"
_EXPIRES = "Sun, 01 Feb 2026 00:00:00 GMT"

_COMMON_ERRORS = (
    *(Unauthorized, Forbidden, HostNotAllowed, IdentityUnavailable, TusVersionUnsupported, Overloaded),
    *(Internal, StoreRejected, StoreUnavailable),
)
#: The errors of a request that names an upload.
_UPLOAD_ERRORS = (*_COMMON_ERRORS, NotFound, Expired)
_BYTES_ERRORS = (
    *(TusMalformed, ChecksumUnsupported, FormMalformed, OriginNotAllowed, RequestTimedOut, FileTooLarge),
    *(UnsupportedMediaType, TypeNotAllowed, DigestMismatch, Locked, TooManyRequests, ChecksumMismatch),
    *(HandlerFailed, LimitsUnavailable),
)


def paths() -> Node:
    """Return the operations by path."""
    shared = use("RequestId", "Tus-Resumable")
    upload = use("RequestId", "upload_id")
    return {
        "/files": {"parameters": shared, "post": _create()},
        "/files/{upload_id}": {
            "get": {**_get(), "parameters": upload},
            "head": {**_head(), "parameters": [*use("upload_id"), *shared]},
            "patch": {**_patch(), "parameters": [*_patch()["parameters"], *use("upload_id"), *shared]},
            "delete": {**_delete(), "parameters": [*use("upload_id"), *shared]},
            "post": {**_override(), "parameters": [*_override()["parameters"], *use("upload_id"), *shared]},
        },
    }


def parameters() -> Node:
    """Describe the parameters of resumable uploads."""
    return {
        "upload_id": parameter(
            "path", "upload_id", text("The last segment of the upload's address.", format="uuid"), ID
        ),
        "Tus-Resumable": parameter("header", "Tus-Resumable", {"type": "string", "const": VERSION}, VERSION)
        | {"required": True},
        "Upload-Length": parameter("header", "Upload-Length", count("The file's length in bytes."), len(FILE)),
        "Upload-Defer-Length": parameter(
            "header",
            "Upload-Defer-Length",
            {"type": "string", "const": "1", "description": "A later PATCH declares it."},
            "1",
        ),
        "Upload-Metadata": parameter(
            "header",
            "Upload-Metadata",
            text("Pairs of a key and base64: `filename`, `filetype`, `sha256` in lowercase hex, and any others."),
            _METADATA,
        ),
        "Upload-Concat": parameter(
            "header", "Upload-Concat", text("`partial`, or `final;` and the addresses of partial uploads."), "partial"
        ),
        "Upload-Offset": parameter("header", "Upload-Offset", count("The bytes before the chunk."), 0)
        | {"required": True},
        "Upload-Checksum": parameter(
            "header", "Upload-Checksum", text("The chunk's sha1, sha256 or crc32, in base64."), _CHECKSUM
        ),
    }


def headers() -> Node:
    """Describe the headers of responses about resumable uploads."""
    return {
        "Tus-Resumable": header({"type": "string", "const": VERSION}, VERSION),
        "Tus-Version": header(text("The supported version."), VERSION),
        "Upload-Offset": header(count("The bytes that the service has."), len(FILE)),
        "Upload-Length": header(count("The file's length in bytes."), len(FILE), required=False),
        "Upload-Defer-Length": header(text("1: the client has not declared the length."), "1", required=False),
        "Upload-Expires": header(text("The time after which the upload is removed."), _EXPIRES),
        "Upload-Metadata": header(text("As the client sent it."), _METADATA, required=False),
        "Upload-Concat": header(text("As the client sent it."), "partial", required=False),
        "Content-Location": header(
            text("The object of a complete upload.", format="uri-reference"), f"/objects/{KEY}", required=False
        ),
    }


_STATE = ("Upload-Offset", "Upload-Expires", "Content-Location")


def _create() -> Node:
    return _operation(
        "createUpload",
        "Create a resumable upload, by the protocol tus 1.0.0",
        {
            "201": response("`Location` is the upload's address.", "Location", *_STATE),
            **problems(*_COMMON_ERRORS, *_BYTES_ERRORS, DigestMalformed, NotFound, Expired, PartialUnfinished),
        },
    ) | {
        "parameters": use(
            "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Checksum"
        ),
        "requestBody": _body("The first bytes, if any.", required=False),
    }


def _patch() -> Node:
    return _operation(
        "patchUpload",
        "Send the next bytes of an upload",
        {
            "204": response("The bytes are kept; the last ones make the object.", *_STATE),
            **problems(*_UPLOAD_ERRORS, *_BYTES_ERRORS, FinalUpload, OffsetConflict),
        },
    ) | {
        "parameters": use("Upload-Offset", "Upload-Length", "Upload-Checksum"),
        "requestBody": _body("The bytes from the offset on.", required=True),
    }


def _body(description: str, *, required: bool) -> Node:
    example = {"text": {"summary": "A text", "value": FILE.decode()}}
    return {"required": required, "description": description, "content": {CONTENT_TYPE: {"examples": example}}}


def _head() -> Node:
    shown = (*_STATE, "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat")
    return _operation(
        "headUpload",
        "The offset from which to continue an upload",
        {"200": response("The state of the upload.", *shown), **without_content(problems(*_UPLOAD_ERRORS))},
    )


def _get() -> Node:
    example = {"receipts": receipts_example()}
    errors = [error for error in _UPLOAD_ERRORS if error is not TusVersionUnsupported]
    return _operation(
        "getUpload",
        "The receipt of a complete upload",
        {
            "200": json_response("The file is in S3.", refer("Receipts"), example),
            **problems(*errors, ObjectMissing),
        },
    )


def _delete() -> Node:
    return _operation(
        "deleteUpload",
        "Remove an upload; the object of a complete one stays",
        {"204": response("The upload is gone."), **problems(*_UPLOAD_ERRORS, OriginNotAllowed, Locked)},
    )


def _override() -> Node:
    schema: Node = {"type": "string", "enum": sorted(METHODS)}
    method = parameter("header", METHOD_OVERRIDE, schema, "HEAD") | {"required": True}
    return _operation(
        "overrideMethod",
        "Act by the method in a header, for clients that send only GET and POST",
        {
            "200": response("As to HEAD.", *_STATE),
            "204": response("As to PATCH or DELETE."),
            **problems(
                *(*_UPLOAD_ERRORS, *_BYTES_ERRORS, MethodNotAllowed, FinalUpload, OffsetConflict),
            ),
        },
    ) | {"parameters": [method]}


def _operation(name: str, summary: str, responses: Node) -> Node:
    """Return an operation, all of whose responses name the version of the protocol."""
    version = {"Tus-Resumable": {"$ref": "#/components/headers/Tus-Resumable"}}
    for one in responses.values():
        one["headers"] |= version
    return {"operationId": name, "tags": ["uploads"], "summary": summary, "responses": responses}
