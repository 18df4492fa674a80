"""Connections on which nothing moves for too long: clients that read no more, and heads that never end.

The kernel's count of acknowledged bytes shows whether a client reads. A time limit for each write shows only that bytes
leave the process, and the kernel buffers megabytes of them: a slow reader would be cut. TCP_USER_TIMEOUT cuts slow
readers too: it counts all the time in which the reader's window was too small, even if it moves (seen on Linux 6.18).
"""

import struct
from collections.abc import Hashable, Iterable

#: Seconds between two looks at all connections; a shorter pause costs CPU.
LOOK_EVERY = 1.0
#: Bytes to read of Linux's `struct tcp_info`, and the offsets of tcpi_unacked, tcpi_bytes_acked and tcpi_notsent_bytes.
TCP_INFO_BYTES = 160
_UNACKED, _BYTES_ACKED, _NOTSENT_BYTES = 24, 120, 144


def acknowledged(tcp_info: bytes) -> int | None:
    """Return the bytes that a client has acknowledged, by Linux 4.6 and newer; None if it has nothing more to take."""
    (unacked,) = struct.unpack_from("=I", tcp_info, _UNACKED)
    (taken,) = struct.unpack_from("=Q", tcp_info, _BYTES_ACKED)
    (not_sent,) = struct.unpack_from("=I", tcp_info, _NOTSENT_BYTES)
    return int(taken) if unacked or not_sent else None


class StallDetector[T: Hashable]:
    """Finds the connections that have been in one state for too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[T, tuple[Hashable, float]] = {}

    def stalled(self, connections: Iterable[tuple[T, Hashable]], now: float) -> list[T]:
        """Return the connections whose state has not changed for too long by this clock; None is no such state.

        Call it every `LOOK_EVERY` seconds with all connections; the time counts from the first call with a state.
        """
        before, self._since = self._since, {}
        for connection, state in connections:
            last, since = before.get(connection, (None, now))
            self._since[connection] = (state, since if state is not None and state == last else now)
        return [each for each, (_, since) in self._since.items() if now - since >= self._seconds]
