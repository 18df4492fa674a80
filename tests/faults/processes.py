"""Linux's counters of an app's processes: memory, threads, bytes written, connections."""

from contextlib import suppress
from pathlib import Path

from demo.processes import family

#: The state of an open connection in /proc/net/tcp (tcp_states.h in Linux).
_ESTABLISHED = "01"


class Processes:
    """A process and its children."""

    def __init__(self, pid: int) -> None:
        self._folders = [Path("/proc") / str(each) for each in family(pid)]

    def forget_peak(self) -> None:
        """Restart the peak (proc(5), clear_refs)."""
        for folder in self._folders:
            (folder / "clear_refs").write_text("5")

    def resident(self) -> int:
        """Bytes in memory now."""
        return self._sum("status", "VmRSS:") * 1024

    def peak(self) -> int:
        """Most bytes in memory since `forget_peak`."""
        return self._sum("status", "VmHWM:") * 1024

    def written(self) -> int:
        """Bytes passed to `write`, for files, pipes and terminals; sockets use `send`, except uvloop's."""
        return self._sum("io", "wchar:")

    def threads(self) -> int:
        """Number of running threads."""
        return self._sum("status", "Threads:")

    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return sum(len(list((folder / "fd").iterdir())) for folder in self._folders)

    def connections(self, port: int) -> int:
        """Number of open connections to a port of loopback."""
        return len(self._unsent(port))

    def stuck_connections(self, port: int) -> int:
        """Number of those with bytes that the other side does not take."""
        return sum(size > 0 for size in self._unsent(port))

    def _unsent(self, port: int) -> list[int]:
        """Bytes that wait in the system, for each open connection to a port (proc(5), /proc/net/tcp)."""
        sockets = set()
        for folder in self._folders:
            for fd in (folder / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    sockets.add(str(fd.readlink()))
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [
            int(line[4].partition(":")[0], 16)
            for line in lines
            if int(line[2].partition(":")[2], 16) == port
            and line[3] == _ESTABLISHED
            and f"socket:[{line[9]}]" in sockets
        ]

    def _sum(self, file: str, name: str) -> int:
        lines = [line.split() for folder in self._folders for line in (folder / file).read_text().splitlines()]
        return sum(int(line[1]) for line in lines if line[0] == name)
