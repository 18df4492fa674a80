"""Spans of requests and of calls to S3, while UPLOAD_TRACES is on.

`filehandoff.tracing` makes them.
"""

from typing import Any

from flask import Flask, Response

from filehandoff.s3.calls import Step
from filehandoff.tracing import request_span, step_span
from filehandoff.typing_backports import override
from flask_app.store import Store
from flask_app.views import current


class TracedStore(Store):
    """A store with a span for each call."""

    @override
    def perform(self, step: Step[Any]) -> Any:
        with step_span(step, self._settings.bucket):
            return super().perform(step)


def trace_requests(app: Flask) -> None:
    """Trace every request from before its first check to the end of its response.

    Call it before the routes are registered.
    """
    app.before_request(begin)
    app.after_request(respond)


def begin() -> None:
    """Begin the request's span."""
    _, sent = current()
    sent.trace = sent.until_answered.enter_context(request_span(sent))


def respond(response: Response) -> Response:
    """Add the status to the request's span."""
    _, sent = current()
    if sent.trace is not None:
        sent.trace.respond(response.status_code)
    return response
