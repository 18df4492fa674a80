"""The records of the stages that ended, in `build/evidence/COMMIT/`, and how long each took.

The newest record of each stage is also in `docs/evidence/records.json`, so that another checkout goes on with the page.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
#: The files that the stages write. A commit that changes only these is no new code.
WRITTEN = (
    *("docs/evidence.md", "docs/evidence", "docs/faults.md", "docs/matrix.md", "docs/matrix.json"),
    *("docs/benchmark.md", "docs/benchmark"),
)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Record:
    """The end of a stage; `clean` is whether the work tree was its commit's, before and after."""

    stage: str
    commit: str
    outcome: str
    began: str
    seconds: float = 0.0
    reason: str = ""
    clean: bool = True
    figures: Sequence[str] = ()
    left_out: Sequence[str] = ()
    excerpt: str = ""


@dataclass
class State:
    """All records of a folder: a list for each commit and stage, the newest last."""

    folder: Path
    records: list[Record] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, *more: Path) -> "State":
        """Read the records of all commits, and those of the other files that exist."""
        state = cls(folder)
        for path in [*folder.glob("*/records.json"), *(path for path in more if path.exists())]:
            read = [Record(**one) for one in json.loads(path.read_text("utf-8"))]
            state.records += [one for one in read if one not in state.records]
        state.records.sort(key=lambda record: record.began)
        if (durations := folder / "durations.json").exists():
            state.seconds = json.loads(durations.read_text("utf-8"))
        return state

    def add(self, record: Record) -> None:
        """Keep a record, and the stage's duration for later estimates."""
        self.records.append(record)
        same = [asdict(one) for one in self.records if one.commit == record.commit]
        _write(self.folder / record.commit / "records.json", same)
        if record.outcome != SKIPPED:
            self.seconds[record.stage] = record.seconds
            _write(self.folder / "durations.json", self.seconds)

    def keep(self, path: Path, commit: str, stages: Sequence[str]) -> None:
        """Write the newest records of these stages, those at this commit first, to one file."""
        newest = [self.newest(commit, stage) for stage in stages]
        _write(path, [asdict(one) for one in newest if one is not None])

    def at(self, commit: str, stage: str) -> list[Record]:
        """The records of a stage at a commit, the newest last."""
        return [one for one in self.records if (one.commit, one.stage) == (commit, stage)]

    def newest(self, commit: str, stage: str) -> Record | None:
        """The newest record of a stage at this commit, or else at another."""
        found = self.at(commit, stage) or [one for one in self.records if one.stage == stage]
        return found[-1] if found else None

    def is_done(self, commit: str, stage: str, *, named: bool) -> bool:
        """Whether a stage need not run: it passed, or it failed and was not named."""
        found = self.at(commit, stage)
        return bool(found) and (found[-1].outcome == PASSED or (found[-1].outcome == FAILED and not named))

    def left(self, stages: Sequence[tuple[str, float]]) -> float:
        """The estimated seconds of stages, each with a guess for its first run."""
        return sum(self.seconds.get(name, guess) for name, guess in stages)


def _write(path: Path, content: Any) -> None:
    """Replace a file at once, so that an interruption leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    new.replace(path)


def code_commit(root: Path) -> str:
    """The last commit that changed more than the files of `WRITTEN`."""
    return _git(root, "log", "-1", "--format=%H", "--", ".", *_others()) or UNKNOWN


def is_clean(root: Path) -> bool:
    """Whether the work tree, but for the files of `WRITTEN`, is that of its commit."""
    return code_commit(root) != UNKNOWN and not _git(root, "status", "--porcelain", "--", ".", *_others())


def _others() -> list[str]:
    return [f":(exclude){path}" for path in WRITTEN]


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - ours
    except (OSError, subprocess.CalledProcessError):
        return ""


def duration(seconds: float) -> str:
    """A duration, as a person reads it."""
    if seconds < 90:  # noqa: PLR2004 - seconds are too fine above it
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004 - minutes are too fine above it
