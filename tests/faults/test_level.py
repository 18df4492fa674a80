"""The criteria of the soak can fail."""

import os

import pytest
from faults.hour import ALLOWED_RISE, Watched
from faults.level import Course


def paused(**more: float) -> Watched:
    """An app that has these amounts more in the second pause, and as much as allowed of the others."""
    second = {name: 100 + more.get(name, allowed) for name, allowed in ALLOWED_RISE.items()}
    return Watched(os.getpid(), pauses=[dict.fromkeys(ALLOWED_RISE, 100.0), second])


def test_a_rise_as_allowed_is_no_problem() -> None:
    """An app may keep some memory, descriptors and threads more."""
    assert list(paused().problems()) == []


@pytest.mark.parametrize("name", ALLOWED_RISE)
def test_a_rising_quantity_is_a_problem(name: str) -> None:
    """An app whose memory, descriptors or threads rise by more than allowed is named, and no other."""
    [problem] = paused(**{name: ALLOWED_RISE[name] + 1}).problems()
    assert problem.startswith(name)


def test_a_replaced_process_is_a_problem() -> None:
    """Processes that are not those of the start are named."""
    watched = paused()
    watched.pids.append(0)
    [problem] = watched.problems()
    assert "the processes are" in problem


def test_a_minute_has_its_median() -> None:
    """Samples are summarized by whole minutes."""
    assert Course([(0.1, 1), (0.5, 9), (0.9, 2), (1.5, 7)]).minutes() == [2, 7]
