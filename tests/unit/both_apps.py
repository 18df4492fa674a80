"""Requests to both apps without a server and without S3."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flask
import pytest
from werkzeug.datastructures import Headers

import flask_app
import quart_app

CREATE: dict[str, Any] = {"flask": flask_app.create_app, "quart": quart_app.create_app}
both = pytest.mark.parametrize("create_app", [pytest.param(create, id=name) for name, create in CREATE.items()])


@dataclass(frozen=True)
class Answered:
    """An app's response."""

    status: int
    headers: Headers
    body: bytes


def send(app: Any, method: str, path: str, headers: Mapping[str, str] | None = None, data: bytes = b"") -> Answered:
    """Send a request to an app, and return its response."""
    options: dict[str, Any] = {"method": method, "headers": dict(headers or {}), "data": data}
    if isinstance(app, flask.Flask):
        answer = app.test_client().open(path, **options)
        return Answered(answer.status_code, answer.headers, answer.data)

    async def ask() -> Answered:
        answer = await app.test_client().open(path, **options)
        return Answered(answer.status_code, answer.headers, await answer.get_data())

    return asyncio.run(ask())
