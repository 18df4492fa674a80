"""The outcome of uploads that end with their client or their process."""

import asyncio
import logging

import pytest

from filehandoff.errors import Overloaded
from filehandoff.settings import Settings
from quart_app import create_app
from quart_app.service import service
from quart_app.views import counted, request


@pytest.mark.parametrize(
    ("left", "error", "outcome"),
    [
        pytest.param(True, asyncio.CancelledError, "abandoned", id="its client has gone"),
        pytest.param(False, Overloaded, "refused", id="its client waits"),
    ],
)
async def test_an_upload_that_the_end_of_the_process_stops(
    caplog: pytest.LogCaptureFixture,
    left: bool,  # noqa: FBT001 - parametrised
    error: type[BaseException],
    outcome: str,
) -> None:
    """The upload is counted as refused, or as abandoned if its client has disconnected."""
    async with create_app(Settings()).test_request_context("/uploads", method="POST"):
        request.body.disconnected = left  # type: ignore[attr-defined] # ours has it
        with caplog.at_level(logging.INFO), pytest.raises(error), counted("stream"):
            raise Overloaded("…")
        value = service().metrics.registry.get_sample_value(
            "handoff_uploads_total", {"handoff": "stream", "outcome": outcome}
        )
    assert value == 1
    assert [record.getMessage() for record in caplog.records] == ["abandoned"] * left
