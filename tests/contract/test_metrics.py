"""/metrics counts uploads by outcome, and every byte, with labels that no client can choose."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.api import Api, form, part
from contract.numbers import ended, grown, half_sent, numbers, stored, wait_for

from filehandoff.strategies import FORM_HANDOFFS, HANDOFFS

MIB = 1024**2
#: Size of a file of three parts; the suite's parts have 5 MiB.
PARTS = 10 * MIB + 1
WRONG = part("sha256", b"0" * 64)


@pytest.mark.parametrize(
    "size", [pytest.param(0, id="empty"), pytest.param(100, id="put"), pytest.param(PARTS, id="parts")]
)
@pytest.mark.parametrize("handoff", HANDOFFS)
def test_a_stored_file_is_counted_to_the_byte(app: Api, handoff: str, size: int) -> None:
    """A stored file adds one upload and one file, and changes nothing else."""
    before = numbers(app)
    assert app.upload_file(os.urandom(size), handoff).status_code == 201
    assert grown(app, before) == stored(handoff, size) | ({"presigned_total": 1} if handoff == "presigned" else {})


def test_the_files_of_one_form_are_one_upload(app: Api) -> None:
    """A form with three files adds one upload and three sizes."""
    sizes = (11, PARTS, 0)
    body = form(*(part("file", os.urandom(size), "name") for size in sizes))
    before = numbers(app)
    assert app.upload(body, "/uploads/stream").status_code == 201
    assert grown(app, before) == stored("stream", *sizes)


def test_uploads_at_once_are_all_counted(app: Api) -> None:
    """Twenty concurrent uploads of four hand-offs are each counted once."""
    handoffs = [name for name in FORM_HANDOFFS if name != "stream"]
    before = numbers(app)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: app.upload_file(bytes(n), handoffs[n % 4]), range(1, 21)))
    assert {answer.status_code for answer in answers} == {201}
    expected: dict[str, float] = {}
    for place, handoff in enumerate(handoffs):
        sizes = [n for n in range(1, 21) if n % 4 == place]
        expected |= stored(handoff, *sizes, uploads=len(sizes))
    assert grown(app, before) == expected


REFUSED = [
    pytest.param(form(part("other", b"x")), "read_early", "bound", "file-missing", 0, id="no file"),
    pytest.param(form(part("file", b"x", "n"))[:-9], "file", "bound", "form-malformed", 0, id="no last boundary"),
    pytest.param(
        form(WRONG, part("file", b"x", "n")), "temp_file", "bound", "digest-mismatch", 0, id="a broken promise"
    ),
    pytest.param(
        form(WRONG, part("file", bytes(PARTS), "n")), "stream", "bound", "digest-mismatch", 1, id="one of three parts"
    ),
    pytest.param(form(part("file", b"x", "n")), "stream", "shiny", "unknown-hook", 0, id="a hook that is none"),
]


@pytest.mark.parametrize(("body", "handoff", "hook", "reason", "aborts"), REFUSED)
def test_a_refused_upload_is_counted_with_its_reason(
    app: Api, body: bytes, handoff: str, hook: str, reason: str, aborts: int
) -> None:
    """A refusal is counted with its code.

    Its bytes are not, and its S3 upload counts as aborted.
    """
    before = numbers(app)
    answer = app.upload(body, f"/uploads/{handoff}", hook=hook)
    assert answer.json()["code"] == reason
    expected = ended(handoff, "refused") | {f"refusals_total{{reason={reason}}}": 1}
    assert grown(app, before) == expected | ({"aborts_total": aborts} if aborts else {})


def test_a_presigned_upload_is_refused_at_its_request_or_its_end(app: Api) -> None:
    """A presigned upload is refused at its request or at `complete`.

    Its URL alone is no upload.
    """
    before = numbers(app)
    assert app.send("POST", "/uploads/presigned", content=b"x", headers={"Content-Type": "application/json"}).is_error
    given = app.presign(b"never sent").json()
    assert app.send("POST", given["complete"]).json()["code"] == "object-missing"
    assert grown(app, before) == ended("presigned", "refused", 2) | {
        "refusals_total{reason=form-malformed}": 1,
        "refusals_total{reason=object-missing}": 1,
        "presigned_total": 1,
    }


@pytest.mark.parametrize(
    ("handoff", "size", "aborts"),
    [pytest.param("file", 100, 0, id="a put"), pytest.param("byte_queue", PARTS, 1, id="a multipart upload")],
)
def test_a_lost_file_is_counted_as_one(app: Api, handoff: str, size: int, aborts: int) -> None:
    """A known loss has its own outcome."""
    before = numbers(app)
    assert app.upload_file(bytes(size), handoff, "copied").json()["code"] == "file-closed"
    expected = ended(handoff, "lost") | {"failures_total{reason=file-closed}": 1}
    assert grown(app, before) == expected | ({"aborts_total": aborts} if aborts else {})


def test_an_upload_is_in_flight_until_its_client_leaves(app: Api) -> None:
    """An abandoned upload is counted, and in flight until its cleanup ends."""
    before = numbers(app)
    with half_sent(app):
        wait_for(app, "uploads_in_flight", 1)
    wait_for(app, "uploads_in_flight", 0)
    seen = grown(app, before)
    assert seen.pop("aborts_total", 1) == 1  # if S3 has the upload already
    assert seen == ended("stream", "abandoned")


def test_no_client_chooses_a_label(app: Api) -> None:
    """Unknown hand-offs and hooks, filenames and request ids create no series."""
    known = set(numbers(app)) | set(ended("unknown", "refused"))
    for made_up in ("made-up", "made_up%22%7D%0Ax", "Stream", "made/up"):
        app.upload(
            form(part("file", b"x", "made-up")), f"/uploads/{made_up}", {"X-Request-Id": "made-up"}, hook="made-up"
        )
    app.upload(form(part("file", b"x", "made-up")), "/uploads/stream", {"X-Request-Id": "made-up"})
    text = app.send("GET", "/metrics").text
    assert "made" not in text
    assert set(numbers(app)) - known <= set(stored("stream", 1))


def test_openmetrics_is_sent_on_request(app: Api) -> None:
    """A client that accepts OpenMetrics gets it; others get the older text format."""
    plain = app.send("GET", "/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    newer = app.send(
        "GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    )
    assert newer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert newer.text.endswith("# EOF\n")
