"""Compute from a run the best hand-off for each kind of upload: one small table for each question."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.results import Result, Results
from benchmarks.stats import Measure, is_tie, ratio
from filehandoff.settings import MIB

#: A target writes nothing to disk if it writes less than this share of the bytes, besides one log line of
#: `_LOG_BYTES` per upload.
NO_DISK = 0.01
_LOG_BYTES = 1024
#: Hooks that get the request itself, not only some of its values.
_WITH_REQUEST = {"snapshot", "copied"}
#: Largest small file, in bytes.
SMALL = MIB


@dataclass(frozen=True)
class Recommendation:
    """A row of a table: the fastest target for an upload, and its ties.

    `against` is the ratio of its rate to that of the fastest peer; None if no peer was measured.
    """

    size: int
    clients: int
    best: Result
    ties: Sequence[Result]
    peer: Result | None
    against: Measure | None


@dataclass(frozen=True)
class Question:
    """A question with its table; it has a row for each measured size and number of clients that it concerns."""

    title: str
    sentence: str
    rows: Sequence[Recommendation]


def questions(results: Results) -> list[Question]:
    """Answer each question that the run has figures for, from the null store with unpaced clients."""
    plain = [
        it
        for it in results.results
        if it.level == "closed" and it.cell.store == "null" and it.cell.scenario == "plain" and not it.errors
    ]
    cases = [
        [it for it in plain if (it.cell.size, it.cell.clients) == case]
        for case in sorted({(it.cell.size, it.cell.clients) for it in plain})
    ]
    small = [case for case in cases if case[0].cell.size <= SMALL]
    large = [case for case in cases if case[0].cell.size > SMALL]
    on_disk = [case for case in cases if any(not writes_nothing(it) for it in case)]
    answered = [
        Question("Small files", "Files of at most 1 MiB.", _rows(small, lambda _: True)),
        Question("Large files", "Files above 1 MiB.", _rows(large, lambda _: True)),
        Question(
            "No temporary files",
            "The hand-off must write nothing to disk. The sizes are those at which some measured app does.",
            _rows(on_disk, writes_nothing),
        ),
        Question(
            "The boto hook needs the request",
            "The hook must get the request object, not only values from it.",
            _rows(cases, lambda it: it.target["hook"] in _WITH_REQUEST),
        ),
    ]
    return [question for question in answered if question.rows]


def _rows(cases: Sequence[list[Result]], fits: Callable[[Result], bool]) -> list[Recommendation]:
    return [row for case in cases for row in _row(case, [it for it in case if it.target["is_ours"] and fits(it)])]


def _row(case: list[Result], fitting: list[Result]) -> Iterator[Recommendation]:
    """Yield the recommendation for one size and number of clients, if a target fits."""
    if not fitting:
        return
    peer = max((it for it in case if not it.target["is_ours"] and it.target["as_form"]), key=_rate, default=None)
    fastest = max(fitting, key=_rate)
    tied = [it for it in fitting if it is fastest or is_tie(ratio(it.figures["rate"], fastest.figures["rate"]))]
    # of the tied ones, the one that takes the least CPU
    best = min(tied, key=lambda it: it.figures["cpu_per_request"].median)
    against = ratio(best.figures["rate"], peer.figures["rate"]) if peer else None
    ties = [it for it in tied if it is not best]
    yield Recommendation(best.cell.size, best.cell.clients, best, ties, peer, against)


def _rate(result: Result) -> float:
    return result.figures["rate"].median


def writes_nothing(result: Result) -> bool:
    """Whether a target is measured to write nothing to disk."""
    written = result.figures.get("disk")
    return written is not None and without_log(max(written.values), result) < NO_DISK


def without_log(written: float, result: Result) -> float:
    """Bytes written per byte of the file, without one log line per upload."""
    return max(0.0, written - _LOG_BYTES / result.cell.size)
