"""Medians with bootstrap 95% intervals, their ratios, and ties."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000
#: Percentiles at the ends of the interval.
_LOW, _HIGH = 2.5, 97.5
#: Fewest rounds for an interval.
FEWEST = 3


@dataclass(frozen=True)
class Measure:
    """The median of the rounds with its 95% percentile-bootstrap interval; None for too few rounds."""

    median: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


def measure(values: Sequence[float]) -> Measure:
    """Compute the median and its interval; the order of the values does not matter."""
    ordered = tuple(sorted(values))
    median = float(np.median(ordered))
    if len(ordered) < FEWEST:
        return Measure(median, None, None, ordered)
    low, high = np.percentile(_medians(ordered, 0), [_LOW, _HIGH])
    return Measure(median, float(low), float(high), ordered)


def ratio(first: Measure, second: Measure) -> Measure:
    """Compute first / second with its interval."""
    if not second.median:
        return Measure(float("nan"), None, None, ())
    quotient = first.median / second.median
    if min(len(first.values), len(second.values)) < FEWEST or 0 in second.values:
        return Measure(quotient, None, None, ())
    quotients = _medians(first.values, 1) / _medians(second.values, 2)
    low, high = np.percentile(quotients, [_LOW, _HIGH])
    return Measure(quotient, float(low), float(high), ())


def is_tie(quotient: Measure) -> bool:
    """Whether the interval of a ratio includes 1, or is missing."""
    return quotient.low is None or quotient.high is None or quotient.low <= 1 <= quotient.high


def _medians(values: Sequence[float], stream: int) -> "np.typing.NDArray[np.float64]":
    chance = np.random.default_rng([20, stream])
    resampled = chance.choice(np.asarray(values), (RESAMPLES, len(values)))
    return np.asarray(np.median(resampled, axis=1), dtype=np.float64)
