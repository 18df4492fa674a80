"""The apps' responses, as other code in the same app handles them."""

import asyncio
from collections.abc import Callable
from typing import Any

import flask
import pytest
from unit.both_apps import both

from filehandoff.settings import Settings


def length(app: Any, path: str) -> str:
    """Send a request to an app, past the framework's test client; return its response's Content-Length."""
    if isinstance(app, flask.Flask):
        with app.test_request_context(path):
            return app.full_dispatch_request().headers["Content-Length"]

    async def ask() -> str:
        async with app.test_request_context(path) as context:
            response = await app.full_dispatch_request(context)
            return str(response.headers["Content-Length"])

    return asyncio.run(ask())


@both
@pytest.mark.parametrize("path", ["/healthz", "/nothing"])
def test_a_replaced_body_has_its_own_length(create_app: Callable[..., Any], path: str) -> None:
    """A function of `after_request` may replace a body; otherwise a client would wait for the rest of the first one."""
    app = create_app(Settings(s3_endpoint_url="http://127.0.0.1:9"))

    def replace(response: Any) -> Any:
        response.set_data(b"shorter")
        return response

    app.after_request(replace)
    assert length(app, path) == "7"
