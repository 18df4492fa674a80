"""The stages: command, needs, and the lines and tables that each log gives."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from demo import stores
from demo.processes import StartError
from evidence import tables

#: Returns why a stage cannot run here; None if it can.
Need = Callable[[], str | None]
#: Folders of programs that are not on every user's PATH.
_PROGRAMS = "/usr/local/sbin:/usr/sbin:/sbin"
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        command: a shell command; `{python}` is this interpreter, and `{folder}` a folder that it may resume from.
        minutes: a guess for the first run.
        shown: patterns of the lines of its log that are its key figures, beside the totals of pytest.
        left_out: patterns of lines that name an omission and its reason.
        tables: the tables of the documentation that its log gives, by file name.
    """

    name: str
    command: str
    minutes: float
    needs: Sequence[Need] = ()
    shown: Sequence[str] = ()
    left_out: Sequence[str] = ()
    tables: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    def obstacle(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return next((reason for need in self.needs if (reason := need())), None)


def program(name: str, package: str) -> Need:
    """A program that is installed, by a package of Debian."""

    def missing() -> str | None:
        found = shutil.which(name) or shutil.which(name, path=_PROGRAMS)
        return None if found else f"{name} is missing: apt-get install {package}"

    return missing


def two_pythons() -> str | None:
    """A second version of Python, found as `make pythons` finds it."""
    there = [version for version in PYTHONS if _runs(version)]
    return None if len(there) > 1 else f"there is only one Python from 3.11 on here: {', '.join(there) or 'none'}"


def _runs(version: str) -> bool:
    pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for candidate in [f"python{version}", *map(str, pyenv)]:
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return True
    return False


def embedded_stores() -> str | None:
    """The programs and the file system that rclone and Swift need."""
    try:
        stores.rclone_program()
        stores.swift_folder()
    except StartError as error:
        return str(error)
    return None


def atheris() -> str | None:
    """The fuzzer."""
    return None if find_spec("atheris") else "atheris is missing: pip install atheris"


# Tests that lack a program among others that run skip themselves, with a reason in the log.
NGINX = program("nginx", "nginx-light")
CHROMIUM, NPM = program("chromium", "chromium"), program("npm", "npm")
BENCHMARK = (
    "if [ -e {{folder}}/run.json ]; then set -- --resume {{folder}}; else set -- --plan {} --out {{folder}}; fi; "
    '{{python}} -m benchmarks run "$@"'
)
PUBLISHED = BENCHMARK.format("published") + " --again 5; {python} -m benchmarks report {folder} --to docs/benchmark.md"
RESUMABLE = (
    "rm -rf {folder}; {python} -m benchmarks run --plan resumable --out {folder} && "
    "{python} -m benchmarks.resumable {folder}"
)

#: In the order in which they run: those that find most in the least time come first.
STAGES = (
    Stage("demo", "make demo", 1, shown=[r"\d+ files stored, .* lost", r"Every cell behaved [^.]*"]),
    Stage("test", "make test", 9),
    Stage("contract-all", "make contract-all", 15, [embedded_stores]),
    Stage("contract-uvicorn", "make contract-uvicorn", 10),
    Stage("contract-nginx", "make contract-nginx", 6, [NGINX]),
    Stage("browser-all", "make browser-all", 6, [CHROMIUM, NPM]),
    Stage("waiting-all", "make waiting-all", 15),
    Stage(
        "loads",
        "make loads",
        6,
        tables={"part-memory.md": tables.part_memory, "slow-clients.md": tables.slow_clients},
    ),
    Stage("tus-all", "make tus-all", 60, [CHROMIUM, NPM]),
    Stage("fuzz", "make fuzz MINUTES=10", 12, [atheris], shown=[r"[\d,]+ executions in all"]),
    Stage("soak", "make soak", 20, tables={"overload.md": tables.overload}),
    Stage("faults-table", "make faults-table", 20, shown=[r"\d+ cases: .*"]),
    Stage(
        "memory",
        "make memory; MALLOC_ARENA_MAX=16 make memory MINUTES=3",
        34,
        tables={"process-memory.md": tables.process_memory},
    ),
    Stage(
        "explain-cost",
        "{python} -m benchmarks.explain_cost",
        14,
        shown=[r"Explaining adds .*?\);"],
        tables={"explain-cost.md": tables.explain_cost},
    ),
    Stage(
        "matrix",
        "make matrix",
        15,
        shown=[r"\d+ environments ran, .*"],
        left_out=[r"^(.+): (there is no Python .*|could not .*|it took more than .*)$"],
    ),
    Stage(
        "nox",
        "make nox",
        15,
        shown=[r"nox > \* .*: (?:success|failed)"],
        left_out=[r"^nox > Session (.*) skipped: (.*)$"],
    ),
    Stage("pythons", "make pythons", 25, [two_pythons], shown=[r"On Python [\d.]+\w*"]),
    Stage("soak-hour", "make soak-hour", 64, shown=[r"\d+ wrong"], tables={"soak-hour.md": tables.soak_hour}),
    Stage("resumable", RESUMABLE, 5, shown=[r"\d+ cells measured, .*"], tables={"resumable.md": tables.resumable}),
    Stage(
        "goals",
        BENCHMARK.format("goals --rounds 11"),
        25,
        shown=[r"\d+ cells measured, .*", r"The machine was quiet in [^;]*"],
        tables={"goals.md": tables.goals},
    ),
    Stage(
        "benchmark",
        PUBLISHED,
        60,
        shown=[r"\d+ cells measured, .*", r"The machine was quiet in [^;]*"],
    ),
)


def command(stage: Stage, folder: Path) -> str:
    """The stage's shell command."""
    return stage.command.replace("{python}", sys.executable).replace("{folder}", str(folder))
