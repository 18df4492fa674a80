"""The three causes, run for real: what is told is what was seen."""

import os
import re

import pytest
from contract.api import Api, check_problem, form, part

from filehandoff.causes import CAUSES, MAX_BYTES, TRANSFER_THRESHOLD, occurs

MEMBERS = {
    *("cause", "framework", "closed", "error", "closed_by", "where", "when"),
    *("explanation", "use_instead", "request_id"),
}
#: What must be among the calls that closed the file, by cause and framework.
CLOSED_BY = {
    ("copied_context", "flask"): ["botocore.hooks:_emit", "flask.ctx:wrapper", "werkzeug.wrappers.request:close"],
    ("copied_context", "quart"): ["aiobotocore.hooks:_emit", "quart.ctx:wrapper", "quart.wrappers.request:close"],
    ("transfer_closes", "flask"): ["s3transfer.upload:close"],
    ("after_response", "flask"): ["flask.app:wsgi_app", "flask.ctx:pop", "werkzeug.wrappers.request:close"],
    ("after_response", "quart"): ["quart.app:handle_request", "quart.ctx:pop", "quart.wrappers.request:close"],
}
MOMENT = {
    "copied_context": "before the view returned",
    "transfer_closes": "before the view returned",
    "after_response": "at the end of the request",
}
SIZES = [
    pytest.param(100, id="in memory"),
    pytest.param(500_001, id="on disk"),
    pytest.param(TRANSFER_THRESHOLD - 1, id="just under the transfer manager's threshold"),
    pytest.param(TRANSFER_THRESHOLD, id="at the threshold"),
    pytest.param(MAX_BYTES, id="the largest allowed"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_run_and_told_as_it_was_seen(app: Api, cause: str, size: int) -> None:
    """Where the cause exists: the error's own text, the calls that closed the file, the thread or task, the moment."""
    answer = app.upload(form(part("file", os.urandom(size), "name")), f"/causes/{cause}", {"X-Request-Id": "mine"})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert set(report) == MEMBERS
    assert (report["cause"], report["framework"], report["request_id"]) == (cause, app.framework, "mine")
    assert report["explanation"]
    assert report["use_instead"]
    assert report["closed"] is occurs(cause, app.framework, size)
    if not report["closed"]:
        assert {report[name] for name in ("error", "closed_by", "where", "when")} == {None}
        assert report["explanation"].startswith("Here the file was still open")
        return
    assert re.search(r"^ValueError: .*closed file", report["error"])
    calls = report["closed_by"].split(" → ")
    assert [call for call in calls if call in CLOSED_BY[cause, app.framework]] == CLOSED_BY[cause, app.framework]
    assert re.match(r"(thread|task) \S", report["where"])
    assert re.fullmatch(MOMENT[cause] + r", \d+\.\d ms after the view began", report["when"])


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
    """The same problems as elsewhere, alike from every app."""
    problems = [check_problem(app.upload(body, f"/causes/{path}"), status, code) for app in apps]
    assert len({problem["detail"] for problem in problems}) == 1
