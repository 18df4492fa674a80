"""Each cell of the grid matches the table in filehandoff/strategies.py."""

import os
import re

import pytest
from contract.api import RECEIPT_MEMBERS, Api, check_problem, form, part
from contract.bucket import Bucket

from filehandoff.strategies import (
    DEFAULT_HANDOFF,
    DEFAULT_HOOK,
    HANDOFFS,
    HOOKS,
    LOST,
    LOST_CODE,
    SIZE_CLASSES,
    STORED,
    verdict,
)


@pytest.mark.parametrize("size_class", SIZE_CLASSES)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_each_cell_does_what_the_grid_says(
    app: Api, bucket: Bucket, pytestconfig: pytest.Config, handoff: str, hook: str, size_class: str
) -> None:
    """A stored file is in S3 byte for byte under its receipt.

    A lost one gets an explanation and leaves nothing.
    """
    data = os.urandom(SIZE_CLASSES[size_class].size(app.limits["part_bytes"]))
    answer = app.upload_file(data, handoff, hook)
    if verdict(app.framework, handoff, hook, size_class) == LOST:
        problem = check_problem(answer, 500, LOST_CODE)
        assert "copy_current_request_context" in problem["detail"]
        assert "pallets/flask#5399" in problem["detail"]
        if not pytestconfig.getoption("base_url"):  # only our own apps observe the close
            assert re.match(r"The upload 'a file\.bin' of the form field 'file' was closed by ", problem["detail"])
            assert f"stamp_from_request ({app.framework}_app/hooks.py:" in problem["detail"]
        return
    assert answer.status_code == 201, answer.text
    (receipt,) = answer.json()["receipts"]
    assert set(receipt) == RECEIPT_MEMBERS
    assert (receipt["framework"], receipt["handoff"], receipt["hook"]) == (app.framework, handoff, hook)
    assert receipt["request_id"] == answer.request.headers["X-Request-Id"] == answer.headers["X-Request-Id"]
    assert receipt["parts"] == (3 if size_class == "parts" else 1)
    assert receipt["elapsed_ms"] > 0
    assert answer.headers["Location"] == f"/objects/{receipt['key']}"
    bucket.check_receipt(receipt, data)


def test_the_default_is_the_pair_that_strategies_names(app: Api, bucket: Bucket) -> None:
    """`POST /uploads` uses the pair that /strategies calls the default."""
    assert app.strategies["default"] == {"handoff": DEFAULT_HANDOFF, "hook": DEFAULT_HOOK}
    answer = app.upload(form(part("file", b"some bytes", "name")), "/uploads")
    (receipt,) = answer.json()["receipts"]
    assert (receipt["handoff"], receipt["hook"]) == (DEFAULT_HANDOFF, DEFAULT_HOOK)
    bucket.check_receipt(receipt, b"some bytes")


def test_strategies_has_every_pair_with_its_verdicts(app: Api) -> None:
    """/strategies lists each pair of hand-off and hook once, with the table's verdicts."""
    rows = {(row["handoff"], row["hook"]): row["verdicts"] for row in app.strategies["strategies"]}
    assert len(app.strategies["strategies"]) == len(rows) == len(HANDOFFS) * len(HOOKS)
    for (handoff, hook), verdicts in rows.items():
        assert verdicts == {size: verdict(app.framework, handoff, hook, size) for size in SIZE_CLASSES}


def test_the_grid_has_both_outcomes() -> None:
    """The table has lost and stored cells, so both branches of this suite run."""
    seen = {verdict("flask", handoff, hook, "memory") for handoff in HANDOFFS for hook in HOOKS}
    assert seen == {STORED, LOST}
