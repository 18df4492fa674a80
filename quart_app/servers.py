"""The listening sockets of both ASGI servers, and the check of their versions."""

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
        OSError: the address is malformed or unavailable; the message is one line with the address.
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
    """Return whether an installed server has a known version.

    Exits if a server of another version loads this app.

    Args:
        server: the name of its distribution.
        known: the beginning of its known versions.
        loader: the server's module that loads the app.
    """
    found = version(server)
    if not found.startswith(known) and _is_called_by(loader):
        sys.exit(f"quart_app: {server} {found} cannot run this app safely; install {server} {known}x")
    return found.startswith(known)


def _is_called_by(module: str) -> bool:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - inspect.stack() would read every source file
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None
