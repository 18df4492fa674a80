"""The JSON that both apps send, as JSON Schema (2020-12), and one example of each, made by the code that sends it."""

from dataclasses import asdict, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, get_args

from filehandoff import errors, strategies
from filehandoff.causes import CAUSES, Report, report
from filehandoff.digest import SHA256_PATTERN, Digest
from filehandoff.errors import FileClosed, FormError, UploadError
from filehandoff.explain import CloseRecord
from filehandoff.explain.note import USE_BYTES_OR_WAIT
from filehandoff.http import REQUEST_ID_PATTERN, ObjectInfo
from filehandoff.keys import KEY_PATTERN
from filehandoff.presigned import Promise, Seal, Upload, expiry, parts_answer, put_answer, put_headers
from filehandoff.receipt import REQUEST_ID_METADATA, Incoming, Receipt, Stored, UploadContext
from filehandoff.settings import MIB, Settings
from filehandoff.strategies import DEFAULT_HANDOFF, DEFAULT_HOOK, FRAMEWORKS, HANDOFFS, HOOKS, SIZE_CLASSES, Verdict
from filehandoff.web.pages import StoredReceipt

#: A JSON object of the document.
type Node = dict[str, Any]

#: The types of the dataclasses that are sent as JSON, as JSON Schema has them.
TYPES: dict[object, object] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    str | None: ["string", "null"],
}

#: Every class of error that is raised. The two left out are branches.
_CLASSES: list[type[UploadError]] = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, UploadError) and error not in {UploadError, FormError}
]
#: The error of each code: the first class of it, of which others may be special cases.
ERRORS = {error.code: next(one for one in _CLASSES if one.code == error.code) for error in _CLASSES}

FILE = b"hello, S3\n"
KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ETAG = "67be8133b1b00b4911e76db971b7584f"
STORED = "Sat, 31 Jan 2026 12:00:00 GMT"


def text(description: str, **more: object) -> Node:
    """A string."""
    return {"type": "string", "description": description, **more}


def count(description: str) -> Node:
    """A whole number, not negative."""
    return {"type": "integer", "minimum": 0, "description": description}


def closed(description: str, properties: Node) -> Node:
    """An object with all of these members and no others."""
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def items(schema: Node, **more: object) -> Node:
    """A list."""
    return {"type": "array", "items": schema, **more}


def named(description: str, names: dict[str, str]) -> Node:
    """One of these names, each with its sentence."""
    lines = "\n".join(f"- `{name}`: {sentence}" for name, sentence in names.items())
    return {"type": "string", "enum": list(names), "description": f"{description}\n\n{lines}"}


def refer(name: str) -> Node:
    """A schema of the document by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def sentence(documented: type) -> str:
    """A class's docstring as one paragraph."""
    return " ".join((documented.__doc__ or "").split())


def problem_example(error: type[UploadError]) -> Node:
    """One answer with this error; its detail stands for one that knows the request."""
    detail = errors.file_closed("file", "copied").detail if error is FileClosed else sentence(error)
    return errors.problem(error.status, error.code, error.title, detail, REQUEST_ID)


def receipts_example() -> Node:
    """The answer to the upload of `FILE`."""
    digest = Digest()
    digest.update([FILE])
    stored = Stored(Incoming(KEY, "hello.txt", "text/plain"), digest.size, digest.sha256, ETAG, parts=1)
    way = UploadContext(FRAMEWORKS[0], DEFAULT_HANDOFF, DEFAULT_HOOK, REQUEST_ID)
    return {"receipts": [way.receipt(stored, 0.0123, "https://uploads.example.org").as_json()]}


def stored_receipts_example() -> Node:
    """The answer of `/receipts` to the key of `FILE`."""
    metadata = Incoming(KEY, "hello.txt", "text/plain").metadata() | {REQUEST_ID_METADATA: REQUEST_ID}
    modified = parsedate_to_datetime(STORED)
    info = ObjectInfo(len(FILE), "text/plain", f'"{ETAG}"', "", modified=modified, metadata=metadata)
    return {"receipts": [StoredReceipt.of(KEY, info, f"https://uploads.example.org/objects/{KEY}").as_json()]}


def presigned_examples() -> tuple[Node, dict[str, Node]]:
    """A request for URLs, and what is answered to a file of one part and to one of three."""
    sha256 = receipts_example()["receipts"][0]["sha256"]
    wanted = {"filename": "hello.txt", "content_type": "text/plain", "size": len(FILE), "sha256": sha256}
    incoming = Incoming(KEY, "hello.txt", "text/plain", sha256)
    seal, until = Seal("an example's secret"), expiry(datetime(2026, 1, 31, 12, tzinfo=UTC), 900)
    metadata = Promise(len(FILE), 1, sha256, DEFAULT_HOOK, REQUEST_ID, "text/plain").metadata(seal, incoming)
    headers = put_headers(incoming, metadata | {REQUEST_ID_METADATA: REQUEST_ID})
    url = f"https://uploads.s3.eu-central-1.amazonaws.com/{KEY}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    upload = Upload(KEY, "an-upload", 20_000_000, 8 * MIB)
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
        "request, before this use of the file",
        use_instead=USE_BYTES_OR_WAIT,
        section="c-the-response-is-sent-first",
        where="thread 's3-call'",
        when="1.5 ms after the view began",
        error="ValueError: I/O operation on closed file.",
    )
    return {
        "closed": asdict(report("after_response", "flask", REQUEST_ID, close)),
        "open": asdict(report("transfer_closes", "quart", REQUEST_ID, None)),
    }


def strategies_example() -> Node:
    """The answer of `/strategies` with default settings."""
    return strategies.describe(FRAMEWORKS[0], Settings())


def schemas() -> Node:
    """Every schema of the document, by its name."""
    return {
        "Framework": text("What the app is made with.", examples=list(FRAMEWORKS)),
        "Handoff": named("A way of handing the bytes over.", {one.name: one.sentence for one in HANDOFFS.values()}),
        "Hook": named(
            "A way for a boto event hook to get at the request's values.",
            {one.name: one.sentence for one in HOOKS.values()},
        ),
        "Cause": named(
            "A cause of a file closed too early.", {name: cause.explanation for name, cause in CAUSES.items()}
        ),
        "Key": text(
            "An object's key, as a receipt names it: the configured prefix, the day, a UUID of version 7, a safe name. "
            "No key of another form is ever found.",
            pattern=rf"^[A-Za-z0-9._/-]*{KEY_PATTERN}$",
        ),
        "RequestId": text("The request's id, by which the log knows it.", pattern=f"^{REQUEST_ID_PATTERN}$"),
        "Sha256": text("A SHA-256 in lowercase hex.", pattern=f"^{SHA256_PATTERN}$"),
        "Problem": _problem(),
        "Receipt": _receipt(),
        "Report": _report(),
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
            "What S3 knows of each object.", {"receipts": items(refer("StoredReceipt"), minItems=1)}
        ),
        "Strategies": _strategies(),
        "Wanted": _wanted(),
        "Presigned": {
            "description": "How a file is to be sent to S3: whole, or in parts.",
            "oneOf": [refer("PresignedPut"), refer("PresignedParts")],
        },
        **_presigned(),
    }


def _problem() -> Node:
    return closed(
        "A problem details object (RFC 9457), with a stable `code` and the request's id.",
        {
            "type": text("A URN that ends in the code.", format="uri"),
            "title": {"type": "string", "enum": list(dict.fromkeys(error.title for error in _CLASSES))},
            "status": {"type": "integer", "enum": sorted({error.status for error in ERRORS.values()})},
            "detail": text("One sentence or more on this very request, for the person who sent it."),
            "code": named("What went wrong, for programs.", {error.code: sentence(error) for error in ERRORS.values()}),
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
            "handoff": refer("Handoff"),
            "hook": refer("Hook"),
            "request_id": refer("RequestId"),
            "elapsed_ms": {"minimum": 0},
        },
    )


def _report() -> Node:
    return _of_dataclass(
        Report,
        {"cause": refer("Cause"), "framework": refer("Framework"), "request_id": refer("RequestId")},
    )


def _wanted() -> Node:
    return {
        "type": "object",
        "description": "The file that is to be sent; other members are passed over.",
        "required": ["filename", "size"],
        "properties": {
            "filename": text("What the file is called."),
            "content_type": text(
                "Its media type; application/octet-stream if there is none.", pattern=r"^(?:[a-z]+/[a-z0-9.+-]+)?$"
            ),
            "size": count("Bytes. More than a part, and it is sent in parts."),
            "sha256": refer("Sha256")
            | {"description": "May be left out where the client cannot make one; then the size alone is promised."},
        },
    }


def _presigned() -> Node:
    common = {
        "key": refer("Key"),
        "size": count("Bytes of the file."),
        "method": {"type": "string", "const": "PUT"},
        "complete": text("What to POST to when all is sent.", format="uri-reference"),
        "expires_at": text("Until when the URLs are good, and no longer than our own credentials.", format="date-time"),
        "expires_in": count("Seconds until then."),
    }
    url = text("Where to send it; a secret, for whoever has it may send.", format="uri")
    headers = {"type": "object", "additionalProperties": {"type": "string"}, "description": "To be sent exactly so."}
    etag = {"type": ["string", "null"], "description": "S3's, once it has a part of this size; null before."}
    part = closed(
        "A part: the bytes that follow those of the parts before it.",
        {"number": {"type": "integer", "minimum": 1}, "size": count("Its bytes."), "url": url, "etag": etag},
    )
    parts = {
        "upload_id": text("S3's name of the upload."),
        "parts": items(part),
        "parts_total": count("How many parts there are in all."),
        "next": {"type": ["string", "null"], "format": "uri-reference", "description": "Where the next page is."},
        "abort": text("To be DELETEd where the file will not be sent.", format="uri-reference"),
    }
    return {
        "PresignedPut": closed("A file that one PUT sends.", common | {"url": url, "headers": headers}),
        "PresignedParts": closed("One page of the parts of a file that is sent in parts.", common | parts),
    }


def _of_dataclass(sent: type[Receipt | Report | StoredReceipt], more: Node) -> Node:
    """What a dataclass is as JSON: its fields with their types, and what else is known of some."""
    members = {field.name: {"type": TYPES[field.type], **more.get(field.name, {})} for field in fields(sent)}
    return closed(sentence(sent), members)


def _strategies() -> Node:
    example = strategies_example()
    verdict = {"type": "string", "enum": list(get_args(Verdict.__value__))}
    limits = {name: {"type": "integer", "minimum": 1} for name in example["limits"]}
    pair = {"handoff": refer("Handoff"), "hook": refer("Hook")}
    return closed(
        "What this app does with a file, by hand-off, hook and size.",
        {
            "framework": refer("Framework"),
            "limits": closed("What one form may hold, in bytes and counts, and how it is sent on.", limits),
            "file_fields": items(text("A form field whose files are stored, also with `[]` or an index behind it.")),
            "peak_memory": closed(
                "By how many bytes a process's memory grows at most above its idle self, all uploads streamed.",
                {
                    "formula": text("How `bytes` comes about."),
                    "uploads": count("How many uploads there are at once."),
                    "largest_part_bytes": count("The largest part that the largest file has."),
                    "bytes": count("The most that so many uploads take."),
                },
            ),
            "presigned": closed(
                "How a client that sends to S3 itself must cut a file; the first part is the largest put as well.",
                {
                    "part_bytes": count("The size of a part; of a file over 10,000 of them, that of the first ones."),
                    "page_parts": count("How many parts' URLs one answer has at most."),
                    "expires_in": count("For how many seconds a URL is good."),
                },
            ),
            "default": closed("What an upload gets that names neither.", pair),
            "size_classes": items(
                closed(
                    "A size at which hand-offs behave differently.",
                    {
                        "name": {"type": "string", "enum": list(SIZE_CLASSES)},
                        "bytes": count("The size that stands for it."),
                        "sentence": text("What happens to such a file."),
                    },
                )
            ),
            "strategies": items(
                closed(
                    "One pair.",
                    {
                        **pair,
                        "verdicts": closed(
                            "What becomes of a file, by size class.", dict.fromkeys(SIZE_CLASSES, verdict)
                        ),
                        "memory": text("The memory that one upload takes."),
                        "disk": text("The disk that one upload takes."),
                        "sentence": text("What to know of it."),
                    },
                )
            ),
        },
    )
