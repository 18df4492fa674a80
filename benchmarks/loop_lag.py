"""How late an event loop is, seen from within, for any ASGI app: `LoopLag` around it.

A task sleeps for 10 ms again and again, and the time that it oversleeps is the lag. `GET /_benchmark/lag` answers the
lags since it was last asked, in microseconds, as JSON. Everything else goes to the app untouched.
"""

import asyncio
import json
from typing import Any

PATH = "/_benchmark/lag"
INTERVAL_SECONDS = 0.01


class LoopLag:
    """An ASGI app that passes everything on but our own request."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lags: list[int] = []
        self._watching: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a connection."""
        if self._watching is None:  # the first call, on the loop that serves
            self._watching = asyncio.create_task(self._watch())
        if scope["type"] == "http" and scope["path"] == PATH:
            await self._respond(send)
        else:
            await self._app(scope, receive, send)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(INTERVAL_SECONDS)
            self._lags.append(int((loop.time() - began - INTERVAL_SECONDS) * 1e6))

    async def _respond(self, send: Any) -> None:
        body = json.dumps(self._lags).encode()
        self._lags.clear()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
