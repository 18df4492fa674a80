"""Stalled connections, by their states and the kernel's counters."""

import struct

import pytest

from filehandoff.stall_detection import LOOK_EVERY, TCP_INFO_BYTES, StallDetector, acknowledged

LOOKS = 30
SECONDS = LOOKS * LOOK_EVERY


@pytest.mark.parametrize(
    ("unacked", "taken", "not_sent", "expected"),
    [
        pytest.param(0, 5, 0, None, id="nothing more to take"),
        pytest.param(1, 2**40, 0, 2**40, id="bytes on their way"),
        pytest.param(0, 0, 7, 0, id="bytes not sent yet"),
    ],
)
def test_the_acknowledged_bytes_are_read_from_tcp_info(
    unacked: int, taken: int, not_sent: int, expected: int | None
) -> None:
    """The number is None if no byte is outstanding."""
    info = bytearray(TCP_INFO_BYTES)
    struct.pack_into("=I", info, 24, unacked)
    struct.pack_into("=Q", info, 120, taken)
    struct.pack_into("=I", info, 144, not_sent)
    assert acknowledged(bytes(info)) == expected


def test_a_connection_with_an_unchanged_state_stalls() -> None:
    """The connection stalls exactly after the time, independently of others."""
    detector = StallDetector[str]()
    assert detector.stalled([("a", 1), ("b", 1)], SECONDS) == []
    for _ in range(LOOKS - 1):
        assert detector.stalled([("a", 1), ("b", 2)], SECONDS) == []
    assert detector.stalled([("a", 1), ("b", 2)], SECONDS) == ["a"]


def test_a_slow_connection_that_moves_never_stalls() -> None:
    """One byte within each period is enough."""
    detector = StallDetector[str]()
    for taken in range(10):
        for _ in range(LOOKS):
            assert detector.stalled([("a", taken)], SECONDS) == []


def test_a_connection_without_outstanding_bytes_does_not_stall() -> None:
    """The time restarts with the next outstanding byte, also for a connection that was absent."""
    detector = StallDetector[str]()
    for _ in range(2 * LOOKS):
        assert detector.stalled([("a", None)], SECONDS) == []
    for _ in range(LOOKS):
        assert detector.stalled([("a", 1)], SECONDS) == []
    assert detector.stalled([], SECONDS) == []
    assert detector.stalled([("a", 1)], SECONDS) == []
