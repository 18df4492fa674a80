"""What Linux counts of an app's processes: memory, threads, bytes written."""

from collections.abc import Iterator
from pathlib import Path


class Processes:
    """A process and its children."""

    def __init__(self, pid: int) -> None:
        self._folders = [Path("/proc") / str(each) for each in family(pid)]

    def forget_peak(self) -> None:
        """Count the peak from now on (proc(5), clear_refs)."""
        for folder in self._folders:
            (folder / "clear_refs").write_text("5")

    def resident(self) -> int:
        """Bytes in memory now."""
        return self._sum("status", "VmRSS:") * 1024

    def peak(self) -> int:
        """The most bytes in memory since `forget_peak`."""
        return self._sum("status", "VmHWM:") * 1024

    def written(self) -> int:
        """Bytes given to `write`: to files, pipes and terminals, whatever lies below; sockets are sent to."""
        return self._sum("io", "wchar:")

    def threads(self) -> int:
        """How many run."""
        return self._sum("status", "Threads:")

    def _sum(self, file: str, name: str) -> int:
        lines = [line.split() for folder in self._folders for line in (folder / file).read_text().splitlines()]
        return sum(int(line[1]) for line in lines if line[0] == name)


def family(pid: int) -> Iterator[int]:
    """A process, its children, theirs."""
    yield pid
    for tasks in (Path("/proc") / str(pid) / "task").iterdir():
        for child in (tasks / "children").read_text().split():
            yield from family(int(child))
