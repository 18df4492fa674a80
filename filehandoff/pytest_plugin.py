"""The pytest plugin: `pytest --explain-closed-files` enables the explainer in each Flask and Quart app.

Only that option imports the explainer, because pytest loads every installed plugin at each start. The plugin finds an
app when the app pushes a context, by the frameworks' signal `appcontext_pushed`.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

import pytest

#: Most frames between the pushed context and the signal's receiver.
_CALLS = 12
#: The session's header lines about frameworks that fail to import.
_UNUSABLE = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("filehandoff").addoption(
        "--explain-closed-files",
        action="store_true",
        help="let errors of closed uploads say who closed them, in every Flask and Quart app",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Listen for apps until the end of the session, if the option is set."""
    if config.getoption("explain_closed_files"):
        for name, receiver in (("flask", _flask_pushed), ("quart", _quart_pushed)):
            if find_spec(name):
                _listen(config, name, receiver)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name installed frameworks that fail to import; a suite of the other framework still runs."""
    return config.stash.get(_UNUSABLE, [])


def _listen(config: pytest.Config, name: str, receiver: Callable[..., Any]) -> None:
    try:
        pushed = import_module(name).appcontext_pushed
        pushed.connect(receiver)
    except ImportError as error:
        header = f"--explain-closed-files: explains no app of {name}, which fails to import: {error}"
        config.stash.setdefault(_UNUSABLE, []).append(header)
    except RuntimeError as error:  # Flask 2.2 without blinker has no signals
        raise pytest.UsageError(f"--explain-closed-files needs {name}'s signals: {error}") from None
    else:
        config.add_cleanup(partial(pushed.disconnect, receiver))


def _flask_pushed(app: Any, **_more: object) -> None:
    _explain(app, sys._getframe(1))  # noqa: SLF001 - its callers include the pushed context


async def _quart_pushed(app: Any, **_more: object) -> None:
    _explain(app, sys._getframe(1))  # noqa: SLF001 - its callers include the pushed context


def _explain(app: Any, frame: FrameType | None) -> None:
    """Explain an app and its first request, which exists before the signal."""
    from filehandoff.explain import explain_closed_files  # noqa: PLC0415 - only with the option

    explain_closed_files(app)
    for _ in range(_CALLS):
        if frame is None:
            return
        context = getattr(frame.f_locals.get("self"), "__dict__", {})
        request: Any = context.get("request") or context.get("_request")
        owner: Any = context.get("app")
        if request is not None and owner is app:
            _become(request, app.request_class)
            return
        frame = frame.f_back


def _become(request: Any, request_class: Any) -> None:
    if request_class.__bases__[-1] is type(request):
        object.__setattr__(request, "__class__", request_class)  # the class's own __setattr__ may raise
