"""Compute from a run the best hand-off for each kind of upload, and the goals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.plans import HOP_BYTES_PER_SECOND, size_name
from benchmarks.results import Result, Results
from benchmarks.stats import Measure, is_tie, ratio
from filehandoff.parts import peak_memory
from filehandoff.settings import GIB, KIB, MIB, Settings

#: A target writes nothing to disk if it writes less than this share of the bytes, besides one log line of
#: `_LOG_BYTES` per upload.
_NO_DISK = 0.01
_LOG_BYTES = 1024
#: Hooks that get the request itself, not only some of its values.
_WITH_REQUEST = {"snapshot", "copied"}


@dataclass(frozen=True)
class Recommendation:
    """A row of the decision table: the fastest target for an upload, and its ties.

    `against` is the ratio of its rate to that of the fastest peer.
    """

    size: int
    clients: int
    disk: bool
    hook_needs_request: bool
    best: Result | None
    ties: Sequence[Result]
    peer: Result | None
    against: Measure | None


def recommend(results: Results) -> list[Recommendation]:
    """Compute the decision table, from the null store with unpaced clients."""
    plain = [
        it
        for it in results.results
        if it.level == "closed" and it.cell.store == "null" and it.cell.scenario == "plain" and not it.errors
    ]
    cases = sorted({(it.cell.size, it.cell.clients) for it in plain})
    rows = []
    for size, clients in cases:
        here = [it for it in plain if (it.cell.size, it.cell.clients) == (size, clients)]
        peers = [it for it in here if not it.target["is_ours"] and it.target["as_form"]]
        peer = max(peers, key=_rate, default=None)
        for disk in (True, False):
            for needs_request in (False, True):
                fitting = [it for it in here if _fits(it, disk=disk, needs_request=needs_request)]
                rows.append(_recommendation((size, clients, disk, needs_request), fitting, peer))
    return rows


def _rate(result: Result) -> float:
    return result.figures["rate"].median


def _fits(result: Result, *, disk: bool, needs_request: bool) -> bool:
    if not result.target["is_ours"] or (needs_request and result.target["hook"] not in _WITH_REQUEST):
        return False
    written = result.figures.get("disk")
    return disk or (written is not None and _without_log(max(written.values), result) < _NO_DISK)


def _without_log(written: float, result: Result) -> float:
    """Bytes written per byte of the file, without one log line per upload."""
    return max(0.0, written - _LOG_BYTES / result.cell.size)


def _recommendation(case: tuple[int, int, bool, bool], fitting: list[Result], peer: Result | None) -> Recommendation:
    if not fitting:
        return Recommendation(*case, best=None, ties=(), peer=peer, against=None)
    fastest = max(fitting, key=_rate)
    tied = [it for it in fitting if it is fastest or is_tie(ratio(it.figures["rate"], fastest.figures["rate"]))]
    # of the tied ones, the one that takes the least CPU
    best = min(tied, key=lambda it: it.figures["cpu_per_request"].median)
    against = ratio(best.figures["rate"], peer.figures["rate"]) if peer else None
    return Recommendation(*case, best=best, ties=[it for it in tied if it is not best], peer=peer, against=against)


@dataclass(frozen=True)
class Goal:
    """A goal with the measured ratio; `measured` is None if it was not measured."""

    sentence: str
    limit: float
    at_least: bool
    measured: Measure | None
    cell: str | None

    @property
    def verdict(self) -> str:
        """`reached`, `missed`, either one "within the noise", or `not measured`."""
        if self.measured is None:
            return "not measured"
        good = self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit
        if (
            self.measured.low is not None
            and self.measured.high is not None
            and self.measured.low <= self.limit <= self.measured.high
        ):
            return "reached, within the noise" if good else "missed, within the noise"
        return "reached" if good else "missed"


def goals(results: Results) -> list[Goal]:
    """The goals on the null store, with hashing and a verified checksum."""
    return [*_large(results), *_paced(results), *_small(results), *_memory(results)]


def missed(results: Results) -> list[str]:
    """The ids of our cells that miss a goal."""
    return [goal.cell for goal in goals(results) if goal.cell is not None and goal.verdict == "missed"]


_UVICORN, _UVLOOP, _FLASK = "quart/stream@uvicorn", "quart/stream@hypercorn-uvloop", "flask/stream@gunicorn"
_FASTAPI, _RELAY, _PLAIN = "fastapi@uvicorn", "relay@uvicorn", "flask-plain@gunicorn-gthread"


def _large(results: Results) -> Iterator[Goal]:
    for figure, word, limits in (
        ("cpu_per_gib", "CPU", (0.5, 0.7, 0.6)),
        ("seconds_per_upload", "time", (0.45, 0.65, 0.6)),
    ):
        on_uvicorn, on_uvloop, on_flask = limits
        compared = _Comparison(f"{word} of 1 GiB", GIB, 1, figure)
        yield _goal(results, compared, (_UVICORN, _FASTAPI), on_uvicorn)
        if word == "CPU":
            yield _goal(results, compared, (_UVICORN, _RELAY), 2)
        yield _goal(results, compared, (_UVLOOP, _FASTAPI), on_uvloop)
        yield _goal(results, compared, (_FLASK, _PLAIN), on_flask)


def _small(results: Results) -> Iterator[Goal]:
    compared = _Comparison("uploads per second, 64 KiB, 8 at once", 64 * KIB, 8, "rate")
    for pair, limit in (((_UVICORN, _FASTAPI), 1.2), ((_FLASK, _PLAIN), 1.5)):
        yield _goal(results, compared, pair, limit, at_least=True)


@dataclass(frozen=True)
class _Comparison:
    """A figure of two targets that a goal compares, at one size and load."""

    what: str
    size: int
    clients: int
    figure: str


def _goal(results: Results, it: _Comparison, pair: tuple[str, str], limit: float, *, at_least: bool = False) -> Goal:
    sign = "≥" if at_least else "≤"
    sentence = f"{it.what}: {pair[0]} {sign} {limit:g} × {pair[1]}"
    ours, other = (results.get(name, "null", "plain", it.size, it.clients) for name in pair)
    if ours is None or other is None:
        return Goal(sentence, limit, at_least, None, None)
    return Goal(sentence, limit, at_least, ratio(ours.figures[it.figure], other.figures[it.figure]), ours.cell.id)


def _paced(results: Results) -> Iterator[Goal]:
    for name in (_FLASK, _UVICORN, _UVLOOP):
        sizes = [it.cell.size for it in results.results if it.cell.target == name and it.cell.scenario == "both-hops"]
        size = max(sizes, default=GIB)
        if not sizes and name == _UVLOOP:
            continue
        sentence = f"both hops at 40 MB/s, {size_name(size)}: time of {name} ≤ 1.15 × the transfer alone"
        result = results.get(name, "null", "both-hops", size, 1)
        if result is None:
            yield Goal(sentence, 1.15, at_least=False, measured=None, cell=None)
            continue
        alone = size / HOP_BYTES_PER_SECOND
        time = result.figures["seconds_per_upload"]
        low, high = (None if it is None else it / alone for it in (time.low, time.high))
        yield Goal(
            sentence, 1.15, at_least=False, measured=Measure(time.median / alone, low, high, ()), cell=result.cell.id
        )


def _memory(results: Results) -> Iterator[Goal]:
    """The most memory and disk that any `stream` cell used, against its limit."""
    streams = [it for it in results.results if it.target["handoff"] == "stream" and it.level == "closed"]
    if not streams:
        yield Goal("memory above idle of stream ≤ the formula", 1, at_least=False, measured=None, cell=None)
        return
    most = max(streams, key=_memory_share)
    measured = Measure(_memory_share(most), None, None, ())
    yield Goal(
        "memory above idle of every stream ≤ the formula", 1, at_least=False, measured=measured, cell=most.cell.id
    )
    written = [it for it in streams if "disk" in it.figures]
    if written:
        most = max(written, key=lambda it: _without_log(it.figures["disk"].median, it))
        measured = Measure(_without_log(most.figures["disk"].median, most), None, None, ())
        sentence = "disk written per byte by every stream, besides the log: none (at most 0.01)"
        yield Goal(sentence, _NO_DISK, at_least=False, measured=measured, cell=most.cell.id)


def _memory_share(result: Result) -> float:
    return result.figures["peak"].median * MIB / allowed_bytes(result.cell.clients)


def allowed_bytes(uploads: int) -> int:
    """The memory that `stream` may use above the idle process, by the README's formula."""
    settings = Settings()
    return peak_memory(uploads, settings.parts_in_flight, settings.part_sizes)
