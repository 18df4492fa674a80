"""Explain each closed upload in a Flask or Quart app: its closer and a fix.

    from filehandoff.explain import explain_closed_files

    explain_closed_files(app)

From then on an error from reading, seeking, iterating or handing on a closed upload carries an exception note (PEP
678). Nothing of Flask, Quart, Werkzeug or boto is patched: the app gets a subclass of its own request class, whose form
parser returns files that record their close.
"""

import re
import sys
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from filehandoff.explain.closing import is_app
from filehandoff.explain.note import OPENING, RECORD, CloseRecord, error_chain

__all__ = ["CloseRecord", "close_record", "explain_closed_files", "explanation"]


def explain_closed_files(app: Any) -> None:
    """Make the app's uploads explain the errors of their closed files.

    Call it after setting `app.request_class`, if the app sets one: the new class is a subclass of it. A second call
    does nothing.

    Raises:
        TypeError: the app is neither Flask nor Quart, or its request class forbids subclasses.
    """
    if any((cls.__module__, cls.__name__) == ("werkzeug.local", "LocalProxy") for cls in type(app).__mro__):
        app = app._get_current_object()  # noqa: SLF001 - documented despite its underscore
    if is_app(app, ("quart", "Quart")):
        from filehandoff.explain import _quart as framework  # noqa: PLC0415 - Quart may be missing
    elif is_app(app, ("flask", "Flask")):
        from filehandoff.explain import _flask as framework  # type: ignore[no-redef] # noqa: PLC0415 - Flask may be missing
    else:
        raise TypeError(f"explain_closed_files takes a Flask or a Quart app, not {type(app).__name__}")
    framework.explain(app)


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
            return replace(record, closed_by=_without_folders(record.closed_by), error=text)
    return None


def _without_folders(note: str) -> str:
    """Shorten the note's paths to the part below `sys.path`, or to the name."""

    def shorten(match: re.Match[str]) -> str:
        path = PurePath(match[0])
        folders = [PurePath(folder) for folder in sys.path if folder and path.is_relative_to(folder)]
        # The longest: site-packages lies in a folder that is itself on the path.
        return str(path.relative_to(max(folders, key=lambda folder: len(folder.parts)))) if folders else path.name

    return re.sub(r"(?<![\w.:/])(?:[A-Za-z]:)?[\\/][^\n:`'\"]*?\.py\b", shorten, note)
