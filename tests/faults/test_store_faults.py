"""The store breaks: a part of the cases of docs/faults.md, and that the document has all of them."""

import re

import pytest
from contract.bucket import Bucket
from faults.behind import Behind
from faults.store_faults import FRAMEWORKS, SIZES, Case, cases, rows, run
from faults.table import DOCUMENT, names

STORE = "moto"
ROWS = list(rows())
#: Of so many rows one, each by another hand-off, on either app in turn; `make faults-table` runs them all.
STEP = 17
CHOSEN = [
    Case(row, FRAMEWORKS[number % 2], row.handoffs[number % len(row.handoffs)])
    for number, row in enumerate(ROWS[::STEP])
]


@pytest.mark.parametrize(
    "case",
    CHOSEN,
    ids=str,
)
@pytest.mark.usefixtures("proxy")
def test_an_upload_is_stored_or_its_client_is_told(behind: Behind, bucket: Bucket, case: Case) -> None:
    """201 and the right object, or an error of ours and nothing in S3; and the fault was there."""
    outcome = run(behind, bucket, case)
    assert outcome.struck
    assert outcome.survived or outcome.told, outcome
    assert outcome.left == ()


def test_the_document_has_every_case() -> None:
    """Its rows are those that the code has, in their order, and of as many cases as it has."""
    text = DOCUMENT.read_text("utf-8")
    assert names(text) == [(row.fault, row.where, f"{SIZES[row.size]:,}", row.times) for row in ROWS]
    assert f"\n{sum(len(cases(row)) for row in ROWS)} cases: " in text


def test_the_document_tells_of_no_loss() -> None:
    """It was made by a run in which nothing was lost and nothing left behind."""
    text = DOCUMENT.read_text("utf-8")
    assert re.search(r"cases: \d+ survived, \d+ told, 0 lost, 0 left something behind\.", text)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert {tuple(line.split("|")[-3:-1]) for line in rows} == {(" 0 ", " 0 ")}
