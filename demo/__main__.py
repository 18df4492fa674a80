"""`make demo`: send files through every hand-off and hook of both apps; print a table."""

import hashlib
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from demo.processes import StartError
from demo.samples import Sample, samples
from demo.stack import Stack, running
from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.strategies import FRAMEWORKS, HANDOFFS, HOOKS, LOST, LOST_CODE, STORED, reason, verdict

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TIMEOUT_SECONDS = 120.0
#: The apps end a connection that was idle for 5 seconds, and a request just then gets no answer.
KEPT_SHORT = httpx.Limits(keepalive_expiry=2)


@dataclass(frozen=True)
class Outcome:
    """The result of one file in one cell.

    `surprise` is its difference from the known result.
    """

    framework: str
    handoff: str
    hook: str
    sample: str
    seen: str
    milliseconds: float
    why: str | None
    surprise: str | None


def main() -> None:
    """Run the demo.

    Exit with 0 only if every cell behaves as known and nothing is left in S3.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="handoff-demo-") as folder:
            surprises = _demo(console, Path(folder) / "servers.log")
    except StartError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; every server it started has ended")
    sys.exit(1 if surprises else 0)


def _demo(console: Console, log_path: Path) -> list[str]:
    console.print("Starting an S3 server, Flask on gunicorn and Quart on hypercorn …")
    with running({}, log_path=log_path) as stack, httpx.Client(timeout=TIMEOUT_SECONDS, limits=KEPT_SHORT) as http:
        files = samples()
        console.print(_summary_of_files(stack, files))
        s3 = stack.store.client()
        total = len(FRAMEWORKS) * len(HANDOFFS) * len(HOOKS) * len(files)
        columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task("", total=total)
            outcomes = []
            for framework, handoff, hook, sample in _cells(files):
                bar.update(task, description=f"{framework}  {handoff} × {hook}")
                outcomes.append(_send(stack, http, s3, (framework, handoff, hook), sample))
                bar.advance(task)
        left = _left_behind(stack, s3)
    surprises = [_sentence(outcome) for outcome in outcomes if outcome.surprise] + left
    console.print(_table(outcomes, files))
    _print_result(console, outcomes, surprises)
    return surprises


def _cells(files: list[Sample]) -> Iterator[tuple[str, str, str, Sample]]:
    for framework in FRAMEWORKS:
        for handoff in HANDOFFS:
            for hook in HOOKS:
                for sample in files:
                    yield framework, handoff, hook, sample


def _send(stack: Stack, http: httpx.Client, s3: "S3Client", way: tuple[str, str, str], sample: Sample) -> Outcome:
    framework, handoff, hook = way
    size_class = sample.size_class(stack.settings.part_bytes)
    expected = verdict(framework, handoff, hook, size_class)
    request_id = f"demo-{uuid.uuid4().hex}"
    began = time.perf_counter()
    send = _send_form if HANDOFFS[handoff].of_a_form else _send_to_s3
    url = stack.apps[framework].url
    answer = send(http, url, f"/uploads/{handoff}?hook={hook}", sample, {"X-Request-Id": request_id})
    milliseconds = (time.perf_counter() - began) * 1000
    if answer.status_code == httpx.codes.CREATED:
        wrong = _read_back(stack, s3, answer.json()["receipts"][0]["key"], sample, request_id)
        seen, why = STORED, None
        surprise = wrong or (None if expected == STORED else "stored, but known to be lost")
    else:
        code = answer.json().get("code", answer.status_code)
        seen, why = LOST, reason(framework, handoff, hook, size_class) or code
        as_known = expected == LOST and code == LOST_CODE
        surprise = None if as_known else f"answered {answer.status_code} {code}, expected {expected}"
    return Outcome(framework, handoff, hook, sample.label, seen, milliseconds, why, surprise)


def _send_form(http: httpx.Client, url: str, path: str, sample: Sample, headers: dict[str, str]) -> httpx.Response:
    file = (sample.filename, sample.data, sample.content_type)
    return http.post(url + path, files={"file": file}, headers=headers)


def _send_to_s3(http: httpx.Client, url: str, path: str, sample: Sample, headers: dict[str, str]) -> httpx.Response:
    """Get URLs from the app, send the file to S3, and have it completed."""
    wanted: dict[str, str | int] = {"filename": sample.filename, "content_type": sample.content_type}
    wanted |= {"size": len(sample.data), "sha256": sample.sha256}
    answer = http.post(url + path, json=wanted, headers=headers)
    if answer.status_code != httpx.codes.CREATED:
        return answer
    given = page = answer.json()
    rest = memoryview(sample.data)
    while True:
        for one in page.get("parts", [page]):
            data, rest = bytes(rest[: one["size"]]), rest[one["size"] :]
            http.put(one["url"], content=data, headers=one.get("headers")).raise_for_status()
        if not page.get("next"):
            return http.post(url + given["complete"])
        page = http.get(url + page["next"]).raise_for_status().json()


def _read_back(stack: Stack, s3: "S3Client", key: str, sample: Sample, request_id: str) -> str | None:
    """Compare the stored object with the file, then delete it; return the difference or None."""
    stored = s3.get_object(Bucket=stack.settings.bucket, Key=key)
    digest = hashlib.sha256()
    for chunk in stored["Body"].iter_chunks(1024 * 1024):
        digest.update(chunk)
    s3.delete_object(Bucket=stack.settings.bucket, Key=key)
    if digest.hexdigest() != sample.sha256:
        return "the object in S3 is not the file that was sent"
    metadata = {name.lower(): value for name, value in stored["Metadata"].items()}
    if metadata.get(REQUEST_ID_METADATA) != request_id:
        return "the object in S3 carries another request's id: the hook did not do its job"
    return None


def _left_behind(stack: Stack, s3: "S3Client") -> list[str]:
    """Describe the objects and unfinished uploads left in an embedded store; there must be none."""
    if stack.store.server is None:
        return []
    objects = s3.list_objects_v2(Bucket=stack.settings.bucket).get("KeyCount", 0)
    unfinished = len(s3.list_multipart_uploads(Bucket=stack.settings.bucket).get("Uploads", []))
    if objects or unfinished:
        return [f"left behind in S3: {objects} objects, {unfinished} unfinished multipart uploads"]
    return []


def _table(outcomes: list[Outcome], files: list[Sample]) -> Table:
    """One row per cell of the grid, with numbered reasons below the table."""
    table = Table(title="Results by file, in milliseconds", title_justify="left", caption_justify="left")
    table.box, table.caption_style, table.padding, table.show_edge = box.SIMPLE_HEAD, "", (0, 1), False
    for name in ("app", "hand-off", "hook"):
        table.add_column(name, no_wrap=True)
    for sample in files:
        table.add_column(sample.label, justify="right", no_wrap=True)
    reasons = list(dict.fromkeys(outcome.why for outcome in outcomes if outcome.why))
    rows = [outcomes[start : start + len(files)] for start in range(0, len(outcomes), len(files))]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        first = row[0]
        last_of_handoff = following is None or following[0].handoff != first.handoff
        cells = [_cell(outcome, reasons) for outcome in row]
        table.add_row(first.framework, first.handoff, first.hook, *cells, end_section=last_of_handoff)
    table.caption = "\n".join(f"{number} {why}" for number, why in zip("¹²³⁴⁵⁶⁷⁸⁹", reasons, strict=False))
    return table


def _cell(outcome: Outcome, reasons: list[str]) -> str:
    style = "bold red" if outcome.surprise else "green" if outcome.seen == STORED else "yellow"
    note = "¹²³⁴⁵⁶⁷⁸⁹"[reasons.index(outcome.why)] if outcome.why else ""
    return f"[{style}]{outcome.seen}{note}[/] {outcome.milliseconds:5.0f}"


def _print_result(console: Console, outcomes: list[Outcome], surprises: list[str]) -> None:
    stored = sum(outcome.seen == STORED for outcome in outcomes)
    console.print(
        f"\n{stored} files stored, each read back from S3 and compared by SHA-256 and request id; "
        f"{len(outcomes) - stored} lost."
    )
    if surprises:
        console.print("[bold red]Unexpected results:[/]")
        for surprise in surprises:
            console.print(f"  {surprise}")
    else:
        console.print("Every cell behaved as known, and nothing was left behind in S3.")


def _sentence(outcome: Outcome) -> str:
    return f"{outcome.framework} {outcome.handoff} × {outcome.hook}, {outcome.sample}: {outcome.surprise}"


def _summary_of_files(stack: Stack, files: list[Sample]) -> str:
    sizes = ", ".join(f"{sample.label} ({len(sample.data):,} bytes)" for sample in files)
    return (
        f"Sending {sizes} through {len(HANDOFFS)} hand-offs × {len(HOOKS)} hooks × {len(FRAMEWORKS)} apps; "
        f"S3 is {os.environ.get('UPLOAD_S3') or 'moto'}, parts have {stack.settings.part_bytes:,} bytes."
    )


if __name__ == "__main__":
    main()
