"""Some cases of docs/faults.md, and a check that the document has all of them."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from contract.bucket import Bucket
from faults.behind import Behind
from faults.script import Refuse
from faults.store_faults import FRAMEWORKS, SIZES, Case, Outcome, cases, rows, run
from faults.table import DOCUMENT, names

ROWS = list(rows())
#: Every n-th row runs here, with alternating hand-off and app; `make faults-table` runs all.
STEP = 17
AT_ONCE = 8
CHOSEN = [
    Case(row, FRAMEWORKS[number % 2], row.handoffs[number % len(row.handoffs)])
    for number, row in enumerate(ROWS[::STEP])
]


@pytest.fixture(scope="module")
def behind(impatient: Behind) -> Behind:
    """A proxy in front of a real store, and both apps with short timeouts."""
    return impatient


@pytest.fixture(scope="module")
def outcomes(behind: Behind, module_bucket: Bucket) -> dict[Case, Outcome]:
    """The results of the cases.

    They run one after another if all connections are refused, otherwise some at once.
    """
    alone = [case for case in CHOSEN if isinstance(case.row.what(), Refuse)]
    others = [case for case in CHOSEN if case not in alone]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = dict(zip(others, pool.map(partial(run, behind, module_bucket), others), strict=True))
    for case in alone:
        seen[case] = run(behind, module_bucket, case)
        behind.proxy.clear()
    return seen


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_an_upload_is_stored_or_reported_as_failed(outcomes: dict[Case, Outcome], case: Case) -> None:
    """Each fault strikes; the upload is stored right, or gets an error and leaves nothing."""
    outcome = outcomes[case]
    assert outcome.struck
    assert outcome.survived or outcome.reported, outcome
    assert outcome.left == ()


def test_the_document_has_every_case() -> None:
    """The document has the rows of the code in order, with all their cases."""
    text = DOCUMENT.read_text("utf-8")
    assert names(text) == [(row.fault, row.where, f"{SIZES[row.size]:,}", row.times) for row in ROWS]
    assert f"\n{sum(len(cases(row)) for row in ROWS)} cases: " in text


def test_the_document_reports_no_loss() -> None:
    """The document's run lost nothing and left nothing behind."""
    text = DOCUMENT.read_text("utf-8")
    assert re.search(r"cases: \d+ survived, \d+ reported, 0 lost, 0 left something behind\.", text)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert {tuple(line.split("|")[-3:-1]) for line in rows} == {(" 0 ", " 0 ")}
