"""The pytest plugin: `pytest --explain-closed-files` enables the explainer in each app of a test suite.

Only that option imports the explainer, because pytest loads every installed plugin at each start. The plugin finds an
app of Flask or Quart when the app pushes a context, by the frameworks' signal `appcontext_pushed`. Starlette and Django
have no such signal, so the plugin replaces a method of theirs for the session, and calls the original.
"""

import sys
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

import pytest

#: Most frames between the pushed context and the signal's receiver.
_CALLS = 12
#: A context's attribute with its request, in Flask, in newer Flask and Quart, and in Quart before 0.23.
_REQUEST = ("request", "_request", "request_websocket")
#: The session's header lines about frameworks that fail to import.
_UNUSABLE = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("filehandoff").addoption(
        "--explain-closed-files",
        action="store_true",
        help="let errors of closed uploads name their closer, in every app of Flask, Quart, Starlette, FastAPI, Django",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Listen for apps until the end of the session, if the option is set."""
    if config.getoption("explain_closed_files"):
        for name, listen in _LISTEN.items():
            if find_spec(name):
                try:
                    listen(config)
                except ImportError as error:
                    header = f"--explain-closed-files: explains no app of {name}, which fails to import: {error}"
                    config.stash.setdefault(_UNUSABLE, []).append(header)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name installed frameworks that fail to import; a suite of another framework still runs."""
    return config.stash.get(_UNUSABLE, [])


def _listen(name: str, receiver: Callable[..., Any], config: pytest.Config) -> None:
    pushed = import_module(name).appcontext_pushed
    try:
        pushed.connect(receiver)
    except RuntimeError as error:  # Flask 2.2 without blinker has no signals
        raise pytest.UsageError(f"--explain-closed-files needs {name}'s signals: {error}") from None
    config.add_cleanup(partial(pushed.disconnect, receiver))


def _replace(module: str, kind: str, name: str, config: pytest.Config) -> None:
    """Explain each app in a method that runs before the app's first request."""
    cls = getattr(import_module(module), kind)
    method = getattr(cls, name)

    @wraps(method)
    def explained(app: Any, *arguments: Any, **options: Any) -> Any:
        _explain_app(app)
        return method(app, *arguments, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(cls, name, explained)
    config.add_cleanup(patch.undo)


def _flask_pushed(app: Any, **_more: object) -> None:
    _explain(app, sys._getframe(1))  # noqa: SLF001 - its callers include the pushed context


async def _quart_pushed(app: Any, **_more: object) -> None:
    _explain(app, sys._getframe(1))  # noqa: SLF001 - its callers include the pushed context


def _explain(app: Any, frame: FrameType | None) -> None:
    """Explain an app and its first request, which exists before the signal."""
    _explain_app(app)
    for _ in range(_CALLS):
        if frame is None:
            return
        context = getattr(frame.f_locals.get("self"), "__dict__", {})
        request: Any = next((context[name] for name in _REQUEST if context.get(name)), None)
        owner: Any = context.get("app")
        if request is not None and owner is app:
            _become(request, app.request_class)
            return
        frame = frame.f_back


def _explain_app(app: Any) -> None:
    from filehandoff.explain import explain_closed_files  # noqa: PLC0415 - only with the option

    explain_closed_files(app)


def _become(request: Any, request_class: Any) -> None:
    if request_class.__bases__[-1] is type(request):
        object.__setattr__(request, "__class__", request_class)  # the class's own __setattr__ may raise


#: For each framework, the function that finds its apps.
_LISTEN = {
    "flask": partial(_listen, "flask", _flask_pushed),
    "quart": partial(_listen, "quart", _quart_pushed),
    "starlette": partial(_replace, "starlette.applications", "Starlette", "build_middleware_stack"),
    "fastapi": partial(_replace, "fastapi", "FastAPI", "build_middleware_stack"),  # its own, in most versions
    "django": partial(_replace, "django.core.handlers.base", "BaseHandler", "load_middleware"),
}
