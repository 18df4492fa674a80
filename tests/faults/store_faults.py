"""Every way in which the store breaks, on every call of an upload, by every hand-off: the cases, and how one is run.

The table in docs/faults.md has a row for each `Row`, made of all its cases; the suite runs a part of them.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx
from botocore.exceptions import ClientError
from contract.api import PROBLEM_MEMBERS, Api, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.script import Answer, CutAnswer, Fault, LostAnswer, Refuse, Reset, Stall, When

from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")

#: A file that is stored by a single put, and one of three parts, in bytes.
SIZES = {"put": 1000, "parts": 10 * MIB + 1}
#: What an upload of each asks of S3, in this order; of the parts, the second is the one in the middle.
CALLS = {
    "put": ("put_object", "head_object"),
    "parts": ("create_multipart_upload", "upload_part", "complete_multipart_upload", "head_object"),
}
#: What is called to undo an upload, by what breaks for good before: there it was done, and its answer is lost.
UNDOING = {
    "put": (("put_object", "delete_object"),),
    "parts": (
        ("create_multipart_upload", "list_multipart_uploads"),
        ("create_multipart_upload", "abort_multipart_upload"),
        ("upload_part", "abort_multipart_upload"),
        ("complete_multipart_upload", "abort_multipart_upload"),
        ("complete_multipart_upload", "delete_object"),
    ),
}
#: What the app itself asks of S3 for `presigned`: the first to give out URLs, where there are parts, the others to
#: complete it.
PRESIGNED_CALLS = {
    "put": ("get_object",),
    "parts": ("create_multipart_upload", "head_object", "list_parts", "complete_multipart_upload", "get_object"),
}
#: Where in its call a fault with a place in the body strikes, in bytes.
MIDDLE = {"put_object": 500, "upload_part": MIB}

FAULTS: dict[str, Fault] = {
    "connection refused": Refuse(0.2),
    "connection reset": Reset(),
    "stall": Stall(),
    "500 InternalError": Answer(500, "InternalError"),
    "503 SlowDown": Answer(503, "SlowDown"),
    "403 AccessDenied": Answer(403, "AccessDenied"),
    "200 with an error in it": Answer(200, "InternalError", When.AFTER_BODY),
    "500, though it was done": Answer(500, "InternalError", When.DONE),
    "answer lost, though it was done": LostAnswer(),
    "200, and nothing in it": Answer(200, "", When.DONE),
    "answer cut short": CutAnswer(500, reset=True),
}
#: A fault that only one call has.
ONLY_ON = {"200 with an error in it": "complete_multipart_upload", "answer cut short": "get_object"}
#: A fault that is not tried again, so that once is always.
NEVER_TRIED_AGAIN = "200, and nothing in it"
#: Faults that nobody but the undoing would see: a store that is gone for all is gone for that as well.
UNDOING_FAULTS = (
    *("connection reset", "stall", "500 InternalError", "403 AccessDenied"),
    *("500, though it was done", "answer lost, though it was done"),
)
#: How long the store refuses connections where it does so for good, in seconds: longer than any call is tried.
FOR_GOOD = 2.0
#: How long an app has to undo what it could not undo at once.
UNDO_SECONDS = 60.0

#: The parts of the larger file, whose last one is a single byte.
PARTS = (1, 2, 3)
LAST_PART = 3
PRESIGNED = ("presigned",)
#: Calls that a fault does nothing to: their answers have nothing in them.
NO_ANSWER = {"200, and nothing in it": ("list_parts",)}

type Times = Literal["once", "always"]


@dataclass(frozen=True)
class Row:
    """One fault on one call: once, or each time it is tried.

    Attributes:
        part: which of the parts, if the call sends one.
        undoes: the call that broke before, for good, if this one undoes an upload.
        handoffs: those that the row is run by.
    """

    fault: str
    size: str
    call: str
    times: Times
    part: int | None = None
    undoes: str = ""
    handoffs: tuple[str, ...] = tuple(FORM_HANDOFFS)

    @property
    def where(self) -> str:
        """The call, as the table names it."""
        part = {1: ", first part", 2: ", second part", 3: ", last part"}.get(self.part or 0, "")
        undoes = f", undoing `{self.undoes}`" if self.undoes else ""
        presigned = " of `presigned`" if self.handoffs == PRESIGNED else ""
        return f"`{self.call}`{part}{undoes}{presigned}"

    def what(self) -> Fault:
        """The fault itself."""
        fault = FAULTS[self.fault]
        if isinstance(fault, Reset | Stall):
            return replace(fault, after=0 if self.part == LAST_PART else MIDDLE.get(self.call, 0))
        if isinstance(fault, Refuse) and self.times == "always":
            return Refuse(FOR_GOOD)
        return fault


def rows() -> Iterator[Row]:
    """All there are, in the order of the table."""
    for fault in FAULTS:
        yield from upload_rows(fault)
        if fault in UNDOING_FAULTS:
            yield from undoing_rows(fault)
        for size, calls in PRESIGNED_CALLS.items():
            for call in calls:
                yield from both_times(Row(fault, size, call, "always", handoffs=PRESIGNED))


def upload_rows(fault: str) -> Iterator[Row]:
    """The rows of what an upload calls, if nothing is undone."""
    for size, calls in CALLS.items():
        for call in calls:
            for number in PARTS if call == "upload_part" else (None,):
                yield from both_times(Row(fault, size, call, "always", number))


def undoing_rows(fault: str) -> Iterator[Row]:
    """The rows of two faults in one upload."""
    for size, calls in UNDOING.items():
        for undoes, call in calls:
            row = Row(fault, size, call, "always", undoes=undoes)
            yield from both_times(row) if fault == "403 AccessDenied" else [row]


def both_times(row: Row) -> Iterator[Row]:
    """A row, and before it the same with one fault alone, where the call can have it and that is something else."""
    if ONLY_ON.get(row.fault, row.call) == row.call and row.call not in NO_ANSWER.get(row.fault, ()):
        if row.fault != NEVER_TRIED_AGAIN:
            yield replace(row, times="once")
        yield row


@dataclass(frozen=True)
class Case:
    """One upload: a row's fault, by one hand-off of one app."""

    row: Row
    framework: str
    handoff: str

    def __str__(self) -> str:
        return f"{self.row.fault}-{self.row.call}-{self.row.times}-{self.framework}-{self.handoff}"


def cases(row: Row) -> list[Case]:
    """A row's cases."""
    return [Case(row, framework, handoff) for framework in FRAMEWORKS for handoff in row.handoffs]


@dataclass(frozen=True)
class Outcome:
    """What became of an upload: its answer, whether S3 has what a 201 says, and what else S3 has of it."""

    status: int
    code: str
    struck: bool
    right: bool
    left: tuple[str, ...]

    @property
    def survived(self) -> bool:
        """201, and the object is right."""
        return self.status == 201 and self.right

    @property
    def reported(self) -> bool:
        """An error of ours, and what it says holds."""
        return self.status in {502, 503} and bool(self.code) and self.right

    @property
    def lost(self) -> bool:
        """201, and the object is not there, or another: or no answer at all that means anything."""
        return not self.survived and not self.reported


def run(behind: Behind, bucket: Bucket, case: Case) -> Outcome:
    """Upload a file with a name of its own while the fault strikes; what S3 then has of it is looked at and removed."""
    name, row = f"{os.urandom(8).hex()}.bin", case.row
    data = os.urandom(SIZES[row.size])
    with closing(Api(behind.started.apps[case.framework].url)) as app:
        send = send_by_urls if case.handoff == "presigned" else send_form
        answer, last = send(behind, app, case, data, name)
    code = code_of(answer)
    receipts = last.json()["receipts"] if last.status_code == 201 else []
    if last.status_code == 201:
        right = [is_right(bucket, receipt, data) for receipt in receipts] == [True]
    else:
        right = last is answer or (code == "store-rejected" and last.status_code == 404)
    left = left_behind(bucket, name, {receipt["key"] for receipt in receipts})
    return Outcome(answer.status_code, code, has_struck(behind, row, name), right, left)


def code_of(answer: httpx.Response) -> str:
    """The code of a problem of ours; empty for any other answer."""
    told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    return str(told["code"]) if set(told) == PROBLEM_MEMBERS else ""


def script(behind: Behind, row: Row, name: str) -> None:
    """Have a row's faults befall a file of this name from now on."""
    on = behind.proxy.on
    if row.undoes:
        on(row.undoes, LostAnswer(), every=True, part_number=2 if row.undoes == "upload_part" else None, key_end=name)
    on(row.call, row.what(), every=row.times == "always", part_number=row.part, key_end=name)


def has_struck(behind: Behind, row: Row, name: str) -> bool:
    """Whether a row's fault has befallen a file."""
    calls, fault = list(behind.proxy.calls), row.what()
    return any(
        call.operation == row.call and call.fault == fault and call.part_number == row.part and call.path.endswith(name)
        for call in calls
    )


def send_form(behind: Behind, app: Api, case: Case, data: bytes, name: str) -> tuple[httpx.Response, httpx.Response]:
    """The answer to an upload by a form, twice: there is no more to it; S3 is well again after it."""
    script(behind, case.row, name)
    answer = app.upload(form(part("file", data, name)), f"/uploads/{case.handoff}")
    behind.proxy.forget(name)
    return answer, answer


def send_by_urls(behind: Behind, app: Api, case: Case, data: bytes, name: str) -> tuple[httpx.Response, httpx.Response]:
    """The answer to an upload by presigned URLs; and to a second `complete`, S3 being well again, if that failed."""
    begins = case.row.call == "create_multipart_upload"
    if begins:
        script(behind, case.row, name)
    wanted = {"filename": name, "content_type": "x/y", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    answer = app.send("POST", "/uploads/presigned", json=wanted)
    behind.proxy.forget(name)
    if answer.status_code != 201:
        return answer, answer
    given = answer.json()
    app.send_to_s3(given, data)
    if not begins:
        script(behind, case.row, name)
    answer = app.send("POST", given["complete"])
    behind.proxy.forget(name)
    if isinstance(case.row.what(), Refuse):
        behind.proxy.clear()
    return answer, answer if answer.status_code == 201 else app.send("POST", given["complete"])


def is_right(bucket: Bucket, receipt: dict[str, Any], data: bytes) -> bool:
    """Whether S3 has what a receipt says, and that is what was sent."""
    try:
        bucket.check_receipt(receipt, data)
    except (AssertionError, ClientError):
        return False
    return True


def left_behind(bucket: Bucket, name: str, named: set[str]) -> tuple[str, ...]:
    """What S3 has of a file beside the named objects, after the app had its time to undo it; all of it is removed."""

    def look() -> tuple[list[str], list[tuple[str, str]]]:
        objects = [key for key in bucket.stored_keys() if key.endswith(name) and key not in named]
        return objects, [upload for upload in bucket.unfinished() if upload[0].endswith(name)]

    deadline = time.monotonic() + UNDO_SECONDS
    while any(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    objects, uploads = seen
    for key in {*objects, *named}:
        bucket.delete(key)
    for key, upload_id in uploads:
        bucket.abort(key, upload_id)
    return tuple(objects + [f"unfinished {key}" for key, _ in uploads])
