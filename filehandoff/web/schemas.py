"""The JSON of both apps as JSON Schema (2020-12), with examples."""

from dataclasses import asdict, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, get_args

from filehandoff import errors, strategies
from filehandoff.causes import CAUSES, EVENTS, Event, Report, Run, report
from filehandoff.digest import SHA256_PATTERN, Digest
from filehandoff.errors import CLASSES, ERRORS, FileClosed, UploadError
from filehandoff.explain import CloseRecord, Moment
from filehandoff.explain.note import BYTES_OR_WAIT
from filehandoff.http import REQUEST_ID_PATTERN, ObjectInfo
from filehandoff.keys import KEY_PATTERN
from filehandoff.presigned import PresignedMultipart, Promise, Seal, expiry, parts_answer, put_answer, put_headers
from filehandoff.receipt import REQUEST_ID_METADATA, Incoming, Receipt, Stored, UploadContext
from filehandoff.settings import MIB, Settings
from filehandoff.strategies import (
    DEFAULT_HANDOFF,
    DEFAULT_HOOK,
    FRAMEWORKS,
    HANDOFFS,
    HOOKS,
    SIZE_CLASSES,
    TUS,
    Verdict,
)
from filehandoff.web.pages import StoredReceipt

#: A JSON object of the document.
Node: TypeAlias = dict[str, Any]

#: The JSON Schema types of the dataclasses' fields.
TYPES: dict[object, object] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    str | None: ["string", "null"],
    tuple[Event, ...]: "array",
}

FILE = b"hello, S3\n"
KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ETAG = "67be8133b1b00b4911e76db971b7584f"
STORED = "Sat, 31 Jan 2026 12:00:00 GMT"


def text(description: str, **more: object) -> Node:
    """Return the schema of a string."""
    return {"type": "string", "description": description, **more}


def count(description: str) -> Node:
    """Return the schema of a whole number from 0 on."""
    return {"type": "integer", "minimum": 0, "description": description}


def closed(description: str, properties: Node) -> Node:
    """Return the schema of an object with exactly these members."""
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def items(schema: Node, **more: object) -> Node:
    """Return the schema of a list."""
    return {"type": "array", "items": schema, **more}


def named(description: str, names: dict[str, str]) -> Node:
    """Return the schema of one of these names, each described by its sentence."""
    lines = "\n".join(f"- `{name}`: {sentence}" for name, sentence in names.items())
    return {"type": "string", "enum": list(names), "description": f"{description}\n\n{lines}"}


def refer(name: str) -> Node:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def sentence(documented: type) -> str:
    """Return a class's docstring as one paragraph."""
    return " ".join((documented.__doc__ or "").split())


def problem_example(error: type[UploadError]) -> Node:
    """Return an example response with this error, whose detail is the class's docstring."""
    detail = errors.file_closed("file", "copied").detail if error is FileClosed else sentence(error)
    return errors.problem(error.status, error.code, error.title, detail, REQUEST_ID)


def receipts_example() -> Node:
    """Return the response to the upload of `FILE`."""
    digest = Digest()
    digest.update([FILE])
    stored = Stored(Incoming(KEY, "hello.txt", "text/plain"), digest.size, digest.sha256, ETAG, parts=1)
    context = UploadContext(FRAMEWORKS[0], DEFAULT_HANDOFF, DEFAULT_HOOK, REQUEST_ID)
    return {"receipts": [context.receipt(stored, 0.0123, "https://uploads.example.org").as_json()]}


def stored_receipts_example() -> Node:
    """Return the response of `/receipts` for the key of `FILE`."""
    metadata = Incoming(KEY, "hello.txt", "text/plain").metadata() | {REQUEST_ID_METADATA: REQUEST_ID}
    modified = parsedate_to_datetime(STORED)
    info = ObjectInfo(len(FILE), "text/plain", f'"{ETAG}"', "", modified=modified, metadata=metadata)
    return {"receipts": [StoredReceipt.of(KEY, info, f"https://uploads.example.org/objects/{KEY}").as_json()]}


def presigned_examples() -> tuple[Node, dict[str, Node]]:
    """Return a request for URLs, and two responses: one part, and several."""
    sha256 = receipts_example()["receipts"][0]["sha256"]
    wanted = {"filename": "hello.txt", "content_type": "text/plain", "size": len(FILE), "sha256": sha256}
    incoming = Incoming(KEY, "hello.txt", "text/plain", sha256)
    seal, until = Seal("an example's secret"), expiry(datetime(2026, 1, 31, 12, tzinfo=UTC), 900)
    metadata = Promise(len(FILE), 1, sha256, DEFAULT_HOOK, REQUEST_ID, "text/plain").metadata(seal, incoming)
    headers = put_headers(incoming, metadata | {REQUEST_ID_METADATA: REQUEST_ID}, {})
    url = f"https://uploads.s3.eu-central-1.amazonaws.com/{KEY}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    upload = PresignedMultipart(KEY, "an-upload", 20_000_000, 8 * MIB)
    page = upload.page(after=0)
    urls = [f"{url}&partNumber={number}" for number, _ in page]
    return wanted, {
        "put": put_answer(incoming, len(FILE), url, headers) | until,
        "parts": parts_answer(seal, upload, page, urls, {}) | until,
    }


def report_examples() -> dict[str, Node]:
    """Two answers of `/causes`: the file was closed too early, or not."""
    close = CloseRecord(
        closed_by="the end of the request: its context was popped (flask.app:wsgi_app), which closes every file of the "
        "request; this reader came too late",
        use_instead=BYTES_OR_WAIT,
        page="after-response",
        where="thread 's3-call'",
        when="1.5 ms after the view began",
        error="ValueError: I/O operation on closed file.",
        moments=(
            Moment("request arrived", 0.0),
            Moment("view began", 0.0007),
            Moment("file closed", 0.0022, "flask/ctx.py:438 in RequestContext.pop"),
            Moment("read failed", 0.003, "s3transfer/upload.py:170 in seekable"),
        ),
    )
    closed, still_open = Run(), Run()
    closed.close = close
    return {
        "closed": asdict(report("after_response", "flask", REQUEST_ID, closed)),
        "open": asdict(report("transfer_closes", "quart", REQUEST_ID, still_open)),
    }


def strategies_example() -> Node:
    """Return the response of `/strategies` with default settings."""
    return strategies.describe(FRAMEWORKS[0], Settings())


def schemas() -> Node:
    """Return all schemas of the document by their names."""
    return {
        "Framework": text("The app's web framework.", examples=list(FRAMEWORKS)),
        "Handoff": named("A way of handing the bytes over.", {one.name: one.sentence for one in HANDOFFS.values()}),
        "Hook": named(
            "A way for a boto event hook to read the request's values.",
            {one.name: one.sentence for one in HOOKS.values()},
        ),
        "Cause": named(
            "A cause of a file closed too early.", {name: cause.explanation for name, cause in CAUSES.items()}
        ),
        "Key": text(
            "An object's key, as a receipt names it: the configured prefix, the day, a version 7 UUID, a safe name. "
            "The routes find no key of another form.",
            pattern=rf"^[A-Za-z0-9._/-]*{KEY_PATTERN}$",
        ),
        "RequestId": text("The request's id, which is on all its lines in the log.", pattern=f"^{REQUEST_ID_PATTERN}$"),
        "Sha256": text("A SHA-256 in lowercase hex.", pattern=f"^{SHA256_PATTERN}$"),
        "Problem": _problem(),
        "Receipt": _receipt(),
        "Report": _report(),
        "Event": _of_dataclass(Event, {"name": {"enum": list(EVENTS)}, "elapsed_ms": {"minimum": 0}}),
        "Receipts": closed(
            "One receipt for each file of the form, in its order.", {"receipts": items(refer("Receipt"), minItems=1)}
        ),
        "StoredReceipt": _of_dataclass(
            StoredReceipt,
            {
                "key": refer("Key"),
                "url": {"format": "uri"},
                "size": {"minimum": 0},
                "stored_at": {"format": "date-time"},
            },
        ),
        "StoredReceipts": closed(
            "One receipt for each object, read from S3.", {"receipts": items(refer("StoredReceipt"), minItems=1)}
        ),
        "Strategies": _strategies(),
        "Wanted": _wanted(),
        "Presigned": {
            "description": "The requests by which the client sends the file to S3: one, or one for each part.",
            "oneOf": [refer("PresignedPut"), refer("PresignedParts")],
        },
        **_presigned(),
    }


def _problem() -> Node:
    return closed(
        "A problem details object (RFC 9457), with a stable `code` and the request's id.",
        {
            "type": text("A URN that ends in the code.", format="uri"),
            "title": {"type": "string", "enum": list(dict.fromkeys(error.title for error in CLASSES))},
            "status": {"type": "integer", "enum": sorted({error.status for error in ERRORS.values()})},
            "detail": text("One or more sentences about this request, for the person who sent it."),
            "code": named(
                "The kind of error, for programs.", {error.code: sentence(error) for error in ERRORS.values()}
            ),
            "request_id": refer("RequestId"),
        },
    )


def _receipt() -> Node:
    return _of_dataclass(
        Receipt,
        {
            "key": refer("Key"),
            "url": {"format": "uri"},
            "size": {"minimum": 0},
            "sha256": refer("Sha256"),
            "parts": {"minimum": 1},
            "framework": refer("Framework"),
            "handoff": {"anyOf": [refer("Handoff"), {"const": TUS, "description": "A resumable upload."}]},
            "hook": refer("Hook"),
            "request_id": refer("RequestId"),
            "elapsed_ms": {"minimum": 0},
        },
    )


def _report() -> Node:
    return _of_dataclass(
        Report,
        {
            "cause": refer("Cause"),
            "framework": refer("Framework"),
            "request_id": refer("RequestId"),
            "events": {"items": refer("Event"), "description": "The moments of the run, in order."},
        },
    )


def _wanted() -> Node:
    return {
        "type": "object",
        "description": "The file to send; other members are ignored.",
        "required": ["filename", "size"],
        "properties": {
            "filename": text("The file's name."),
            "content_type": text(
                "The file's media type; the default is application/octet-stream.", pattern=r"^(?:[a-z]+/[a-z0-9.+-]+)?$"
            ),
            "size": count("The file's size in bytes. A file larger than a part is sent in parts."),
            "sha256": refer("Sha256") | {"description": "Optional: without it the client promises only the size."},
        },
    }


def _presigned() -> Node:
    common = {
        "key": refer("Key"),
        "size": count("The file's size in bytes."),
        "method": {"type": "string", "const": "PUT"},
        "complete": text("The address to POST to after sending all bytes.", format="uri-reference"),
        "expires_at": text(
            "The end of the URLs' life, at the latest that of the app's credentials.", format="date-time"
        ),
        "expires_in": count("Seconds until `expires_at`."),
    }
    url = text("The address to PUT to. It is a secret: it lets its holder write.", format="uri")
    headers = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "The headers of the PUT, exactly.",
    }
    etag = {"type": ["string", "null"], "description": "S3's ETag, if it has a part of this size; otherwise null."}
    part = closed(
        "A part: the bytes after those of the previous part.",
        {
            "number": {"type": "integer", "minimum": 1},
            "size": count("The part's size in bytes."),
            "url": url,
            "etag": etag,
        },
    )
    parts = {
        "upload_id": text("S3's id of the upload."),
        "parts": items(part),
        "parts_total": count("The number of parts of the file."),
        "next": {
            "type": ["string", "null"],
            "format": "uri-reference",
            "description": "The address of the next page; null on the last.",
        },
        "abort": text("The address to DELETE if the client gives the upload up.", format="uri-reference"),
    }
    return {
        "PresignedPut": closed("The request for a file of one part.", common | {"url": url, "headers": headers}),
        "PresignedParts": closed("One page of the requests for a file of several parts.", common | parts),
    }


def _of_dataclass(sent: type[Event | Receipt | Report | StoredReceipt], more: Node) -> Node:
    """Return a dataclass's schema: its fields with their types, and further keywords for some."""
    members = {field.name: {"type": TYPES[field.type], **more.get(field.name, {})} for field in fields(sent)}
    return closed(sentence(sent), members)


def _strategies() -> Node:
    example = strategies_example()
    verdict = {"type": "string", "enum": list(get_args(Verdict))}
    limits = {name: {"type": "integer", "minimum": 1} for name in example["limits"]}
    pair = {"handoff": refer("Handoff"), "hook": refer("Hook")}
    return closed(
        "The outcome for a file in this app, by hand-off, hook and size.",
        {
            "framework": refer("Framework"),
            "limits": closed("The limits of one form, in bytes and counts, and the parts sent to S3.", limits),
            "file_fields": items(text("A form field whose files are stored, also with `[]` or an index after it.")),
            "allowed_types": items(text("A type of stored files, or a wildcard such as `image/*`; all types if none.")),
            "peak_memory": closed(
                "A process's peak memory above idle if all uploads use `stream`.",
                {
                    "formula": text("The formula of `bytes`."),
                    "uploads": count("The number of concurrent uploads."),
                    "largest_part_bytes": count("The size of the largest part of the largest file."),
                    "bytes": count("The peak memory of these uploads."),
                },
            ),
            "presigned": closed(
                "The parts of a file that the client sends to S3 itself; a file of at most the first part is one put.",
                {
                    "part_bytes": count(
                        "The size of a part; in a file of over 10,000 such parts, that of the first ones."
                    ),
                    "page_parts": count("The largest number of parts in one response."),
                    "expires_in": count("The life of a URL in seconds."),
                },
            ),
            "default": closed("The pair for an upload that chooses none.", pair),
            "size_classes": items(
                closed(
                    "A size at which hand-offs behave differently.",
                    {
                        "name": {"type": "string", "enum": list(SIZE_CLASSES)},
                        "bytes": count("The size that represents the class."),
                        "sentence": text("The handling of such a file."),
                    },
                )
            ),
            "strategies": items(
                closed(
                    "One pair of hand-off and hook.",
                    {
                        **pair,
                        "verdicts": closed(
                            "The outcome for a file, by size class.", dict.fromkeys(SIZE_CLASSES, verdict)
                        ),
                        "memory": text("The memory for one upload."),
                        "disk": text("The disk space for one upload."),
                        "sentence": text("A sentence about the pair."),
                    },
                )
            ),
        },
    )
