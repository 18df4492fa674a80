"""UPLOAD_EXPLAIN_CLOSED_FILES in both apps."""

import pytest

import flask_app
import quart_app
from filehandoff.settings import Settings
from flask_app.request import Request as FlaskRequest
from quart_app.request import Request as QuartRequest


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_the_switch_decides_whether_uploads_explain_themselves(monkeypatch: pytest.MonkeyPatch, on: bool) -> None:  # noqa: FBT001 - parametrised
    """The setting decides whether each app's request class is the explaining subclass."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "any")
    # no server listens there; an app only logs this at its start
    settings = Settings(s3_endpoint_url="http://127.0.0.1:9", s3_attempts=1, explain_closed_files=on)
    for app, own in (
        (flask_app.create_app(settings), FlaskRequest),
        (quart_app.create_app(settings), QuartRequest),
    ):
        assert issubclass(app.request_class, own)
        assert (app.request_class is not own) is on
