"""Connections that stand still, by their states and by the kernel's numbers."""

import struct

import pytest

from filehandoff.stall_detection import TCP_INFO_BYTES, StallDetector, acknowledged

SECONDS = 30.0


@pytest.mark.parametrize(
    ("unacked", "taken", "not_sent", "expected"),
    [
        pytest.param(0, 5, 0, None, id="nothing more to take"),
        pytest.param(1, 2**40, 0, 2**40, id="bytes on their way"),
        pytest.param(0, 0, 7, 0, id="bytes not sent yet"),
    ],
)
def test_what_linux_says_is_read(unacked: int, taken: int, not_sent: int, expected: int | None) -> None:
    """The number of acknowledged bytes counts only while there are more."""
    info = bytearray(TCP_INFO_BYTES)
    struct.pack_into("=I", info, 24, unacked)
    struct.pack_into("=Q", info, 120, taken)
    struct.pack_into("=I", info, 144, not_sent)
    assert acknowledged(bytes(info)) == expected


def test_a_connection_stalls_when_its_state_stays_for_so_long() -> None:
    """Not a second sooner, and another connection does not matter."""
    detector = StallDetector[str](SECONDS)
    assert detector.stalled([("a", 1), ("b", 1)], 0.0) == []
    assert detector.stalled([("a", 1), ("b", 2)], SECONDS - 1) == []
    assert detector.stalled([("a", 1), ("b", 2)], SECONDS) == ["a"]


def test_a_slow_one_that_moves_never_stalls() -> None:
    """One byte in the time is enough, again and again."""
    detector = StallDetector[str](SECONDS)
    for taken in range(10):
        assert detector.stalled([("a", taken)], taken * (SECONDS - 1)) == []


def test_one_that_has_nothing_to_take_does_not_stall() -> None:
    """The time counts from when there is something again, also for one that was away meanwhile."""
    detector = StallDetector[str](SECONDS)
    assert detector.stalled([("a", None)], 0.0) == []
    assert detector.stalled([("a", None)], 2 * SECONDS) == []
    assert detector.stalled([("a", 1)], 2 * SECONDS + 1) == []
    assert detector.stalled([], 3 * SECONDS) == []
    assert detector.stalled([("a", 1)], 9 * SECONDS) == []
