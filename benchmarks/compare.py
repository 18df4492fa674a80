"""Compare two runs and find the changes beyond noise."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import FIGURES, Figure, Result, Results
from benchmarks.stats import Measure, ratio

COMPARED = ("rate", "p50", "p99", "cpu_per_request", "peak", "disk")
#: Smallest relative change that counts; a machine varies by as much from one start to the next.
SMALLEST = 0.05
#: Memory (MiB) and disk (bytes per byte) up to this count as none, so that 2 MiB is not "twice" 1 MiB.
_NOTHING = {"peak": 4.0, "disk": 0.01}


@dataclass(frozen=True)
class Change:
    """A figure of a cell that changed; `times` is the ratio of after to before."""

    cell: str
    level: str
    figure: Figure
    before: Measure
    after: Measure
    times: Measure

    @property
    def is_better(self) -> bool:
        """Whether the change is an improvement."""
        return (self.times.median > 1) == self.figure.more_is_better


@dataclass(frozen=True)
class Comparison:
    """The changes between two runs, and the cells that only one of them has."""

    changes: list[Change]
    compared: int
    only_before: list[str]
    only_after: list[str]
    environment: list[str]
    too_few_rounds: bool


def compare(before: Results, after: Results) -> Comparison:
    """Compare the cells that both runs have.

    A change counts if it is at least 5%, the two intervals do not overlap, and the interval of their ratio excludes 1.
    With 5 rounds each, two runs of the same code then differ in about one figure of a hundred.
    """
    first, second = ({(it.cell.id, it.level): it for it in results.results} for results in (before, after))
    both = [key for key in first if key in second]
    pairs = [
        (name, first[key], second[key]) for key in both for name in COMPARED if _have(name, first[key], second[key])
    ]
    changes = [change for name, old, new in pairs if (change := _change(name, old, new))]
    few = any(it.figures["rate"].low is None for key in both for it in (first[key], second[key]))
    return Comparison(
        changes=sorted(changes, key=lambda it: (it.is_better, it.cell)),
        compared=len(pairs),
        only_before=sorted({cell for cell, _ in first.keys() - second.keys()}),
        only_after=sorted({cell for cell, _ in second.keys() - first.keys()}),
        environment=list(_environment(before.run.environment, after.run.environment)),
        too_few_rounds=few,
    )


def _have(name: str, old: Result, new: Result) -> bool:
    return name in old.figures and name in new.figures


def _change(name: str, old: Result, new: Result) -> Change | None:
    before, after = old.figures[name], new.figures[name]
    nothing = _NOTHING.get(name, 0)
    if max(before.median, after.median) <= nothing:
        return None
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return None
    apart = before.high < after.low or after.high < before.low
    if not apart:
        return None
    times = ratio(after, before)
    if before.median and abs(times.median - 1) < SMALLEST:
        return None
    return Change(old.cell.id, old.level, FIGURES[name], before, after, times)


def _environment(before: dict[str, object], after: dict[str, object]) -> Iterator[str]:
    """Yield a line for each difference between the two environments."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if name == "load_average_before" or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted(old.keys() | new.keys()):
                if old.get(key) != new.get(key):
                    yield f"{name}: {key} was {old.get(key, 'not there')}, is {new.get(key, 'not there')}"
        else:
            yield f"{name} was {old}, is {new}"
