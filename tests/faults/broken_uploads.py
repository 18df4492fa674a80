"""Concurrent uploads to both apps, each with its own fault."""

import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from contract.api import Api, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.script import Fault
from faults.store_faults import FRAMEWORKS, code_of, is_right, left_behind

from filehandoff.settings import MIB

#: Size of a file of three parts, the last of one byte.
SIZE = 10 * MIB + 1
AT_ONCE = 8


@dataclass(frozen=True)
class Case:
    """A fault of one operation; if it sends parts, of the second part."""

    operation: str
    fault: Fault
    size: int

    def script(self, behind: Behind, name: str, *, every: bool) -> None:
        """Script the fault for files of this name, once or at every attempt."""
        number = 2 if self.operation == "upload_part" else None
        behind.proxy.on(self.operation, self.fault, every=every, part_number=number, key_end=name)


@dataclass(frozen=True)
class Seen:
    """An upload's answer, faults, presence in S3, and leftovers."""

    status: int
    code: str
    faults: tuple[Fault, ...]
    stored: bool
    left: tuple[str, ...]


SeenByApp: TypeAlias = dict[tuple[str, str], Seen]


def at_once(cases: Mapping[str, Case], run: Callable[[str, Case], Seen]) -> SeenByApp:
    """Run each case on each app; some at once, because they mostly wait."""
    keys = [(framework, case) for case in cases for framework in FRAMEWORKS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(keys, pool.map(lambda key: run(key[0], cases[key[1]]), keys), strict=True))


def upload(behind: Behind, bucket: Bucket, framework: str, case: Case, *, every: bool) -> Seen:
    """Upload a file by `stream` during the fault, and remove its traces from S3."""
    name, data = new_file(case.size)
    case.script(behind, name, every=every)
    with closing(Api(behind.started.apps[framework].url)) as app:
        answer = app.upload(form(part("file", data, name)), "/uploads/stream")
    behind.proxy.forget(name)
    receipts = answer.json()["receipts"] if answer.status_code == 201 else []
    return Seen(answer.status_code, code_of(answer), faults_of(behind, name), *in_s3(bucket, name, receipts, data))


def complete_twice(behind: Behind, bucket: Bucket, framework: str, case: Case) -> Seen:
    """Complete a presigned upload during the fault and again without it; return the first answer."""
    name, data = new_file(case.size)
    with closing(Api(behind.started.apps[framework].url)) as app:
        given = app.presign(data, name).json()
        app.send_to_s3(given, data)
        case.script(behind, name, every=True)
        answer = app.send("POST", given["complete"])
        behind.proxy.forget(name)
        again = app.send("POST", given["complete"])
    receipts = again.json().get("receipts", [])
    return Seen(answer.status_code, code_of(answer), faults_of(behind, name), *in_s3(bucket, name, receipts, data))


def new_file(size: int) -> tuple[str, bytes]:
    """A unique name, and bytes."""
    return f"{uuid.uuid4().hex}.bin", os.urandom(size)


def faults_of(behind: Behind, name: str) -> tuple[Fault, ...]:
    """The faults of the calls for this file."""
    return tuple(call.fault for call in list(behind.proxy.calls) if call.fault and call.path.endswith(name))


def in_s3(bucket: Bucket, name: str, receipts: list[dict[str, Any]], data: bytes) -> tuple[bool, tuple[str, ...]]:
    """Whether S3 has the named file, and the leftovers beside it; all are removed."""
    stored = [is_right(bucket, receipt, data) for receipt in receipts] == [True]
    return stored, left_behind(bucket, name, {receipt["key"] for receipt in receipts})
