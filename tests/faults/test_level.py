"""The criteria of the soak can fail."""

import os

import pytest
from faults.hour import Watched
from faults.level import ALLOWED_RISE, Course


def course(first: float, second: float) -> Course:
    """An hour that rises by these amounts in its halves, with a sawtooth of 40."""
    values = [first * min(n, 1800) / 1800 + second * max(n - 1800, 0) / 1800 + n % 5 * 10 for n in range(3601)]
    return Course([(n / 60, value) for n, value in enumerate(values)])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (500, 0), (100, 9), (0, 50), (100, -20)])
def test_the_rise_is_that_of_the_second_half(first: float, second: float) -> None:
    """Neither the warm-up nor a sawtooth counts."""
    assert course(first, second).rise() == pytest.approx(second, abs=0.5)


@pytest.mark.parametrize("name", ALLOWED_RISE)
def test_a_rising_quantity_is_a_problem(name: str) -> None:
    """An app whose memory, descriptors or threads rise by more than allowed is named, and no other."""
    watched = Watched(os.getpid(), {each: course(100, ALLOWED_RISE[each] - 1) for each in ALLOWED_RISE})
    assert list(watched.problems()) == []
    watched.courses[name] = course(0, ALLOWED_RISE[name] + 1)
    [problem] = watched.problems()
    assert problem.startswith(name)


def test_a_replaced_process_is_a_problem() -> None:
    """Processes that are not those of the start are named."""
    watched = Watched(os.getpid())
    for each in watched.courses.values():
        each.samples.append((0, 0))
    watched.pids.append(0)
    [problem] = watched.problems()
    assert "the processes are" in problem


def test_a_minute_has_its_median() -> None:
    """Samples are summarized by whole minutes."""
    assert Course([(0.1, 1), (0.5, 9), (0.9, 2), (1.5, 7)]).minutes() == [2, 7]
