"""Every way in which the store breaks, on every call of an upload, by every hand-off: the cases, and how one is run.

The table in docs/faults.md has a row for each `Row`, made of all its cases; the suite runs a part of them.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

from botocore.exceptions import ClientError
from contract.api import PROBLEM_MEMBERS, Api, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.script import Answer, Fault, LostAnswer, Refuse, Reset, Stall, When

from handoff.settings import MIB
from handoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")

#: A file that is stored by a single put, and one of three parts, in bytes.
SIZES = {"put": 1000, "parts": 10 * MIB + 1}
#: What an upload of each asks of S3, in this order; of the parts, the second is the one in the middle.
CALLS = {
    "put": ("put_object", "head_object"),
    "parts": ("create_multipart_upload", "upload_part", "complete_multipart_upload", "head_object"),
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
}
#: A fault that only one call has.
ONLY_ON = {"200 with an error in it": "complete_multipart_upload"}
#: How long the store refuses connections where it does so for good, in seconds: longer than any call is tried.
FOR_GOOD = 2.0
#: How long an app has to undo what it could not undo at once.
UNDO_SECONDS = 20.0

type Times = Literal["once", "always"]


@dataclass(frozen=True)
class Row:
    """One fault on one call: once, or each time it is tried."""

    fault: str
    size: str
    call: str
    times: Times

    def what(self) -> Fault:
        """The fault itself."""
        fault = FAULTS[self.fault]
        if isinstance(fault, Reset | Stall):
            return replace(fault, after=MIDDLE.get(self.call, 0))
        if isinstance(fault, Refuse) and self.times == "always":
            return Refuse(FOR_GOOD)
        return fault


def rows() -> Iterator[Row]:
    """All there are, in the order of the table."""
    for fault, (size, calls) in itertools.product(FAULTS, CALLS.items()):
        for call in calls:
            if ONLY_ON.get(fault, call) == call:
                yield Row(fault, size, call, "once")
                yield Row(fault, size, call, "always")


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
    return [Case(row, framework, handoff) for framework in FRAMEWORKS for handoff in FORM_HANDOFFS]


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
    def told(self) -> bool:
        """An error of ours."""
        return self.status in {502, 503} and bool(self.code)

    @property
    def lost(self) -> bool:
        """201, and the object is not there, or another: or no answer at all that means anything."""
        return not self.survived and not self.told


def run(behind: Behind, bucket: Bucket, case: Case) -> Outcome:
    """Upload a file with a name of its own while the fault strikes; what S3 then has of it is looked at and removed."""
    name, row = f"{os.urandom(8).hex()}.bin", case.row
    data, fault = os.urandom(SIZES[row.size]), row.what()
    middle = 2 if row.call == "upload_part" else None
    behind.proxy.on(row.call, fault, every=row.times == "always", part_number=middle, key_end=name)
    with closing(Api(behind.started.apps[case.framework].url)) as app:
        answer = app.upload(form(part("file", data, name)), f"/uploads/{case.handoff}")
    told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    receipts = told.get("receipts", []) if answer.status_code == 201 else []
    right = [is_right(bucket, receipt, data) for receipt in receipts] == [True]
    left = left_behind(bucket, name, {receipt["key"] for receipt in receipts})
    code = str(told["code"]) if set(told) == PROBLEM_MEMBERS else ""
    struck = any(call.fault == fault and call.path.endswith(name) for call in list(behind.proxy.calls))
    return Outcome(answer.status_code, code, struck, right, left)


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
