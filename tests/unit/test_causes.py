"""The three causes in words, and the report of one run."""

import io
from contextlib import nullcontext
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from quart.datastructures import FileStorage

from filehandoff.causes import CAUSES, Event, Run, report, time_limit
from filehandoff.errors import StoreUnavailable
from filehandoff.explain import CloseRecord, Moment
from filehandoff.typing_backports import override
from quart_app.causes import _run

CLOSE = CloseRecord(
    closed_by="the end of the request",
    use_instead="another hand-off",
    page="after-response",
    where="thread 'one'",
    when="1.0 ms after the view began",
    error="ValueError: closed",
    moments=(
        Moment("request arrived", 10.0),
        Moment("file closed", 10.5, "app.py:3 in view"),
        Moment("read failed", 12.0),
    ),
)


def run_of(close: CloseRecord | None, *marks: Moment) -> Run:
    """Return a run with this close and these marks of its own."""
    run = Run()
    run.close = close
    run._moments = {one.name: one for one in marks}  # noqa: SLF001 - marks of a time that the test chooses
    return run


@pytest.mark.parametrize("cause", CAUSES)
def test_an_early_close_is_reported_as_the_explainer_recorded_it(cause: str) -> None:
    """The record's error, close and remedy stand beside the cause's general explanation."""
    assert asdict(report(cause, "flask", "id-1", run_of(CLOSE))) == {
        "cause": cause,
        "framework": "flask",
        "closed": True,
        "error": "ValueError: closed",
        "closed_by": "the end of the request",
        "where": "thread 'one'",
        "when": "1.0 ms after the view began",
        "explanation": CAUSES[cause].explanation,
        "use_instead": "another hand-off",
        "events": (
            {"name": "request arrived", "elapsed_ms": 0.0, "place": None},
            {"name": "file closed", "elapsed_ms": 500.0, "place": "app.py:3 in view"},
            {"name": "read failed", "elapsed_ms": 2000.0, "place": None},
        ),
        "request_id": "id-1",
    }


@pytest.mark.parametrize("cause", CAUSES)
def test_a_run_without_an_early_close_says_so(cause: str) -> None:
    """The report has neither error nor close, says that the file was open here, and keeps the general advice."""
    here = "Here the file was still open at its last read, in quart, at this size. "
    assert asdict(report(cause, "quart", "id-1", run_of(None))) == {
        "cause": cause,
        "framework": "quart",
        "closed": False,
        "error": None,
        "closed_by": None,
        "where": None,
        "when": None,
        "explanation": here + CAUSES[cause].explanation,
        "use_instead": CAUSES[cause].use_instead,
        "events": (),
        "request_id": "id-1",
    }


def test_the_moments_of_a_run_stand_in_order() -> None:
    """The run's own moments stand among the explainer's, which replace those of the same name."""
    run = run_of(CLOSE, Moment("request arrived", 9.0), Moment("hook entered", 10.25, "an-event"))
    assert run.events() == (
        Event("request arrived", 0.0, None),
        Event("hook entered", 250.0, "an-event"),
        Event("file closed", 500.0, "app.py:3 in view"),
        Event("read failed", 2000.0, None),
    )


def test_a_run_without_an_early_close_has_its_own_moments() -> None:
    """The first moment is at 0, and a hook has the name of its event."""
    run = Run()
    run.mark("request arrived")
    run.enter_hook(event_name="before-call", params={})
    first, second = run.events()
    assert first == Event("request arrived", 0.0, None)
    assert (second.name, second.place) == ("hook entered", "before-call")
    assert second.elapsed_ms >= 0


def test_a_view_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that exceeds its time is the store's fault, and the error says how long S3 had."""
    time_limit().check()
    monkeypatch.setattr("filehandoff.causes.SECONDS", 0.0)
    with pytest.raises(StoreUnavailable, match="within 0 seconds"):
        time_limit().check()


class CountedReads(io.BytesIO):
    """A file that counts its reads."""

    reads = 0

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


async def test_a_large_file_comes_to_the_view_in_few_reads() -> None:
    """Quart's test client copies the whole body for each read, so 3 MiB are three reads and the end."""
    file, s3 = CountedReads(b"x" * 3 * 1024**2), AsyncMock()
    service: Any = SimpleNamespace(
        store=SimpleNamespace(new_client=lambda: nullcontext(s3)), settings=SimpleNamespace(bucket="b")
    )
    await _run("after_response", FileStorage(cast("Any", file), "a.bin"), service, "key", Run(), "id-1")
    assert file.reads == 4
    s3.upload_fileobj.assert_awaited_once()
