"""Which processes run."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def alive(pids: Iterable[int]) -> list[int]:
    """Return the ids of the running ones.

    A process that has ended is a zombie until its parent asks for its status. The parent of an orphan is the process 1,
    which may take its time, or never ask.
    """
    running = []
    for pid in pids:
        with suppress(OSError):  # there is no such process any more
            if Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z":
                running.append(pid)
    return running
