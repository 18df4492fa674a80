"""Which connections stand still, by what the kernel says of them."""

import struct

from filehandoff.stalling import TCP_INFO_BYTES, Sent, Stalls

IDLE = 30.0


def test_what_linux_says_is_read() -> None:
    """The bytes acknowledged, and whether any are on their way or still to be sent."""

    def told(unacked: int, taken: int, not_sent: int) -> Sent:
        info = bytearray(TCP_INFO_BYTES)
        struct.pack_into("=I", info, 24, unacked)
        struct.pack_into("=Q", info, 120, taken)
        struct.pack_into("=I", info, 144, not_sent)
        return Sent.from_tcp_info(bytes(info))

    assert told(0, 5, 0) == Sent(5, more=False)
    assert told(1, 2**40, 0) == Sent(2**40, more=True)
    assert told(0, 0, 7) == Sent(0, more=True)


def test_a_connection_stalls_when_nothing_is_taken_for_so_long() -> None:
    """Not a second sooner, and another one beside it does not matter."""
    stalls = Stalls[str](IDLE)
    assert stalls.look([("a", Sent(1, more=True)), ("b", Sent(1, more=True))], 0.0) == []
    assert stalls.look([("a", Sent(1, more=True)), ("b", Sent(2, more=True))], IDLE - 1) == []
    assert stalls.look([("a", Sent(1, more=True)), ("b", Sent(2, more=True))], IDLE) == ["a"]


def test_a_slow_one_that_moves_never_stalls() -> None:
    """One byte in the time is enough, again and again."""
    stalls = Stalls[str](IDLE)
    for taken in range(10):
        assert stalls.look([("a", Sent(taken, more=True))], taken * (IDLE - 1)) == []


def test_one_that_has_nothing_to_take_does_not_stall() -> None:
    """The time counts from when there is something again, also for one that was away meanwhile."""
    stalls = Stalls[str](IDLE)
    assert stalls.look([("a", Sent(1, more=False))], 0.0) == []
    assert stalls.look([("a", Sent(1, more=False))], 2 * IDLE) == []
    assert stalls.look([("a", Sent(1, more=True))], 2 * IDLE + 1) == []
    assert stalls.look([], 3 * IDLE) == []
    assert stalls.look([("a", Sent(1, more=True))], 9 * IDLE) == []
