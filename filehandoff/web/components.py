"""The components of the OpenAPI document: parameters, headers, bodies and responses, each with an example."""

from typing import Any

from filehandoff.causes import CAUSES
from filehandoff.digest import SHA256_PATTERN, Digest, to_content_digest
from filehandoff.errors import (
    PROBLEM_CONTENT_TYPE,
    RETRY_AFTER_SECONDS,
    Forbidden,
    IdentityUnavailable,
    LimitsUnavailable,
    Locked,
    MethodNotAllowed,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageFull,
    StoreUnavailable,
    TooManyRequests,
    TusVersionUnsupported,
    Unauthorized,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.form import DIGEST_FIELD, DIGEST_HEADER
from filehandoff.http import CACHE_CONTROL, CONTENT_SECURITY_POLICY, REQUEST_ID_HEADER
from filehandoff.keys import content_disposition
from filehandoff.strategies import DEFAULT_HOOK
from filehandoff.web.schemas import (
    ETAG,
    FILE,
    KEY,
    REQUEST_ID,
    STORED,
    Node,
    count,
    items,
    receipts_example,
    refer,
    sentence,
    text,
)

#: The headers about the limits of a sender.
RATE_LIMITS = ("RateLimit-Policy", "RateLimit")
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
    Locked: ("Retry-After",),
    TusVersionUnsupported: ("Tus-Version",),
    StoreUnavailable: ("Retry-After",),
    Overloaded: ("Retry-After",),
    StorageFull: ("Retry-After",),
}
#: The request headers that promise the digest of a body without a form.
BODY_DIGESTS = ("Content-Digest", "Repr-Digest")


def use(*parameters: str) -> list[Node]:
    """Refer to these parameters."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in parameters]


def response(description: str, *headers: str) -> Node:
    """Describe a response by its text and its headers, without content."""
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID_HEADER, *headers)},
    }


def json_response(description: str, schema: Node, examples: dict[str, Node], *headers: str) -> Node:
    """Describe a response of JSON, with examples by name."""
    values = {name: {"value": example} for name, example in examples.items()}
    content = {"application/json": {"schema": schema, "examples": values}}
    return response(description, *headers) | {"content": content}


def problems(*errors: type[UploadError]) -> Node:
    """Return a response for each status, with its possible codes."""
    by_status: dict[int, list[type[UploadError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {str(status): problem_response(*by_status[status]) for status in sorted(by_status)}


def problem_response(*errors: type[UploadError]) -> Node:
    """Describe the response of one status, with its possible codes."""
    codes = [error.code for error in errors]
    schema = refer("Problem") | {
        "properties": {"status": {"const": errors[0].status}, "code": {"enum": codes}},
    }
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    headers = [header for error in errors for header in ERROR_HEADERS.get(error, ())]
    return response("\n\n".join(f"`{error.code}`: {sentence(error)}" for error in errors), *headers) | {
        "content": {PROBLEM_CONTENT_TYPE: {"schema": schema, "examples": examples}}
    }


def without_content(responses: Node) -> Node:
    """Return the same responses without content, for HEAD."""
    return {
        status: {member: value for member, value in response.items() if member != "content"}
        for status, response in responses.items()
    }


def token_scheme() -> Node:
    """Describe the tokens that identify senders."""
    return {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of an app that identifies senders (`UPLOAD_AUTH`), with the scope `upload`, `read`, "
        "`delete` or `operate`. Other apps accept requests without one.",
    }


def form_schema() -> Node:
    """Describe the fields of a form."""
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


def form_body() -> Node:
    """Describe the body of a form, with examples."""
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


def file_body() -> Node:
    """Describe the body of one file."""
    return {
        "required": True,
        "description": "The file's bytes, of any media type.",
        "content": {"*/*": {"examples": {"text": {"summary": "A text", "value": FILE.decode()}}}},
    }


def form_or_file_body() -> Node:
    """Describe a body of either kind."""
    form, file = form_body(), file_body()
    return {
        "required": True,
        "description": f"{form['description']} Or the bytes of one file, of any other media type.",
        "content": form["content"] | file["content"],
    }


def all_parameters() -> Node:
    """Describe the parameters that several routes have."""
    digest = to_content_digest(receipts_example()["receipts"][0]["sha256"])
    promise = text(
        "A promise: the SHA-256 of the body (RFC 9530). If the body has another, nothing is stored.",
        pattern=r"^sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:$",
    )
    return {
        **{name: parameter("header", name, promise, digest) for name in BODY_DIGESTS},
        "RequestId": parameter(
            "header",
            REQUEST_ID_HEADER,
            text("Kept if it has the form of a request id, otherwise replaced."),
            REQUEST_ID,
        ),
        "UploadId": upload_id_parameter(),
        "Size": size_parameter(),
        "PartBytes": part_bytes_parameter(),
        "Signature": signature_parameter(),
        "After": parameter("query", "after", count("The part after which the page begins.") | {"default": 0}, 0),
        "Cause": parameter("path", "cause", refer("Cause"), *CAUSES),
        "Hook": parameter("query", "hook", refer("Hook") | {"default": DEFAULT_HOOK}, DEFAULT_HOOK),
        "Key": parameter("path", "key", refer("Key"), KEY)
        | {"description": "The object's key. Its slashes may be plain or encoded as `%2F`."},
        "Range": parameter(
            "header",
            "Range",
            text("One range of bytes; several, backward and malformed ranges are ignored (RFC 9110, section 14.2)."),
            "bytes=0-4",
            "bytes=-4",
            f"bytes={len(FILE)}-",
        ),
        "If-Range": parameter(
            "header",
            "If-Range",
            text("A strong ETag or a date: the range applies only if the object still matches."),
            f'"{ETAG}"',
            STORED,
        ),
        "If-Match": parameter(
            "header",
            "If-Match",
            text(f"ETags or `*`: fails with `{PreconditionFailed.code}` unless the object has one of them."),
            "*",
        ),
        "If-None-Match": parameter(
            "header",
            "If-None-Match",
            text("ETags or `*`: 304 to GET and HEAD if the object has one of them, by weak comparison."),
            f'"{ETAG}"',
            '"another"',
        ),
        "If-Modified-Since": parameter(
            "header",
            "If-Modified-Since",
            text("A date: 304 if the object was not stored after it. Ignored beside `If-None-Match`, or if malformed."),
            STORED,
        ),
        "If-Unmodified-Since": parameter(
            "header",
            "If-Unmodified-Since",
            text("A date: fails if the object was stored after it. Ignored beside `If-Match`, or if malformed."),
            STORED,
        ),
    }


def upload_id_parameter() -> Node:
    """Describe S3's id of an upload."""
    schema = text("S3's id of the upload in parts.", minLength=1)
    return parameter("query", "upload_id", schema, "an-upload") | {"required": True}


def size_parameter() -> Node:
    """Describe the size of an upload."""
    return parameter("query", "size", count("The file's size in bytes."), 20_000_000) | {"required": True}


def part_bytes_parameter() -> Node:
    """Describe the size of a part."""
    schema = count("The size of the first part in bytes, from the response that began the upload.")
    return parameter("query", "part_bytes", schema, 8_388_608) | {"required": True}


def signature_parameter() -> Node:
    """Describe the app's mark of an upload."""
    schema = text("The app's signature of key, upload_id, size and part_bytes; empty if the processes share no secret.")
    return parameter("query", "signature", schema, "a-signature") | {"required": True}


def parameter(place: str, name: str, schema: Node, *examples: str | int) -> Node:
    """Describe a parameter in `place`, required in a path alone."""
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": schema,
        "examples": {str(example): {"value": example} for example in examples},
    }


def all_headers() -> Node:
    """Describe the headers of responses."""
    digest = to_content_digest(receipts_example()["receipts"][0]["sha256"])
    return {
        REQUEST_ID_HEADER: header(refer("RequestId"), REQUEST_ID),
        "Location": header(
            text("The first object; with a presigned upload, the client must still send it.", format="uri-reference"),
            f"/objects/{KEY}",
        ),
        "Retry-After": header(count("Seconds before a retry."), RETRY_AFTER_SECONDS),
        "RateLimit-Policy": header(
            text("The limits that the request has met (draft-ietf-httpapi-ratelimit-headers-10)."),
            '"uploads-60";q=100;w=60, "bytes-86400";q=10737418240;w=86400;qu="content-bytes"',
            required=False,
        ),
        "RateLimit": header(
            text("The rest of each of these limits (`r`), and the seconds until its period ends (`t`)."),
            '"uploads-60";r=99;t=30, "bytes-86400";r=10737418000;t=3600',
            required=False,
        ),
        "WWW-Authenticate": header(text("The credentials that are needed (RFC 6750, section 3)."), "Bearer"),
        "Allow": header(text("The methods of this address."), "POST, OPTIONS"),
        "Accept-Encoding": header(
            {"type": "string", "const": "identity", "description": "Only in the response to a compressed body."},
            "identity",
            required=False,
        ),
        "Content-Length": header(count("Bytes of the body."), len(FILE)),
        "Content-Range": header(
            text(
                "The range and the object's size; in an error only the size.",
                pattern=r"^bytes (?:\d+-\d+|\*)/\d+$",
            ),
            f"bytes 0-4/{len(FILE)}",
        ),
        "ETag": header(text("The object's ETag in S3.", pattern=r'^"[^"]+"$'), f'"{ETAG}"'),
        "Accept-Ranges": header({"type": "string", "const": "bytes"}, "bytes"),
        "Content-Disposition": header(
            text("A download with the original name (RFC 6266), never a page.", pattern="^attachment; "),
            content_disposition("hello.txt", KEY),
        ),
        "Last-Modified": header(text("The time of the upload (RFC 9110, section 5.6.7)."), STORED, required=False),
        "X-Content-Type-Options": header({"type": "string", "const": "nosniff"}, "nosniff"),
        "Content-Security-Policy": header(
            {
                "type": "string",
                "const": CONTENT_SECURITY_POLICY,
                "description": "A browser that shows the file anyway runs and loads nothing in it.",
            },
            CONTENT_SECURITY_POLICY,
        ),
        "Cache-Control": header(
            {
                "type": "string",
                "const": CACHE_CONTROL,
                "description": "The bytes of a key never change, but the object may be deleted: a client must "
                "revalidate its copy each time (RFC 9111, section 5.2.2.4).",
            },
            CACHE_CONTROL,
        ),
        DIGEST_HEADER: header(
            text("The promised digest of this file (RFC 9530), in base64; an alternative to the field."),
            digest,
            required=False,
        ),
    }


def header(schema: Node, example: Any, *, required: bool = True) -> Node:
    """Describe a header of responses."""
    return {"required": required, "schema": schema, "example": example}
