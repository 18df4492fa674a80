"""Start server processes, and end them in every case."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
#: The signals that interrupt a run.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

#: Seconds beyond its drain time that a server may take to end after SIGTERM before it is killed; the apps use up to 15
#: of them for cleanup.
GRACE_SECONDS = 20.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """A server could not be started; the message is one line for the terminal."""


class Server:
    """A child process in its own process group, listening on a socket that it inherits.

    The socket is bound before the process starts, so its port is known and taken. A program that cannot inherit a
    socket (`inherits` is False) binds the port itself, after the socket has released it. In the command, `{fd}` and
    `{port}` stand for the socket's descriptor and the port.
    """

    def __init__(  # noqa: PLR0913 - each is needed, and no two belong together
        self,
        name: str,
        command: Sequence[str],
        listener: socket.socket,
        environ: Mapping[str, str],
        *,
        log: IO[bytes] | None,
        drain_seconds: float,
        inherits: bool = True,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self.url = "http://{}:{}".format(*listener.getsockname())
        self._drain_seconds = drain_seconds
        fd, port = listener.fileno(), listener.getsockname()[1]
        with listener:
            if not inherits:
                listener.close()
            self._process = start_child(
                [part.format(fd=fd, port=port) for part in command],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd] if inherits else [],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for the end; after the allowed time, kill the rest of the group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._drain_seconds + GRACE_SECONDS)
        self.kill()
        self._process.wait()


def start_child(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process with Popen's options; on Linux it ends when this process dies.

    Ctrl-C and SIGTERM wait until it has started: Python loses a KeyboardInterrupt that comes in the midst of a fork.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        process = subprocess.Popen(command, preexec_fn=_prepare, **options)  # noqa: S603, PLW1509 - ours; takes no lock
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:  # the signal that waited
        process.kill()
        process.wait()
        raise
    return process


def _prepare() -> None:
    """In the child: let signals end it, also if this process runs in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def port_from(environ: Mapping[str, str], variable: str, default: int = 0) -> int:
    """Read a port from an environment variable.

    Raises:
        StartError: the value is no port.
    """
    text = environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the largest port
        raise StartError(f"{variable} is '{text}'; it must be a port number, or 0 for any free one")
    return int(text)


def listen(name: str, variable: str, port: int) -> socket.socket:
    """Open a listening socket on loopback; port 0 means any free one.

    Raises:
        StartError: the port is in use.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # gunicorn sets this at its start, which is too late for the connections that already wait here
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise StartError(
            f"port {port} for {name} is not available ({os.strerror(error.errno or 0)}); set {variable} to another"
        ) from None
    return listener


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module in this environment."""
    return [sys.executable, "-m", module, *arguments]


def family(pid: int) -> Iterator[int]:
    """The ids of a process and its descendants; those that end meanwhile may be missing."""
    yield pid
    children = list[str]()
    with suppress(FileNotFoundError, ProcessLookupError):  # the process ended
        for thread in (Path("/proc") / str(pid) / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended
                children += (thread / "children").read_text().split()
    for child in children:
        yield from family(int(child))


@contextmanager
def ending(servers: Sequence[Server]) -> Iterator[None]:
    """End all servers after the block, the last started first."""
    try:
        yield
    finally:
        for server in reversed(servers):
            server.terminate()
        for server in reversed(servers):
            server.wait()
