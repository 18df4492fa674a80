"""Compare a run with the goals of the project."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.plans import FAR_STORE_LATENCY_MS, HOP_BYTES_PER_SECOND, Cell, size_name
from benchmarks.recommendations import NO_DISK, without_log
from benchmarks.results import Result, Results
from benchmarks.stats import Measure, ratio
from filehandoff.parts import peak_memory
from filehandoff.settings import GIB, KIB, MIB, Settings


@dataclass(frozen=True)
class Goal:
    """A goal with the reached ratio; `reached` is None if the run has no figures for it."""

    measure: str
    limit: float
    reached: Measure | None
    cell: str
    at_least: bool = False

    @property
    def text(self) -> str:
        """The goal, such as `≥ 1.5`."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    @property
    def verdict(self) -> str:
        """`met`, `missed`, either one "within the noise", or `not measured`."""
        if self.reached is None:
            return "not measured"
        good = self.reached.median >= self.limit if self.at_least else self.reached.median <= self.limit
        low, high = self.reached.low, self.reached.high
        noisy = low is not None and high is not None and low <= self.limit <= high
        return ("met" if good else "missed") + (", within the noise" if noisy else "")


@dataclass(frozen=True)
class _Comparison:
    """A goal for the ratio of one figure of two cells."""

    what: str
    figure: str
    ours: Cell
    other: Cell
    limit: float
    at_least: bool = False

    def goal(self, results: Results) -> Goal:
        """Compare the two cells."""
        measure = f"{self.what}: {_NAMES[self.ours.target]} / {_NAMES[self.other.target]}"
        ours, other = (results.get(cell) for cell in (self.ours, self.other))
        reached = ratio(ours.figures[self.figure], other.figures[self.figure]) if ours and other else None
        return Goal(measure, self.limit, reached, self.ours.id, self.at_least)


_UVICORN, _UVLOOP, _FLASK = "quart/stream@uvicorn", "quart/stream@hypercorn-uvloop", "flask/stream@gunicorn"
_FASTAPI, _RELAY, _PLAIN = "fastapi@uvicorn", "relay-sha256@uvicorn", "flask-plain@gunicorn-gthread"
_NAMES = {
    _UVICORN: "Quart on uvicorn",
    _UVLOOP: "Quart on hypercorn with uvloop",
    _FLASK: "Flask on gunicorn",
    _FASTAPI: "FastAPI on uvicorn",
    _RELAY: "relay + SHA-256",
    _PLAIN: "plain Flask on gthread",
}


def _comparisons() -> Iterator[_Comparison]:
    def small(target: str) -> Cell:
        return Cell(target, "null", "plain", 64 * KIB, 8)

    def far(target: str) -> Cell:
        return Cell(target, "null", "far-store", 64 * KIB, 1)

    def large(target: str, scenario: str = "plain") -> Cell:
        return Cell(target, "null", scenario, GIB, 1)

    what = "uploads/s, 64 KiB × 8"
    for ours, other, limit in ((_UVICORN, _FASTAPI, 1.5), (_UVLOOP, _FASTAPI, 1.15), (_FLASK, _PLAIN, 1.7)):
        yield _Comparison(what, "rate", small(ours), small(other), limit, at_least=True)
    yield _Comparison(f"{what}, further goal", "rate", small(_UVICORN), small(_FASTAPI), 1.8, at_least=True)
    what = f"median latency, 64 KiB × 1, store {FAR_STORE_LATENCY_MS} ms away"
    for ours in (_UVICORN, _UVLOOP):
        yield _Comparison(what, "p50", far(ours), far(_FASTAPI), 1)
    what = "CPU of 1 GiB"
    for ours, other, limit in (
        (_UVICORN, _FASTAPI, 0.6),
        (_UVICORN, _RELAY, 1.15),
        (_UVLOOP, _FASTAPI, 0.8),
        (_FLASK, _PLAIN, 0.6),
    ):
        yield _Comparison(what, "cpu_per_gib", large(ours), large(other), limit)
    what = "CPU of 1 GiB, TLS to the store"
    yield _Comparison(what, "cpu_per_gib", large(_UVICORN, "tls"), large(_FASTAPI, "tls"), 0.65)


def goals(results: Results) -> list[Goal]:
    """The goals whose cells are in the run's plan, on the null store."""
    planned = {cell.id for cell in results.run.measured_cells()}
    compared = [it.goal(results) for it in _comparisons() if {it.ours.id, it.other.id} <= planned]
    return [*compared, *_paced(results), *_memory(results)]


def missed(results: Results) -> list[str]:
    """The ids of our cells that miss a goal."""
    return [goal.cell for goal in goals(results) if goal.verdict == "missed"]


def _paced(results: Results) -> Iterator[Goal]:
    """Compare the time of an upload with that of the transfer alone, at the largest size."""
    for name in (_FLASK, _UVICORN, _UVLOOP):
        paced = [it for it in results.results if it.cell.target == name and it.cell.scenario == "both-hops"]
        if paced:
            result = max(paced, key=lambda it: it.cell.size)
            measure = f"time, {size_name(result.cell.size)}, both hops at 40 MB/s: {_NAMES[name]} / the transfer alone"
            alone = result.cell.size / HOP_BYTES_PER_SECOND
            time = result.figures["seconds_per_upload"]
            low, high = (None if it is None else it / alone for it in (time.low, time.high))
            yield Goal(measure, 1.15, Measure(time.median / alone, low, high, ()), result.cell.id)


def _memory(results: Results) -> Iterator[Goal]:
    """Compare the most memory and disk that any `stream` cell used with its limit, which holds for one process."""
    streams = [
        it
        for it in results.results
        if it.target["handoff"] == "stream" and it.level == "closed" and it.cell.scenario != "two-workers"
    ]
    if streams:
        most = max(streams, key=_memory_share)
        measured = Measure(_memory_share(most), None, None, ())
        yield Goal("memory above idle: the worst stream / the formula", 1, measured, most.cell.id)
    written = [it for it in streams if "disk" in it.figures]
    if written:
        most = max(written, key=lambda it: without_log(it.figures["disk"].median, it))
        measured = Measure(without_log(most.figures["disk"].median, most), None, None, ())
        yield Goal("disk written per byte, besides the log: the worst stream", NO_DISK, measured, most.cell.id)


def _memory_share(result: Result) -> float:
    return result.figures["peak"].median * MIB / allowed_bytes(result.cell.clients)


def allowed_bytes(uploads: int) -> int:
    """The memory that `stream` may use above the idle process, by the README's formula."""
    settings = Settings()
    return peak_memory(uploads, settings.parts_in_flight, settings.part_sizes)
