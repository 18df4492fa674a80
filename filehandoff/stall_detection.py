"""Detects stalled connections: clients that stopped reading, and request heads that never end.

The kernel's count of acknowledged bytes shows whether a client reads. A timeout for each write would cut slow readers,
because the kernel buffers megabytes. TCP_USER_TIMEOUT cuts slow readers too: it counts all the time in which the
reader's window was too small, even while it moves (measured on Linux 6.18).
"""

import struct
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: Seconds between two looks at all connections; a shorter pause costs CPU.
LOOK_EVERY = 1.0
#: Size of the prefix of Linux's `struct tcp_info`, and offsets of tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
TCP_INFO_BYTES = 160
_UNACKED, _BYTES_ACKED, _NOTSENT_BYTES = 24, 120, 144


def acknowledged(tcp_info: bytes) -> int | None:
    """Return the acknowledged bytes (from Linux 4.6 on), or None if no byte is outstanding."""
    (unacked,) = struct.unpack_from("=I", tcp_info, _UNACKED)
    (taken,) = struct.unpack_from("=Q", tcp_info, _BYTES_ACKED)
    (not_sent,) = struct.unpack_from("=I", tcp_info, _NOTSENT_BYTES)
    return int(taken) if unacked or not_sent else None


class StallDetector(Generic[T]):
    """Finds connections whose state has not changed for a time, measured in looks.

    A process that stood still itself, on a starved or paused machine, would find all its clients late by the clock,
    before it has read their bytes.
    """

    def __init__(self) -> None:
        self._looks: dict[T, tuple[Hashable, int]] = {}

    def stalled(self, connections: Iterable[tuple[T, Hashable]], seconds: float) -> list[T]:
        """Return the connections with an unchanged state for `seconds`; the state None never stalls.

        Call it every `LOOK_EVERY` seconds with all connections; the time counts from the first call with a state.
        """
        before, self._looks = self._looks, {}
        for connection, state in connections:
            last, looks = before.get(connection, (None, 0))
            self._looks[connection] = (state, looks + 1 if state is not None and state == last else 0)
        return [each for each, (_, looks) in self._looks.items() if looks * LOOK_EVERY >= seconds]
