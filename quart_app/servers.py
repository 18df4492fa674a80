"""For both ASGI servers: their listening sockets, and whether one that runs this app is a known version."""

import sys
from importlib.metadata import version
from socket import socket
from types import FrameType

from hypercorn.config import Config

#: Connections that may wait to be accepted.
BACKLOG = 1024


def listen(bind: str) -> socket:
    """Return a listening socket: HOST:PORT, unix:PATH or fd://NUMBER.

    Raises:
        OSError: the address cannot be had, or is none; one line that names it.
    """
    config = Config()
    config.bind = [bind]
    try:
        (listener,) = config.create_sockets().insecure_sockets
        listener.listen(BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OSError(f"cannot listen on {bind}: {reason}") from None
    return listener


def is_known(server: str, known: str, loader: str) -> bool:
    """Return whether an installed server is a known version; end the start if it is not, and loads this app.

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
