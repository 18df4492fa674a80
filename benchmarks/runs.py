"""A run on disk: `run.json`, and every request in `requests.jsonl.gz`.

The report is made from these two files alone.
"""

import gzip
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.plans import Cell
from benchmarks.targets import Target

FORMAT = 3
SUMMARY, REQUESTS = "run.json", "requests.jsonl.gz"


class NoRun(Exception):
    """There is no readable run in the folder; a one-line message."""


@dataclass
class Run:
    """A run's plan, environment and records.

    A trial locates its requests by offset and length; `profiles` are by cell id. `measured_again` counts the trials
    that were replaced because the machine was not quiet.
    """

    plan: str
    rounds: int
    seconds: float
    seed: int
    own_peers: list[str]
    cells: list[dict[str, Any]]
    targets: dict[str, dict[str, Any]]
    environment: dict[str, Any]
    began: str
    sink: list[dict[str, Any]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured_again: int = 0
    complete: bool = False
    format: int = FORMAT

    def measured_cells(self) -> list[Cell]:
        """The planned cells."""
        return [Cell(**{**cell, "levels": tuple(cell["levels"])}) for cell in self.cells]


def described(target: Target) -> dict[str, Any]:
    """The properties of a target that a report needs."""
    return {
        "label": target.label,
        "framework": target.framework,
        "server": target.server.name,
        "handoff": target.handoff,
        "hook": target.hook,
        "is_ours": target.is_ours,
        "as_form": target.as_form,
    }


@dataclass
class RunFolder:
    """The folder of an unfinished run."""

    folder: Path
    run: Run

    @classmethod
    def create(cls, folder: Path, run: Run) -> Self:
        """Start a run in a new or empty folder.

        Raises:
            NoRun: the folder holds a run or cannot be written.
        """
        if (folder / SUMMARY).exists():
            raise NoRun(f"{folder} already holds a run; continue it with --resume, or name another folder with --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            created = cls(folder, run)
            created.save()
        except OSError as error:
            raise NoRun(f"cannot write to {folder}: {os.strerror(error.errno or 0)}") from None
        return created

    @classmethod
    def resume(cls, folder: Path) -> Self:
        """Continue an interrupted run; skipped trials are tried again.

        Raises:
            NoRun: there is no readable run.
        """
        resumed = cls(folder, load(folder))
        resumed.run.trials = [trial for trial in resumed.run.trials if trial["status"] != "skipped"]
        with suppress(FileNotFoundError):
            os.truncate(folder / REQUESTS, resumed._end)  # drop requests that a killed run did not record
        return resumed

    def measure_again(self, trials: Collection[tuple[str, int]]) -> None:
        """Drop trials, by cell id and round, so that they are measured again."""
        kept = [trial for trial in self.run.trials if (trial["cell"], trial["round"]) not in trials]
        self.run.measured_again += len(self.run.trials) - len(kept)
        self.run.trials, self.run.complete = kept, False

    @property
    def _end(self) -> int:
        return max((trial["offset"] + trial["length"] for trial in self.run.trials), default=0)

    def add(self, trial: dict[str, Any], lines: Sequence[dict[str, Any]]) -> None:
        """Append a trial and its requests.

        If these cannot be written, record the trial as failed.
        """
        offset = self._end
        data = gzip.compress("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode(), 6)
        try:
            with (self.folder / REQUESTS).open("ab") as file:
                file.write(data)
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.folder / REQUESTS, offset)
            reason = f"cannot write its requests: {os.strerror(error.errno or 0)}"
            trial, data = {**trial, "status": "failed", "reason": reason, "levels": {}}, b""
        self.run.trials.append({**trial, "offset": offset, "length": len(data)})
        with suppress(OSError):  # the next trial or the end of the run writes it again
            self.save()

    def save(self) -> None:
        """Write `run.json` atomically.

        Raises:
            OSError: it cannot be written.
        """
        temporary = self.folder / f"{SUMMARY}.new"
        temporary.write_text(json.dumps(asdict(self.run), indent=1), "utf-8")
        temporary.replace(self.folder / SUMMARY)


def load(folder: Path) -> Run:
    """Load the run in a folder.

    Raises:
        NoRun: there is none, or it has another format.
    """
    try:
        values = json.loads((folder / SUMMARY).read_text("utf-8"))
        if values["format"] != FORMAT:
            raise NoRun(f"the run in {folder} has format {values['format']}, but this program reads format {FORMAT}")
        return Run(**values)
    except OSError as error:
        raise NoRun(f"there is no run in {folder}: {os.strerror(error.errno or 0)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NoRun(f"{folder / SUMMARY} is not the record of a run: {error!r}") from None


def requests(folder: Path, trial: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the requests of a trial.

    Raises:
        NoRun: they are missing or damaged.
    """
    try:
        with (folder / REQUESTS).open("rb") as file:
            file.seek(trial["offset"])
            data = file.read(trial["length"])
        yield from (json.loads(line) for line in gzip.decompress(data).splitlines())
    except (OSError, EOFError, ValueError) as error:
        raise NoRun(f"cannot read {folder / REQUESTS}: {error}") from None
