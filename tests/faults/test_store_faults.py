"""The store breaks: a part of the cases of docs/faults.md, and that the document has all of them."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from contract.bucket import Bucket
from faults.behind import Behind, proxied
from faults.script import Refuse
from faults.settings import SHORT_STORE_TIMEOUTS
from faults.store_faults import FRAMEWORKS, SIZES, Case, Outcome, cases, rows, run
from faults.table import DOCUMENT, names

ROWS = list(rows())
#: Of so many rows one, each by another hand-off, on either app in turn; `make faults-table` runs them all.
STEP = 17
AT_ONCE = 8
CHOSEN = [
    Case(row, FRAMEWORKS[number % 2], row.handoffs[number % len(row.handoffs)])
    for number, row in enumerate(ROWS[::STEP])
]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of a real store, and both apps behind it, which do not wait for long."""
    with proxied("moto", tmp_path_factory.mktemp("faults"), SHORT_STORE_TIMEOUTS) as behind:
        yield behind


@pytest.fixture(scope="module")
def outcomes(behind: Behind, module_bucket: Bucket) -> dict[Case, Outcome]:
    """What became of each: some at the same time, but one after the other where all connections are refused."""
    alone = [case for case in CHOSEN if isinstance(case.row.what(), Refuse)]
    others = [case for case in CHOSEN if case not in alone]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = dict(zip(others, pool.map(partial(run, behind, module_bucket), others), strict=True))
    for case in alone:
        seen[case] = run(behind, module_bucket, case)
        behind.proxy.clear()
    return seen


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_an_upload_is_stored_or_its_client_is_told(outcomes: dict[Case, Outcome], case: Case) -> None:
    """201 and the right object, or an error of ours and nothing in S3; and the fault was there."""
    outcome = outcomes[case]
    assert outcome.struck
    assert outcome.survived or outcome.reported, outcome
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
