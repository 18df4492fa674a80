"""Linux's counters of a process tree (proc(5)): CPU time, memory, disk writes, threads."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
#: Low bits of the clock id of a process: CPUCLOCK_SCHED in Linux's posix-timers.h.
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True)
class Counts:
    """Counters of a process tree at one moment.

    `cpu_seconds` and `disk_bytes` count from the start of the processes, `peak_bytes` from the last `forget_peak`.
    `disk_bytes` counts writes to the page cache of a file system on a disk, even if the file is deleted before it
    reaches the disk. Pipes, sockets and memory disks do not count.
    """

    cpu_seconds: float
    resident_bytes: int
    peak_bytes: int
    disk_bytes: int
    threads: int


class ProcessTree:
    """A process with its present and future children."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def counts(self) -> Counts:
        """Read the counters; a process that has ended counts as zero."""
        pids = list(tree_pids(self.pid))
        status = [_fields(pid, "status") for pid in pids]
        return Counts(
            cpu_seconds=sum(cpu_seconds(pid) for pid in pids),
            resident_bytes=sum(fields.get("VmRSS", 0) for fields in status) * 1024,
            peak_bytes=sum(fields.get("VmHWM", 0) for fields in status) * 1024,
            disk_bytes=sum(_fields(pid, "io").get("write_bytes", 0) for pid in pids),
            threads=sum(fields.get("Threads", 0) for fields in status),
        )

    def forget_peak(self) -> None:
        """Restart the peak of memory from its present value."""
        for pid in tree_pids(self.pid):
            with suppress(OSError):
                (_PROC / str(pid) / "clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with that of its ended threads, in nanosecond resolution."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def tree_pids(pid: int) -> Iterator[int]:
    """The ids of a process and its descendants."""
    yield pid
    with suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from tree_pids(int(child))


def _fields(pid: int, name: str) -> dict[str, int]:
    """The numbers in a file of `Name: number` lines; empty if the process has ended."""
    try:
        lines = (_PROC / str(pid) / name).read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key: int(value.split()[0]) for key, _, value in pairs if value.split() and value.split()[0].isdigit()}


def busy_seconds() -> float:
    """CPU seconds that the whole machine was busy since its start."""
    user, nice, system, _idle, _waiting, *others = map(int, (_PROC / "stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + sum(others[:3])) / os.sysconf("SC_CLK_TCK")
