"""Compute a run's figures over its rounds from `run.json` and the recorded requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from benchmarks import runs
from benchmarks.plans import Cell
from benchmarks.runs import Run
from benchmarks.stats import Measure, measure
from filehandoff.settings import GIB

#: Range and digits of the latency histograms, in µs: 1 µs to one hour.
_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 3_600_000_000, 3
PERCENTILES = (50.0, 90.0, 99.0)
#: Fewest requests per round for each percentile; the slowest of 20 requests is no 99th percentile.
_FEWEST_FOR = {50.0: 1, 90.0: 10, 99.0: 100}
#: The load generator is the bottleneck above this share of one core, or above this share of its rate against the
#: sink.
_LOAD_CPU, _LOAD_SHARE = 0.9, 0.8
#: The machine was not quiet if other programs took more than this share of its CPU time in any round.
NOISY = 0.1
#: Share of the cells in which the machine must be quiet.
QUIET_CELLS = 0.9


@dataclass(frozen=True)
class Figure:
    """A measured quantity: its label, its unit, and whether more is better."""

    name: str
    label: str
    unit: str
    more_is_better: bool = False


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("rate", "uploads", "1/s", more_is_better=True),
        Figure("bytes_per_second", "throughput", "MB/s", more_is_better=True),
        Figure("seconds_per_upload", "time for an upload", "s"),
        Figure("p50", "latency, median", "ms"),
        Figure("p90", "latency, 90%", "ms"),
        Figure("p99", "latency, 99%", "ms"),
        Figure("cpu_per_gib", "CPU per GiB", "s"),
        Figure("cpu_per_request", "CPU per upload", "ms"),
        Figure("peak", "memory above idle", "MiB"),
        Figure("disk", "disk written per byte", ""),
        Figure("threads", "threads", ""),
        Figure("loop_lag_p99", "event loop lag, 99%", "ms"),
    )
}


@dataclass(frozen=True)
class Result:
    """A cell at one level: its trials, and its figures over the rounds."""

    cell: Cell
    level: str
    target: dict[str, Any]
    trials: Sequence[dict[str, Any]]
    histograms: Sequence[HdrHistogram]
    on_disk: bool
    cores: int

    @property
    def requests(self) -> int:
        """Number of uploads in all rounds that were answered with 201 and verified."""
        return sum(level["requests"] for level in self._levels)

    @property
    def errors(self) -> int:
        """Number of failed uploads in all rounds."""
        return sum(level["errors"] for level in self._levels)

    @property
    def _levels(self) -> list[dict[str, Any]]:
        return [trial["levels"][self.level] for trial in self.trials]

    @cached_property
    def figures(self) -> dict[str, Measure]:
        """The available figures by name."""
        each = [
            dict(_figures(self.cell, level, histogram, on_disk=self.on_disk))
            for level, histogram in zip(self._levels, self.histograms, strict=True)
        ]
        names = [name for name in FIGURES if all(name in figures for figures in each)]
        return {name: measure([figures[name] for figures in each]) for name in names}

    @property
    def others_share(self) -> float:
        """The largest share over the rounds of the machine's CPU time that other programs took."""
        return max(others_share(level, self.cores) for level in self._levels)

    @property
    def is_quiet(self) -> bool:
        """Whether the machine was quiet in every round."""
        return self.others_share <= NOISY


def _figures(
    cell: Cell, level: dict[str, Any], histogram: HdrHistogram, *, on_disk: bool
) -> Iterator[tuple[str, float]]:
    sent = level["requests"] * cell.size
    yield "rate", level["rate"]
    yield "bytes_per_second", level["bytes_per_second"] / 1e6
    if level["requests"]:
        yield "seconds_per_upload", level["seconds"] * cell.clients / level["requests"]
        if cell.scenario != "slow-clients":  # their uploads cost CPU too but are not counted
            yield "cpu_per_gib", level["cpu_seconds"] / (sent / GIB)
            yield "cpu_per_request", level["cpu_seconds"] / level["requests"] * 1000
    for percentile in PERCENTILES:
        if histogram.get_total_count() >= _FEWEST_FOR[percentile]:
            yield f"p{percentile:g}", histogram.get_value_at_percentile(percentile) / 1000
    yield "peak", level["peak_bytes"] / 2**20
    if on_disk and sent:
        yield "disk", level["disk_bytes"] / sent
    yield "threads", level["threads"]
    if level["loop_lag_p99"] is not None:
        yield "loop_lag_p99", level["loop_lag_p99"] * 1000


def others_share(level: dict[str, Any], cores: int) -> float:
    """The share of the machine's CPU time that other programs took during a level."""
    known = level["cpu_seconds"] + level["store_cpu_seconds"] + level["load_cpu_seconds"]
    # the machine counts in hundredths of a second
    return float(max(level["machine_cpu_seconds"] - known, 0) / (cores * level["machine_seconds"]))


@dataclass(frozen=True)
class Results:
    """A run: its results, and the reason for each cell without one."""

    run: Run
    results: Sequence[Result]
    failed: dict[str, str]
    skipped: dict[str, str]
    bottlenecked: dict[str, str]

    def get(self, cell: Cell) -> Result | None:
        """Find the closed loop of a cell; None if it was not measured."""
        return next((it for it in self.results if it.cell.id == cell.id and it.level == "closed"), None)

    @property
    def cells(self) -> set[str]:
        """The ids of the cells with figures."""
        return {it.cell.id for it in self.results}

    @property
    def noisy(self) -> set[str]:
        """The ids of the cells in which the machine was not quiet."""
        return {it.cell.id for it in self.results if not it.is_quiet}

    @property
    def is_quiet(self) -> bool:
        """Whether the machine was quiet in enough cells."""
        return len(self.cells - self.noisy) >= QUIET_CELLS * len(self.cells)

    @property
    def noisy_trials(self) -> set[tuple[str, int]]:
        """The cell and the round of each trial in which the machine was not quiet."""
        return {
            (it.cell.id, trial["round"])
            for it in self.results
            for trial in it.trials
            if others_share(trial["levels"][it.level], it.cores) > NOISY
        }

    @property
    def not_reached(self) -> list[str]:
        """Cells that an interrupted run did not reach."""
        seen = {trial["cell"] for trial in self.run.trials}
        return [cell.id for cell in self.run.measured_cells() if cell.id not in seen]


def read(folder: Path) -> Results:
    """Read a run.

    Raises:
        NoRun: there is none, or it cannot be read.
    """
    run = runs.load(folder)
    reasons: dict[str, dict[str, str]] = {"failed": {}, "skipped": {}}
    for trial in run.trials:
        if trial["status"] in reasons:
            reasons[trial["status"]][trial["cell"]] = trial["reason"]
    bottlenecked: dict[str, str] = {}
    results = []
    for cell in run.measured_cells():
        trials = [trial for trial in run.trials if trial["cell"] == cell.id]
        if not trials or any(cell.id in cells for cells in reasons.values()):
            continue
        reason = _bottleneck(cell, run, trials)
        if reason:
            bottlenecked[cell.id] = reason
            continue
        results += _results(cell, run, trials, folder)
    return Results(run, results, reasons["failed"], reasons["skipped"], bottlenecked)


def _results(cell: Cell, run: Run, trials: list[dict[str, Any]], folder: Path) -> list[Result]:
    by_level: dict[str, list[HdrHistogram]] = {level: [] for level in cell.levels}
    for trial in trials:
        histograms = {level: HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS) for level in cell.levels}
        for line in runs.requests(folder, trial):
            if line["error"] is None and line["group"] == "measured":
                # latency counts from the scheduled start, so that waiting for a free client counts
                histograms[line["level"]].record_value(max(line["ended_us"] - line["intended_us"], _LOWEST_US))
        for level, histogram in histograms.items():
            by_level[level].append(histogram)
    on_disk = run.environment.get("temporary_files_on") != "tmpfs"
    target, cores = run.targets[cell.target], run.environment["cores"]
    return [Result(cell, level, target, trials, histograms, on_disk, cores) for level, histograms in by_level.items()]


def _bottleneck(cell: Cell, run: Run, trials: list[dict[str, Any]]) -> str | None:
    """The reason why the load generator limited a cell; None if it did not."""
    as_form = run.targets[cell.target]["as_form"]
    kind = (cell.size, cell.clients, as_form)
    sink = next((it for it in run.sink if (it["size"], it["clients"], it["as_form"]) == kind), None)
    for trial in trials:
        level = trial["levels"]["closed"]
        if level["load_cpu_seconds"] > _LOAD_CPU * level["seconds"]:
            return f"the load generator used {level['load_cpu_seconds'] / level['seconds']:.0%} of its core"
        if sink is not None and level["rate"] > _LOAD_SHARE * sink["rate"]:
            return f"the load generator's limit is {sink['rate']:.0f} uploads/s, and it did {level['rate']:.0f}"
    return None
