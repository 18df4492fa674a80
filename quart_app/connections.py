"""The connections of requests: stalled ones end, and all end with the process.

hypercorn 0.18 sets no time limit for a client to read its answer, neither while it serves nor while it ends.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from socket import IPPROTO_TCP
from typing import Any, cast

from urllib3.util import wait_for_read

from filehandoff.stall_detection import LOOK_EVERY, TCP_INFO_BYTES, StallDetector, acknowledged

if sys.platform == "linux":
    from socket import TCP_INFO


class Connections:
    """The open connections of one process, by their transports."""

    def __init__(self, idle_seconds: float) -> None:
        #: Not weakly, because uvloop's transports of TLS take no weak reference; `watch` drops the closed ones.
        self._open: set[asyncio.Transport] = set()
        self._idle_seconds = idle_seconds
        self._stalls = StallDetector[asyncio.Transport]()

    def add(self, transport: asyncio.Transport | None) -> None:
        """Watch this connection from now on."""
        if transport is not None:
            self._open.add(transport)

    async def watch(self) -> None:
        """End every connection that stalls for too long."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._open = {transport for transport in self._open if not transport.is_closing()}
            for transport in self._stalls.stalled(self._deliveries(), self._idle_seconds):
                transport.abort()

    def hang_up(self) -> None:
        """End all connections and drop unsent bytes; their tasks see disconnected clients."""
        for transport in tuple(self._open):
            transport.abort()

    def _deliveries(self) -> Iterator[tuple[asyncio.Transport, int | None]]:
        for transport in tuple(self._open):
            with suppress(OSError, ValueError):  # closed, or not a TCP connection
                yield transport, delivered(transport)


def delivered(transport: asyncio.Transport) -> int | None:
    """Return the number of bytes that a client has acknowledged.

    None means that the client has received everything, or that the system cannot report the number. A closed transport
    of uvloop has no socket, or one whose methods raise ValueError.
    """
    connection, linux = transport.get_extra_info("socket"), sys.platform == "linux"
    return acknowledged(connection.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)) if connection and linux else None


def is_readable(transport: asyncio.BaseTransport) -> bool:
    """Return whether bytes have arrived that the transport has not read, or the client has ended the connection."""
    connection = transport.get_extra_info("socket")
    with suppress(OSError, ValueError):  # closed, as in `delivered`
        return connection is not None and wait_for_read(connection, timeout=0)
    return False


def transport_of(send: Any) -> asyncio.Transport | None:
    """Return the transport below hypercorn's or uvicorn's `send`; None for another server."""
    server_side: Any = getattr(send, "__self__", None)
    with suppress(AttributeError):
        return cast("asyncio.Transport", server_side.send.__self__.send.__self__.writer.transport)  # hypercorn
    return getattr(server_side, "transport", None)  # uvicorn
