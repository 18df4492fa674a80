"""Medians with bootstrap 95% intervals, their ratios, and what is a tie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000
#: The interval that is given, in percent from below and from above.
_LOW, _HIGH = 2.5, 97.5
#: An interval needs so many rounds; with fewer there is none.
FEWEST = 3


@dataclass(frozen=True)
class Measure:
    """The median of the rounds, and the 95% percentile-bootstrap interval of it; None where the rounds are too few."""

    median: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


def measure(values: Sequence[float]) -> Measure:
    """The median and its interval; the same for the same values, in any order."""
    ordered = tuple(sorted(values))
    median = float(np.median(ordered))
    if len(ordered) < FEWEST:
        return Measure(median, None, None, ordered)
    low, high = np.percentile(_medians(ordered, 0), [_LOW, _HIGH])
    return Measure(median, float(low), float(high), ordered)


def ratio(first: Measure, second: Measure) -> Measure:
    """How many times the second the first is, with the interval of that."""
    if not second.median:
        return Measure(float("nan"), None, None, ())
    quotient = first.median / second.median
    if min(len(first.values), len(second.values)) < FEWEST or 0 in second.values:
        return Measure(quotient, None, None, ())
    quotients = _medians(first.values, 1) / _medians(second.values, 2)
    low, high = np.percentile(quotients, [_LOW, _HIGH])
    return Measure(quotient, float(low), float(high), ())


def is_tie(quotient: Measure) -> bool:
    """Whether a ratio may as well be 1: its interval holds 1, or there is none."""
    return quotient.low is None or quotient.high is None or quotient.low <= 1 <= quotient.high


def _medians(values: Sequence[float], stream: int) -> "np.typing.NDArray[np.float64]":
    chance = np.random.default_rng([20, stream])
    resampled = chance.choice(np.asarray(values), (RESAMPLES, len(values)))
    return np.asarray(np.median(resampled, axis=1), dtype=np.float64)
