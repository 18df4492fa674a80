"""Connections whose other side reads no more: nothing was taken for too long, though there is more to take.

What was taken is what the kernel says was acknowledged. A time limit for each write would see only what leaves the
process, and the kernel holds megabytes of that: a slow reader would be cut. So it would by TCP_USER_TIMEOUT, which
counts the time in which the reader's window was too small, whether it moves or not (seen on Linux 6.18).
"""

import struct
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Self

#: How much of Linux's `struct tcp_info` is read, and where: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes.
TCP_INFO_BYTES = 160
_UNACKED, _BYTES_ACKED, _NOTSENT_BYTES = 24, 120, 144


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of what was sent on a connection: how many bytes were taken, and whether there are more."""

    taken: int
    more: bool

    @classmethod
    def from_tcp_info(cls, info: bytes) -> Self:
        """What Linux (4.6 and newer) says of a connection by TCP_INFO."""
        (unacked,) = struct.unpack_from("=I", info, _UNACKED)
        (taken,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
        (not_sent,) = struct.unpack_from("=I", info, _NOTSENT_BYTES)
        return cls(taken, unacked > 0 or not_sent > 0)


class Stalls[T: Hashable]:
    """Finds the connections of which nothing was taken for so many seconds."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._since: dict[T, tuple[int, float]] = {}

    def look(self, connections: Iterable[tuple[T, Sent]], now: float) -> list[T]:
        """Those that stand still for too long by this clock; to be called every second or so with all there are."""
        before, self._since = self._since, {}
        for connection, sent in connections:
            taken, since = before.get(connection, (sent.taken, now))
            moved = taken != sent.taken or not sent.more
            self._since[connection] = (sent.taken, now if moved else since)
        return [each for each, (_, since) in self._since.items() if now - since >= self._idle_seconds]
