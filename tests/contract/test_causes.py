"""The three causes, run for real: each report says how the explainer saw the close."""

import os
import re
from typing import Any

import pytest
from contract.api import Api, check_problem, form, part

from filehandoff.causes import CAUSES, MAX_BYTES

MEMBERS = {
    *("cause", "framework", "closed", "error", "closed_by", "where", "when"),
    *("explanation", "use_instead", "request_id", "events"),
}
#: The beginning of `closed_by`, by cause and framework.
CLOSED_BY = {
    (
        "copied_context",
        "flask",
    ): r"the pop of a copied request context: .* event 'before-parameter-build\.s3\.PutObject'",
    (
        "copied_context",
        "quart",
    ): r"the pop of a copied request context: .* event 'before-parameter-build\.s3\.PutObject'",
    ("transfer_closes", "flask"): r"boto3's S3 transfer manager \(s3transfer\.",
    ("after_response", "flask"): r"the end of the request: its context was popped \(flask\.app:wsgi_app\)",
    ("after_response", "quart"): r"the end of the request: its context was popped \(quart\.app:handle_request\)",
}
#: From this size in bytes on, boto3's upload_fileobj leaves the file open.
TRANSFER_THRESHOLD = 8 * 1024**2
SIZES = [
    pytest.param(100, id="in memory"),
    pytest.param(500_001, id="on disk"),
    pytest.param(TRANSFER_THRESHOLD - 1, id="just under the transfer manager's threshold"),
    pytest.param(TRANSFER_THRESHOLD, id="at the threshold"),
    pytest.param(MAX_BYTES, id="the largest allowed"),
]


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_run_and_reported(app: Api, cause: str, size: int) -> None:
    """Where the cause occurs: the text of the error, the closer, the thread or task, the moment."""
    answer = app.upload(form(part("file", os.urandom(size), "name")), f"/causes/{cause}", {"X-Request-Id": "mine"})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert set(report) == MEMBERS
    assert (report["cause"], report["framework"], report["request_id"]) == (cause, app.framework, "mine")
    assert report["explanation"].endswith(CAUSES[cause].explanation)
    assert report["use_instead"] == CAUSES[cause].use_instead
    closed_by = CLOSED_BY.get((cause, app.framework))
    events = {event["name"]: event["place"] for event in report["events"]}
    assert next(iter(events)) == "request arrived"
    assert ("hook entered" in events) == (cause == "copied_context")
    if closed_by is None or (cause == "transfer_closes" and size >= TRANSFER_THRESHOLD):
        assert report["closed"] is False
        assert {report[name] for name in ("error", "closed_by", "where", "when")} == {None}
        assert report["explanation"].startswith("Here the file was still open")
        return
    assert report["closed"] is True
    assert re.search(r"^ValueError: .*closed file", report["error"])
    assert re.match(closed_by, report["closed_by"])
    assert not re.search(r"(?<![\w.])/\w", report["closed_by"]), "a folder of the server's machine"
    assert re.fullmatch(r"(task '[^']+' of )?thread '[^']+'", report["where"])
    assert re.fullmatch(r"\d+\.\d ms after the view began", report["when"])
    check_moments(report["events"], cause)


def check_moments(events: list[dict[str, Any]], cause: str) -> None:
    """Assert that the moments lead from the request's arrival to the failed read, each at a place."""
    names = [event["name"] for event in events]
    times = [event["elapsed_ms"] for event in events]
    own = {
        "copied_context": ["hook entered", "context left", "file closed"],
        "transfer_closes": ["file closed"],
        "after_response": ["context left", "file closed", "response sent", "job began"],
    }[cause]
    assert names == ["request arrived", "view began", *own, "read failed"]
    assert times == sorted(times)
    assert times[0] == 0
    places = {event["name"]: event["place"] for event in events}
    for name in {"context left", "file closed", "read failed"} & set(places):
        assert re.search(r"\.py:\d+", places[name])
        assert not places[name].startswith("/"), "a folder of the server's machine"


@pytest.mark.parametrize(
    ("body", "path", "status", "code"),
    [
        pytest.param(form(part("file", b"x", "n")), "gremlins", 404, "unknown-cause", id="an unknown cause"),
        pytest.param(form(part("other", b"x", "n")), "copied_context", 400, "file-missing", id="no file"),
        pytest.param(form(part("file", b"x")), "copied_context", 400, "file-missing", id="a field"),
        pytest.param(
            form(part("file", bytes(MAX_BYTES + 1), "n")), "copied_context", 413, "file-too-large", id="too large"
        ),
    ],
)
def test_a_cause_refuses_what_an_upload_would(apps: list[Api], body: bytes, path: str, status: int, code: str) -> None:
    """A cause refuses a wrong upload with the same problem in every app."""
    problems = [check_problem(app.upload(body, f"/causes/{path}"), status, code) for app in apps]
    assert len({problem["detail"] for problem in problems}) == 1
