"""Whether the server that loads this app is a version whose internals we know."""

import sys
from importlib.metadata import version
from types import FrameType


def is_known(server: str, known: str, loader: str) -> bool:
    """Whether an installed server is a known version; if it is not, and loads this app, the start ends here.

    Args:
        server: the name of its distribution.
        known: how a known version begins.
        loader: the module that calls for the app where this server runs it.
    """
    found = version(server)
    if not found.startswith(known) and _is_called_by(loader):
        sys.exit(f"quart_app: {server} {found} runs this app, but only {known}x is known to be made safe")
    return found.startswith(known)


def _is_called_by(module: str) -> bool:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - inspect.stack() would read every source file
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None
