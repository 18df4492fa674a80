"""Explain each closed upload in an app of Flask, Quart, Starlette, FastAPI or Django: its closer and a fix.

    from filehandoff.explain import explain_closed_files

    explain_closed_files(app)

From then on an error from reading, seeking, iterating or handing on a closed upload carries an exception note (PEP
678). Nothing of the frameworks or of boto is patched: a request of the app gets a subclass of its own class, whose form
has files that record their close.
"""

import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import PurePath
from typing import Any

from filehandoff.explain.closing import is_app
from filehandoff.explain.note import OPENING, RECORD, CloseRecord, Moment, error_chain

__all__ = ["CloseRecord", "Moment", "close_record", "explain_closed_files", "explanation"]


#: The module for each kind of app, by the kind's package and class. Only the app's own framework is imported.
_MODULES = {
    ("quart", "Quart"): "_quart",
    ("flask", "Flask"): "_flask",
    ("starlette", "Starlette"): "_starlette",  # FastAPI is a subclass
    ("django", "BaseHandler"): "_django",
}


def explain_closed_files(app: Any) -> None:
    """Make the app's uploads explain the errors of their closed files.

    In Flask and Quart, call it after setting `app.request_class`, if the app sets one: the new class is a subclass of
    it. In Django, the app is the handler that `get_wsgi_application` or `get_asgi_application` returns. A second call
    does nothing.

    Raises:
        TypeError: the app is of another framework, or its request class forbids subclasses.
        RuntimeError: the app of Starlette or FastAPI has handled a request, so it accepts no further middleware.
    """
    if any((cls.__module__, cls.__name__) == ("werkzeug.local", "LocalProxy") for cls in type(app).__mro__):
        app = app._get_current_object()  # noqa: SLF001 - documented despite its underscore
    module = next((module for kind, module in _MODULES.items() if is_app(app, kind)), None)
    if module is None:
        raise TypeError(
            "explain_closed_files takes an app of Flask, Quart, Starlette or FastAPI, or a handler of Django, "
            f"not {type(app).__name__}"
        )
    import_module(f"filehandoff.explain.{module}").explain(app)


def explanation(error: BaseException) -> str | None:
    """Return the note from an error, or from the errors that led to it.

    The note shows no folders of this machine. None if no closed upload is involved.
    """
    for one in error_chain(error):
        for note in getattr(one, "__notes__", ()):
            if note.startswith(OPENING):
                return _without_folders(note)
    return None


def close_record(error: BaseException) -> CloseRecord | None:
    """The close that the explanation of an error is about, as a value; its paths are without this machine's folders."""
    for one in error_chain(error):
        record: CloseRecord | None = vars(one).get(RECORD)
        if record is not None:
            text = f"{type(one).__name__}: {one}"
            skipped = record.skipped and _without_folders(record.skipped)
            moments = tuple(replace(one, place=one.place and _without_folders(one.place)) for one in record.moments)
            closed_by = _without_folders(record.closed_by)
            return replace(record, closed_by=closed_by, skipped=skipped, error=text, moments=moments)
    return None


def _without_folders(note: str) -> str:
    """Shorten the note's paths to the part below `sys.path`, or to the name."""

    def shorten(match: re.Match[str]) -> str:
        path = PurePath(match[0])
        folders = [PurePath(folder) for folder in sys.path if folder and path.is_relative_to(folder)]
        # The longest: site-packages lies in a folder that is itself on the path.
        return str(path.relative_to(max(folders, key=lambda folder: len(folder.parts)))) if folders else path.name

    return re.sub(r"(?<![\w.:/])(?:[A-Za-z]:)?[\\/][^\n:`'\"]*?\.py\b", shorten, note)
