"""Time limits that uvicorn 0.54 lacks: for a request's head to arrive, and for uploads when it replaces its process.

uvicorn limits only the time between an answer and the next request: a connection that sends nothing, or half a head,
stays open for ever. And it ends after `--limit-max-requests` without a signal, by which `Shutdown.watch` would know.
"""

import asyncio
import time
from socket import socket
from typing import Any

from uvicorn import Server
from uvicorn.server import ServerState

from quart_app.shutdown import Shutdown

#: Seconds between two looks at the connections; a shorter pause costs CPU.
LOOK_EVERY = 1.0

_startup, _shutdown = Server.startup, Server.shutdown


def install(uploads: Shutdown) -> None:
    """Add them to the servers of this process, whose uploads these are."""

    async def startup(server: Server, sockets: list[socket] | None = None) -> None:
        await _startup(server, sockets)
        limit = end_late_heads(server.server_state, server.config.timeout_keep_alive)
        server.handoff_heads = asyncio.create_task(limit, name="heads")  # type: ignore[attr-defined] # or it is collected

    async def shutdown(server: Server, sockets: list[socket] | None = None) -> None:
        uploads.begin_end()
        server.handoff_heads.cancel()  # type: ignore[attr-defined] # ours
        await _shutdown(server, sockets)

    Server.startup = startup  # type: ignore[method-assign, assignment] # uvicorn takes no class of ours
    Server.shutdown = shutdown  # type: ignore[method-assign, assignment]


async def end_late_heads(state: ServerState, seconds: float) -> None:
    """End the connections whose next request has had so long to arrive, until cancelled."""
    since: dict[Any, float] = {}
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = time.monotonic()
        connections: set[Any] = state.connections
        waiting = [(protocol, protocol.cycle) for protocol in connections if waits_for_head(protocol)]
        since = {one: since.get(one, now) for one in waiting}
        for (protocol, _last_request), began in since.items():
            if now - began > seconds:
                protocol.transport.abort()


def waits_for_head(protocol: Any) -> bool:
    """Whether a connection has no request under way, and no timer of uvicorn's own."""
    if not hasattr(protocol, "cycle"):
        return False  # a WebSocket
    answered = protocol.cycle is None or protocol.cycle.response_complete
    return answered and protocol.timeout_keep_alive_task is None
