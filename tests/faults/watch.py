"""Watch an app's process from outside: tasks, threads, sockets, files and memory."""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import wait_until

from demo.processes import family

#: Threads of pools that gunicorn, asyncio and Flask's app keep for reuse.
_POOLED = re.compile(r"ThreadPoolExecutor-\d+_\d+|asyncio_\d+|s3-call")


def watched(folder: Path) -> dict[str, str]:
    """The environment of a watched app; the folder receives its answers."""
    here = str(Path(__file__).parent / "watched")
    python_path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": python_path, "WATCH_FOLDER": str(folder)}


@dataclass(frozen=True)
class Held:
    """A process's tasks, threads and descriptors; files are counted by path."""

    tasks: Counter[str]
    threads: Counter[str]
    descriptors: Counter[str]

    def beyond(self, other: "Held") -> Counter[str]:
        """The counts here that exceed those there."""
        return (self.tasks - other.tasks) + (self.threads - other.threads) + (self.descriptors - other.descriptors)


class Watch:
    """The serving process: gunicorn's worker, or hypercorn itself."""

    def __init__(self, pid: int, environ: Mapping[str, str]) -> None:
        *_, self.pid = family(pid)
        self._answer = Path(environ["WATCH_FOLDER"]) / f"{self.pid}.json"

    def held(self) -> Held:
        """Read its present resources."""
        answer = self._ask(signal.SIGRTMIN)
        own = Counter(name for name in answer["threads"] if not _POOLED.fullmatch(name))
        return Held(Counter(answer["tasks"]), own, self._descriptors())

    def memory(self) -> int:
        """Bytes that Python allocated since the first call; from then on the process is slower."""
        return int(self._ask(signal.SIGRTMIN + 1)["bytes"])

    def _descriptors(self) -> Counter[str]:
        kinds: Counter[str] = Counter()
        for fd in (Path("/proc") / str(self.pid) / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                kinds[re.sub(r":\[\d+\]$", "", str(fd.readlink()))] += 1
        return kinds

    def _ask(self, number: int) -> dict[str, Any]:
        os.kill(self.pid, number)
        wait_until(self._answer.exists, lambda: f"process {self.pid} does not answer")
        answer: dict[str, Any] = json.loads(self._answer.read_text())
        self._answer.unlink()
        return answer
