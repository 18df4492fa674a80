"""The course of a quantity of a process under load."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of (minute, value) samples, per minute."""
    minute, held = (sum(values) / len(samples) for values in zip(*samples, strict=True))
    square = sum((x - minute) ** 2 for x, _ in samples)
    return sum((x - minute) * (y - held) for x, y in samples) / square if square else 0.0


@dataclass
class Course:
    """The (minute, value) samples of one quantity."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def median(self, last: int) -> int:
        """The median of the last samples."""
        return round(statistics.median(held for _, held in self.samples[-last:]))

    def minutes(self) -> list[int]:
        """The median of each whole minute."""
        by_minute: dict[int, list[float]] = {}
        for minute, held in self.samples:
            by_minute.setdefault(int(minute), []).append(held)
        return [round(statistics.median(values)) for values in by_minute.values()]

    def second_half(self) -> list[tuple[float, float]]:
        """The samples after the warm-up."""
        return self.samples[len(self.samples) // 2 :]
