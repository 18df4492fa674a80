"""`make evidence`: run the stages that this commit still lacks, and write `docs/evidence.md` and the measured tables.

Ctrl-C or SIGTERM ends the running stage; the next call goes on with it. A stage that failed runs again if it is named.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from demo.processes import ROOT
from evidence import figures, logs, page
from evidence.plan import STAGES, Stage, command
from evidence.running import ending_at_sigterm, run
from evidence.state import FAILED, PASSED, SKIPPED, Record, State, code_commit, duration, is_clean

INTERRUPTED = 130


@dataclass
class Evidence:
    """The stages, the repository, and the folders of the records and of the pages."""

    stages: Sequence[Stage]
    root: Path
    folder: Path
    docs: Path

    @cached_property
    def commit(self) -> str:
        """The commit of the code, when this program started."""
        return code_commit(self.root)

    @cached_property
    def state(self) -> State:
        """The records of earlier calls and of this one."""
        return State.read(self.folder, self._kept)

    @property
    def _kept(self) -> Path:
        return self.docs / "evidence/records.json"

    @cached_property
    def machine(self) -> page.Machine:
        """This machine and its software."""
        return page.Machine.this(self.root)

    def run(self, names: Sequence[str]) -> int:
        """Run the stages of these names, or all; return the exit status."""
        wanted = [stage for stage in self.stages if not names or stage.name in names]
        todo = [stage for stage in wanted if not self.state.is_done(self.commit, stage.name, named=bool(names))]
        with ending_at_sigterm():
            try:
                for number, stage in enumerate(todo):
                    print(f"{number + 1}/{len(todo)} {stage.name}: {self._estimate(todo[number:], 0)}", flush=True)
                    self._run(stage, todo[number:])
                self.write()
            except KeyboardInterrupt:
                print("\nInterrupted. The next `make evidence` goes on with this stage.", flush=True)
                return INTERRUPTED
        failed = [stage.name for stage in wanted if self._outcome(stage) == FAILED]
        if failed:
            print(f'Failed: {", ".join(failed)}. To run them again: make evidence STAGES="{" ".join(failed)}"')
        return int(bool(failed))

    def _outcome(self, stage: Stage) -> str:
        return self.state.at(self.commit, stage.name)[-1].outcome

    def _estimate(self, stages: Sequence[Stage], passed: float) -> str:
        guesses = [(stage.name, stage.minutes * 60) for stage in stages]
        this, total = self.state.left(guesses[:1]), self.state.left(guesses)
        return f"about {duration(max(this - passed, 0))} left, in all about {duration(max(total - passed, 0))}"

    def _run(self, stage: Stage, todo: Sequence[Stage]) -> None:
        """Run a stage and keep its record, unless it is interrupted."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        if (reason := stage.obstacle()) is not None:
            print(f"  skipped: {reason}", flush=True)
            self.state.add(Record(stage.name, self.commit, SKIPPED, began, reason=reason))
            return
        clean = self._is_clean()
        started = time.monotonic()
        folder = self.folder / self.commit
        folder.mkdir(parents=True, exist_ok=True)
        status = run(
            command(stage, folder / stage.name),
            self._log(stage),
            lambda passed: print(f"  {stage.name}: {self._estimate(todo, passed)}", flush=True),
            folder=self.root,
            environ=environ(),
        )
        seconds = time.monotonic() - started
        record = self._record(stage, began, seconds, status, clean=clean and self._is_clean())
        print(f"  {record.outcome} in {duration(seconds)}: {'; '.join(record.figures) or record.reason}", flush=True)
        self.state.add(record)
        self.write()

    def _is_clean(self) -> bool:
        return is_clean(self.root) and code_commit(self.root) == self.commit

    def _log(self, stage: Stage) -> Path:
        return self.folder / self.commit / f"{stage.name}.log"

    def _record(self, stage: Stage, began: str, seconds: float, status: int, *, clean: bool) -> Record:
        log = logs.anonymous(figures.plain(self._log(stage).read_text("utf-8", "replace")), self.root)
        reason = f"Its command ended with status {status}." if status else missing_figures(stage, log)
        return Record(
            stage.name,
            self.commit,
            FAILED if reason else PASSED,
            began,
            seconds,
            reason,
            clean,
            [*logs.totals(log), *logs.shown(log, stage.shown)],
            logs.left_out(log, stage.left_out),
            logs.excerpt(log) if reason else "",
        )

    def write(self) -> None:
        """Write the page, and the tables of the stages that passed."""
        machine = self.machine
        for stage in self.stages:
            found = self.state.at(self.commit, stage.name)
            if found and found[-1].outcome == PASSED and self._log(stage).exists():  # another checkout has no logs
                log = figures.plain(self._log(stage).read_text("utf-8", "replace"))
                for name, table in stage.tables.items():
                    path = self.docs / "evidence" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(page.caption(found[-1], machine) + table(log), "utf-8")
        text = page.document(self.stages, self.state, self.commit, machine, clean=is_clean(self.root))
        (self.docs / "evidence.md").write_text(text, "utf-8")
        self.state.keep(self._kept, self.commit, [stage.name for stage in self.stages])


def missing_figures(stage: Stage, log: str) -> str:
    """Name the tables that a log cannot fill; empty if it fills all."""
    missing = []
    for name, table in stage.tables.items():
        try:
            table(log)
        except (LookupError, ValueError) as error:
            missing.append(f"{name} ({error!r})")
    return f"Its log lacks figures of {', '.join(missing)}." if missing else ""


def environ() -> dict[str, str]:
    """This environment without make's own variables, for plain and immediate output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "160"}


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="make evidence", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(stage.name for stage in STAGES))
    names = parser.parse_args().stages
    if unknown := sorted(set(names) - {stage.name for stage in STAGES}):
        parser.error(f"unknown stage {', '.join(unknown)}; known: {', '.join(stage.name for stage in STAGES)}")
    return Evidence(STAGES, ROOT, ROOT / "build/evidence", ROOT / "docs").run(names)


if __name__ == "__main__":
    sys.exit(main())
