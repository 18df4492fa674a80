"""Listening sockets by the names that servers give them: HOST:PORT, unix:PATH, fd://NUMBER."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, SO_REUSEADDR, SOL_SOCKET, TCP_NODELAY, socket

#: Connections that may wait to be accepted.
BACKLOG = 1024


def listen(bind: str) -> socket:
    """A listening socket.

    Raises:
        OSError: the address cannot be had, or is none; one line that names it.
    """
    try:
        listener = _bound(bind)
        listener.listen(BACKLOG)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OSError(f"cannot listen on {bind}: {reason}") from None
    return listener


def _bound(bind: str) -> socket:
    if bind.startswith("fd://"):
        return socket(fileno=int(bind.removeprefix("fd://")))
    if bind.startswith("unix:"):
        return _bound_to_path(bind.removeprefix("unix:"))
    host, _, port = bind.rpartition(":")
    listener = socket(AF_INET6 if ":" in host else AF_INET)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    listener.bind((host.strip("[]"), int(port)))
    return listener


def _bound_to_path(path: str) -> socket:
    """Replace the socket file that an earlier process left, and nothing else."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a path as it was given
            Path(path).unlink()
    listener = socket(AF_UNIX)
    listener.bind(path)
    return listener
