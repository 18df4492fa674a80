"""A real Redis server on a Unix socket, for tests that count on it or kill it."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patience import wait_until
from programs import program

from demo.processes import start_child


class RedisServer:
    """A server without a file of its data, at `path`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        command = program("redis-server", "redis-server")
        self._command = [command, "--port", "0", "--unixsocket", str(self.path), "--dir", str(folder), "--save", ""]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with no data."""
        self.path.unlink(missing_ok=True)
        self._process = start_child(
            self._command,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.path.exists, lambda: "redis-server does not listen")

    def pause(self) -> None:
        """Stop it, so that it accepts connections and never responds."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a server for the block; a missing one is a failure in CI and a skip elsewhere."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # a socket's path has at most 107 bytes
        server = RedisServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()
