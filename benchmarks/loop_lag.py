"""Measure the lag of the event loop that serves an ASGI app.

A task sleeps for 10 ms again and again; the excess is the lag. `GET /_benchmark/lag` responds with the lags since the
last such request as JSON, in microseconds. All other requests go to the app.
"""

import asyncio
import json
from typing import Any

PATH = "/_benchmark/lag"
INTERVAL_SECONDS = 0.01


class LoopLag:
    """ASGI middleware that measures the event loop and serves the measured lags."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lags: list[int] = []
        self._watching: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one ASGI scope."""
        if self._watching is None:  # the first call runs on the serving loop
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
