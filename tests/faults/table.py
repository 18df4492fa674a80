"""Run every case of a broken store, and write docs/faults.md: `python -m faults.table`.

Exits with 1 if an upload was lost or left something behind, or if a fault did not strike.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path

from contract.bucket import Bucket
from contract.store_differences import behaviour_of
from faults.behind import Behind, proxied
from faults.script import Refuse
from faults.settings import SETTINGS, SHORT_STORE_TIMEOUTS
from faults.store_faults import FRAMEWORKS, SIZES, UNDO_SECONDS, Case, Outcome, Row, cases, rows, run

from filehandoff.strategies import FORM_HANDOFFS

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "faults.md"

HEADER = "| fault | call | file size | times | cases | survived | reported | lost | left behind |"

INTRODUCTION = """\
# Uploads to a broken store

`make faults-table` writes this page from real uploads. Each row breaks one call to S3 in one way, once or at each
attempt, and runs {cases_in_a_row}: on Flask and on Quart, with each of
{handoffs}.
A file of {put:,} bytes is one put, a file of {parts:,} bytes has three parts. After the answer, S3 works again, and
the cleanup has {undo:g} seconds before the objects are read directly, past the proxy that breaks the calls.

Rows of a call that is **undoing** another have two faults. The other call was performed and its answer lost, at each
attempt, so the upload fails; then the call that cleans up fails too, until the client has its answer.

Rows **of `presigned`** run on Flask and on Quart: the call that returns the URLs of parts, and the calls that complete
the upload after the client has sent it to S3.

- **survived**: 201, and the object that was read back equals the file.
- **reported**: an error of ours, with its code. Completing a `presigned` upload again then returns its receipt, and
  the object is right; or 404 if the code is `store-rejected` and the upload was removed.
- **lost**: 201 with a missing or different object, or no meaningful answer.
- **left behind**: objects and unfinished multipart uploads in S3 that no 201 names.

S3 is {store}; a call has {attempts} attempts. Where connections are refused,
the store refuses them for a moment, or for longer than all attempts of a call; its open connections
are reset at the same time.
"""


def run_row(behind: Behind, bucket: Bucket, row: Row) -> list[Outcome]:
    """Run a row's cases at once, or one by one if connections are refused."""
    alone = isinstance(row.what(), Refuse)
    with ThreadPoolExecutor(1 if alone else len(cases(row))) as pool:

        def run_case(case: Case) -> Outcome:
            outcome = run(behind, bucket, case)
            if alone:
                behind.proxy.clear()
            return outcome

        outcomes = list(pool.map(run_case, cases(row)))
    behind.proxy.clear()
    behind.proxy.calls.clear()
    return outcomes


def line(row: Row, outcomes: Sequence[Outcome]) -> str:
    """Format a row of the table."""
    codes = Counter(outcome.code for outcome in outcomes if outcome.reported)
    reported = ", ".join(f"{count} `{code}`" for code, count in sorted(codes.items())) or "0"
    cells = [
        row.fault,
        row.where,
        f"{SIZES[row.size]:,}",
        row.times,
        len(outcomes),
        sum(outcome.survived for outcome in outcomes),
        reported,
        sum(outcome.lost for outcome in outcomes),
        sum(bool(outcome.left) for outcome in outcomes),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def names(text: str) -> list[tuple[str, ...]]:
    """The first four cells of each row in a document's table."""
    lines = [[cell.strip() for cell in text.strip("|").split("|")] for text in text.splitlines() if text[:1] == "|"]
    return [tuple(cells[:4]) for cells in lines[2:]]


def document(store: str, results: Iterable[tuple[Row, Sequence[Outcome]]]) -> str:
    """Render the whole document."""
    results = list(results)
    every = [outcome for _, outcomes in results for outcome in outcomes]
    introduction = INTRODUCTION.format(
        cases_in_a_row=f"{len(FRAMEWORKS) * len(FORM_HANDOFFS)} times",
        handoffs=", ".join(f"`{name}`" for name in FORM_HANDOFFS),
        undo=UNDO_SECONDS,
        store=store,
        attempts=SETTINGS["UPLOAD_S3_ATTEMPTS"],
        **SIZES,
    )
    rule = "|---" * HEADER.count(" | ") + "|---|"
    return (
        f"{introduction}\n{summary(every)}\n\n"
        + "\n".join([HEADER, rule, *(line(*result) for result in results)])
        + "\n"
    )


def summary(every: Sequence[Outcome]) -> str:
    """Count the outcomes."""
    return (
        f"{len(every)} cases: {sum(outcome.survived for outcome in every)} survived, "
        f"{sum(outcome.reported for outcome in every)} reported, {sum(outcome.lost for outcome in every)} lost, "
        f"{sum(bool(outcome.left) for outcome in every)} left something behind."
    )


def run_rows(store: str, group: list[Row], found: dict[Row, list[Outcome]]) -> None:
    """Run these rows on apps of their own, print each, and keep its outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "apps"
        temporary.mkdir()
        with (
            proxied(store, temporary, SHORT_STORE_TIMEOUTS) as behind,
            closing(behind.store.client()) as client,
        ):
            bucket = Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started, behaviour_of(store))
            for row in group:
                began = time.monotonic()
                outcomes = found[row] = run_row(behind, bucket, row)
                print(f"{len(found)} {time.monotonic() - began:.1f} s {line(row, outcomes)}", flush=True)
                for case, outcome in zip(cases(row), outcomes, strict=True):
                    if outcome.lost or outcome.left or not outcome.struck:
                        print(f"    {case.framework} {case.handoff}: {outcome}", flush=True)


def main() -> int:
    """Run all rows and write the document."""
    parser = argparse.ArgumentParser(prog="make faults-table", description=__doc__)
    parser.add_argument("--store", choices=["moto", "rclone"], default="moto")
    parser.add_argument("--only", default="", help="run only rows that contain this; write nothing")
    options = parser.parse_args()
    wanted = [row for row in rows() if options.only in f"{row.fault} {row.where} {row.size} {row.times}"]
    found: dict[Row, list[Outcome]] = {}
    for _, group in groupby(wanted, key=lambda row: row.fault):
        # botocore's quota of retries is one client's: rows that always fail would use it up for those that fail once.
        run_rows(options.store, sorted(group, key=lambda row: row.times == "always"), found)
    results = [(row, found[row]) for row in wanted]
    every = [outcome for _, outcomes in results for outcome in outcomes]
    print(summary(every))
    if not options.only and options.store == "moto":
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(options.store, results), "utf-8")
    return int(any(outcome.lost or outcome.left or not outcome.struck for outcome in every))


if __name__ == "__main__":
    sys.exit(main())
