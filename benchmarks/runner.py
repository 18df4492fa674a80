"""Perform a run: measure the load generator, then all cells in random order."""

import os
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.bodies import POOL_BYTES, Bodies
from benchmarks.environment import captured
from benchmarks.load import Group, Job, send
from benchmarks.plans import Cell, guessed_seconds
from benchmarks.runs import RunFolder
from benchmarks.targets import Target
from benchmarks.trial import REQUEST_TIMEOUT
from benchmarks.workbench import Workbench
from demo.processes import Server, ending, listen, python

#: Seconds to measure the load generator for each size and number of clients.
SINK_SECONDS = 0.5

#: Called before each trial with its number, the number of trials, its cell, its round and the estimated seconds
#: left.
Progress = Callable[[int, int, Cell, int, float], None]


class Runner:
    """Performs a run, or the rest of an interrupted one."""

    def __init__(self, folder: RunFolder, targets: Mapping[str, Target]) -> None:
        self._folder = folder
        self._run = folder.run
        self._targets = targets
        self._seconds: dict[str, float] = {}
        self._interrupted = False

    def interrupt(self, *_signal: object) -> NoReturn:
        """Handle a signal by ending the run.

        Besides the exception, a flag is set: Python drops exceptions in the hooks of a fork, and each server starts
        with a fork.

        Raises:
            KeyboardInterrupt: always.
        """
        self._interrupted = True
        raise KeyboardInterrupt

    def run(self, progress: Progress) -> None:
        """Measure the remaining trials; Ctrl-C ends the run and keeps the record.

        Raises:
            OSError: the record cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=self._folder.folder) as temporary:
            bodies = Bodies()
            try:
                self._run.environment = self._run.environment or captured(os.environ, Path(temporary))
                if not self._run.sink:
                    self._run.sink = measured_sink(self._run.measured_cells(), self._targets, bodies)
                    with suppress(OSError):
                        self._folder.save()
                self._run_trials(Workbench(bodies, Path(temporary), self._run.seconds), progress)
                self._run.complete = True
            finally:
                bodies.close()
                self._folder.save()

    def _run_trials(self, workbench: Workbench, progress: Progress) -> None:
        done = {(trial["cell"], trial["round"]) for trial in self._run.trials}
        # cells that failed or were skipped are not tried again
        over = {trial["cell"] for trial in self._run.trials if trial["status"] != "measured"}
        left = [(number, cell) for number, cell in self._order() if (cell.id, number) not in done]
        while left:
            left = [it for it in left if it[1].id not in over]
            if not left:
                return
            number, cell = left.pop(0)
            remaining = sum(self._estimate(it) for _, it in left) + self._estimate(cell)
            number_of_trial = len(self._run.trials) + 1
            progress(number_of_trial, number_of_trial + len(left), cell, number, remaining)
            record, lines = workbench.run_trial(cell, self._targets[cell.target], thorough=number == 0)
            self._seconds[cell.id] = record["seconds"]
            self._folder.add({"cell": cell.id, "round": number, **record}, lines)
            if self._run.trials[-1]["status"] != "measured":
                over.add(cell.id)
            if self._interrupted:
                raise KeyboardInterrupt

    def profile(self, missed: Iterable[str]) -> None:
        """Profile each cell that missed a goal once, after all measurements.

        Raises:
            OSError: the record cannot be written.
        """
        cells = {cell.id: cell for cell in self._run.measured_cells()}
        self._run.profiles.clear()
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=self._folder.folder) as temporary:
            bodies = Bodies()
            try:
                workbench = Workbench(bodies, Path(temporary), self._run.seconds)
                for name in dict.fromkeys(missed):
                    cell = cells[name]
                    self._run.profiles[name] = asdict(workbench.profile(cell, self._targets[cell.target]))
                    if self._interrupted:
                        raise KeyboardInterrupt
            finally:
                bodies.close()
                self._folder.save()

    def _order(self) -> list[tuple[int, Cell]]:
        """The cells of each round in random order, so that slow phases affect all alike."""
        cells = self._run.measured_cells()
        order = []
        for number in range(self._run.rounds):
            chance = random.Random(f"{self._run.seed} {number}")  # noqa: S311 - an order, no secret
            order += [(number, cell) for cell in chance.sample(cells, len(cells))]
        return order

    def _estimate(self, cell: Cell) -> float:
        return self._seconds.get(cell.id) or guessed_seconds(cell, self._run.seconds)


def measured_sink(cells: list[Cell], targets: Mapping[str, Target], bodies: Bodies) -> list[dict[str, Any]]:
    """Measure the load generator alone for each size, number of clients and kind of request."""
    listener = listen("the sink", "nothing", 0)
    port = listener.getsockname()[1]
    command = python("benchmarks.sink", "{fd}")
    kinds = sorted({(cell.size, cell.clients, targets[cell.target].as_form) for cell in cells})
    with ending([Server("the sink", command, listener, os.environ, log=None, drain_seconds=0)]):
        return [_sink(port, bodies, *kind) for kind in kinds]


def _sink(port: int, bodies: Bodies, size: int, clients: int, as_form: bool) -> dict[str, Any]:  # noqa: FBT001 - a field of the sorted tuple
    group = Group("measured", clients, size, "sink-", bodies.digests(size), at_least=clients)
    job = Job(
        port,
        "/upload" if as_form else "/{name}",
        "form" if as_form else "bare",
        receipts=False,
        pool_fd=bodies.fd,
        pool_bytes=POOL_BYTES,
        seconds=SINK_SECONDS,
        timeout=REQUEST_TIMEOUT,
        groups=[group],
    )
    lines, total = send(job)
    return {
        "size": size,
        "clients": clients,
        "as_form": as_form,
        "rate": len(lines) / total["seconds"],
        "cpu_seconds_per_request": total["cpu_seconds"] / len(lines),
        "cpu_share": total["cpu_seconds"] / total["seconds"],
    }
