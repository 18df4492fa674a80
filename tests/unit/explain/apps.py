"""A Flask or Quart app with one view, for one uploaded file."""

import asyncio
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, TypeAlias

import pytest
from flask.ctx import AppContext
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder

from filehandoff.explain import explain_closed_files

#: Bytes of a file that stays in memory, and of one that the form parser writes to disk.
SIZES = {"in memory": 100, "rolled over": 600_000}
#: Both frameworks, except in an environment whose Flask is too old for Quart.
FRAMEWORKS = tuple(name for name in ("flask", "quart") if find_spec(name))
NEEDS_QUART = pytest.mark.skipif("quart" not in FRAMEWORKS, reason="no Quart takes a Flask as old as this")
#: The name of Flask's current request context, which is the app context since Flask 3.2: that one can be copied.
REQUEST_CONTEXT = "app_ctx" if hasattr(AppContext, "copy") else "request_ctx"

View: TypeAlias = Callable[[FileStorage], Any]


def make_app(framework: str, view: View, *, explained: bool = True, request_class: Any = None) -> Any:
    """Return an app that passes the uploaded file to `view`, and raises its errors."""
    module = import_module(framework)
    app = module.Flask(__name__) if framework == "flask" else module.Quart(__name__)
    app.testing = True
    if request_class is not None:
        app.request_class = request_class
    if explained:
        explain_closed_files(app)

    def flask_view() -> str:
        view(module.request.files["photo"])
        return "done"

    async def quart_view() -> str:
        try:
            answer = view((await module.request.files)["photo"])
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:
            app.extensions["failed"] = error  # otherwise Quart's test client returns a 500
            raise
        return "done"

    app.post("/")(flask_view if framework == "flask" else quart_view)
    return app


def post(app: Any, data: bytes, filename: str = "hello.txt") -> Any:
    """Send one file to an app and finish its request; raise the view's error."""
    if hasattr(app, "asgi_app"):
        answer = asyncio.run(app.test_client().post("/", files={"photo": FileStorage(BytesIO(data), filename)}))
        if "failed" in app.extensions:
            raise app.extensions.pop("failed")
        return answer
    environ = EnvironBuilder("/", method="POST", data={"photo": (BytesIO(data), filename)}).get_environ()
    try:
        return app.test_client().open(environ)
    finally:
        environ["wsgi.input"].close()  # on disk, if the file is large


def request_context() -> Any:
    """Return Flask's current request context."""
    return getattr(import_module("flask.globals"), REQUEST_CONTEXT)


def closed_by_the_end(framework: str, size: int, **options: Any) -> FileStorage:
    """Return an upload whose request has ended."""
    kept: list[FileStorage] = []
    data = (b"a line\n" * size)[:size]
    post(make_app(framework, kept.append, **options), data)
    return kept[0]


def notes(error: BaseException) -> list[str]:
    """Return the notes of an error."""
    return getattr(error, "__notes__", [])
