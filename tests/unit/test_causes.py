"""The three causes in words, and the report of one run."""

from dataclasses import asdict

import pytest

from filehandoff.causes import CAUSES, report, time_limit
from filehandoff.errors import StoreUnavailable
from filehandoff.explain import CloseRecord

CLOSE = CloseRecord(
    closed_by="the end of the request",
    use_instead="another hand-off",
    page="after-response",
    where="thread 'one'",
    when="1.0 ms after the view began",
    error="ValueError: closed",
)


@pytest.mark.parametrize("cause", CAUSES)
def test_an_early_close_is_reported_as_the_explainer_recorded_it(cause: str) -> None:
    """The record's error, close and remedy stand beside the cause's general explanation."""
    assert asdict(report(cause, "flask", "id-1", CLOSE)) == {
        "cause": cause,
        "framework": "flask",
        "closed": True,
        "error": "ValueError: closed",
        "closed_by": "the end of the request",
        "where": "thread 'one'",
        "when": "1.0 ms after the view began",
        "explanation": CAUSES[cause].explanation,
        "use_instead": "another hand-off",
        "request_id": "id-1",
    }


@pytest.mark.parametrize("cause", CAUSES)
def test_a_run_without_an_early_close_says_so(cause: str) -> None:
    """The report has neither error nor close, says that the file was open here, and keeps the general advice."""
    here = "Here the file was still open at its last read, in quart, at this size. "
    assert asdict(report(cause, "quart", "id-1", None)) == {
        "cause": cause,
        "framework": "quart",
        "closed": False,
        "error": None,
        "closed_by": None,
        "where": None,
        "when": None,
        "explanation": here + CAUSES[cause].explanation,
        "use_instead": CAUSES[cause].use_instead,
        "request_id": "id-1",
    }


def test_a_view_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that exceeds its time is the store's fault, and the error says how long S3 had."""
    time_limit().check()
    monkeypatch.setattr("filehandoff.causes.SECONDS", 0.0)
    with pytest.raises(StoreUnavailable, match="within 0 seconds"):
        time_limit().check()
