"""All cases of a broken store: each fault on each call by each hand-off.

Each `Row` is a row of the table in docs/faults.md, summed over its cases; the suite runs some of them.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import httpx
from botocore.exceptions import ClientError
from contract.api import PROBLEM_MEMBERS, Api, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.script import Answer, CutAnswer, Fault, LostAnswer, Refuse, Reset, Stall, When

from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")

#: Bytes of a file stored by a single put, and of one with three parts.
SIZES = {"put": 1000, "parts": 10 * MIB + 1}
#: An upload's calls to S3, in order; for parts, the second one is the middle one.
CALLS = {
    "put": ("put_object",),
    "parts": ("create_multipart_upload", "upload_part", "complete_multipart_upload", "head_object"),
}
#: The calls that clean up after an upload, by the call whose answer was lost for good.
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
#: The app's own calls for `presigned`: the first returns URLs of parts, the others complete the upload.
PRESIGNED_CALLS = {
    "put": ("get_object",),
    "parts": ("create_multipart_upload", "head_object", "list_parts", "complete_multipart_upload", "get_object"),
}
#: Byte of the body at which a fault strikes, by call.
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
#: Faults of a single call.
ONLY_ON = {"200 with an error in it": "complete_multipart_upload", "answer cut short": "get_object"}
#: A fault without a second attempt, so that once is always, except for the call that is sent without botocore first.
NEVER_TRIED_AGAIN = "200, and nothing in it"
SENT_WITHOUT_BOTOCORE = "put_object"
#: Faults that strike only the cleanup; an unreachable store would strike the upload as well.
UNDOING_FAULTS = (
    *("connection reset", "stall", "500 InternalError", "403 AccessDenied"),
    *("500, though it was done", "answer lost, though it was done"),
)
#: Seconds of refused connections that exceed all attempts of a call.
FOR_GOOD = 2.0
#: Seconds that an app may take for a delayed cleanup.
UNDO_SECONDS = 60.0

#: The parts of the larger file; the last has one byte.
PARTS = (1, 2, 3)
LAST_PART = 3
PRESIGNED = ("presigned",)
#: By fault, the calls on which it has no effect: their answer is empty anyway.
NO_ANSWER = {"200, and nothing in it": ("list_parts",)}

Times: TypeAlias = Literal["once", "always"]


@dataclass(frozen=True)
class Row:
    """A fault of a call, once or at each attempt.

    Attributes:
        part: the number of the part, if the call sends one.
        undoes: the call that failed for good before, if this call cleans up.
        handoffs: the hand-offs of its cases.
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
        """The call, in the table's words."""
        part = {1: ", first part", 2: ", second part", 3: ", last part"}.get(self.part or 0, "")
        undoes = f", undoing `{self.undoes}`" if self.undoes else ""
        presigned = " of `presigned`" if self.handoffs == PRESIGNED else ""
        return f"`{self.call}`{part}{undoes}{presigned}"

    def what(self) -> Fault:
        """The fault object."""
        fault = FAULTS[self.fault]
        if isinstance(fault, Reset | Stall):
            return replace(fault, after=0 if self.part == LAST_PART else MIDDLE.get(self.call, 0))
        if isinstance(fault, Refuse) and self.times == "always":
            return Refuse(FOR_GOOD)
        return fault


def rows() -> Iterator[Row]:
    """All rows, in the table's order."""
    for fault in FAULTS:
        yield from upload_rows(fault)
        if fault in UNDOING_FAULTS:
            yield from undoing_rows(fault)
        for size, calls in PRESIGNED_CALLS.items():
            for call in calls:
                yield from both_times(Row(fault, size, call, "always", handoffs=PRESIGNED))


def upload_rows(fault: str) -> Iterator[Row]:
    """The rows of an upload's own calls."""
    for size, calls in CALLS.items():
        for call in calls:
            for number in PARTS if call == "upload_part" else (None,):
                yield from both_times(Row(fault, size, call, "always", number))


def undoing_rows(fault: str) -> Iterator[Row]:
    """The rows with two faults in one upload."""
    for size, calls in UNDOING.items():
        for undoes, call in calls:
            row = Row(fault, size, call, "always", undoes=undoes)
            yield from both_times(row) if fault == "403 AccessDenied" else [row]


def both_times(row: Row) -> Iterator[Row]:
    """A row, preceded by the same fault once where that differs."""
    if ONLY_ON.get(row.fault, row.call) == row.call and row.call not in NO_ANSWER.get(row.fault, ()):
        if row.fault != NEVER_TRIED_AGAIN or row.call == SENT_WITHOUT_BOTOCORE:
            yield replace(row, times="once")
        yield row


@dataclass(frozen=True)
class Case:
    """An upload: a row's fault, one hand-off, one app."""

    row: Row
    framework: str
    handoff: str

    def __str__(self) -> str:
        return f"{self.row.fault}-{self.row.call}-{self.row.times}-{self.framework}-{self.handoff}"


def cases(row: Row) -> list[Case]:
    """The cases of a row."""
    return [Case(row, framework, handoff) for framework in FRAMEWORKS for handoff in row.handoffs]


@dataclass(frozen=True)
class Outcome:
    """An upload's answer, the truth of its 201, and its leftovers in S3."""

    status: int
    code: str
    struck: bool
    right: bool
    left: tuple[str, ...]

    @property
    def survived(self) -> bool:
        """Whether the answer is 201 and the object is right."""
        return self.status == 201 and self.right

    @property
    def reported(self) -> bool:
        """Whether the answer is an error of ours, and true."""
        return self.status in {502, 503} and bool(self.code) and self.right

    @property
    def lost(self) -> bool:
        """Whether a 201 lacks its right object, or the answer means nothing."""
        return not self.survived and not self.reported


def run(behind: Behind, bucket: Bucket, case: Case) -> Outcome:
    """Upload a file with a unique name during the fault; check and remove its objects."""
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
    """The code of one of our problems; empty for any other answer."""
    problem = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    return str(problem["code"]) if set(problem) == PROBLEM_MEMBERS else ""


def script(behind: Behind, row: Row, name: str) -> None:
    """Script a row's faults for files of this name."""
    on = behind.proxy.on
    if row.undoes:
        on(row.undoes, LostAnswer(), every=True, part_number=2 if row.undoes == "upload_part" else None, key_end=name)
    on(row.call, row.what(), every=row.times == "always", part_number=row.part, key_end=name)


def has_struck(behind: Behind, row: Row, name: str) -> bool:
    """Whether a row's fault has struck a file."""
    calls, fault = list(behind.proxy.calls), row.what()
    return any(
        call.operation == row.call and call.fault == fault and call.part_number == row.part and call.path.endswith(name)
        for call in calls
    )


def send_form(behind: Behind, app: Api, case: Case, data: bytes, name: str) -> tuple[httpx.Response, httpx.Response]:
    """Upload by a form.

    Return the answer twice, because there is no second call. S3 works again afterwards.
    """
    script(behind, case.row, name)
    answer = app.upload(form(part("file", data, name)), f"/uploads/{case.handoff}")
    behind.proxy.forget(name)
    return answer, answer


def send_by_urls(behind: Behind, app: Api, case: Case, data: bytes, name: str) -> tuple[httpx.Response, httpx.Response]:
    """Upload by presigned URLs.

    Return the answer, and that of a second `complete` on a working S3 if it failed.
    """
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
    """Whether S3 has the receipt's object with the sent bytes."""
    try:
        bucket.check_receipt(receipt, data)
    except (AssertionError, ClientError):
        return False
    return True


def left_behind(bucket: Bucket, name: str, named: set[str]) -> tuple[str, ...]:
    """A file's leftovers in S3 after the time for the cleanup; all are removed."""

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
