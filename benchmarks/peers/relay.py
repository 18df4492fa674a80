"""The limit: an ASGI app that relays a PUT's body to the store, without processing or only hashed."""

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, DummyCookieJar

STORE = f"{os.environ['UPLOAD_S3_ENDPOINT_URL']}/{os.environ['UPLOAD_BUCKET']}"
_sessions: list[ClientSession] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Handle `PUT /<name>`; the length must be declared."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await _relay(scope, _body(receive), send)


async def hashing(scope: Any, receive: Any, send: Any) -> None:
    """Do the same, and compute the body's SHA-256."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await _relay(scope, _hashed(_body(receive)), send)


async def _relay(scope: Any, body: AsyncIterator[bytes], send: Any) -> None:
    headers = {"Content-Length": dict(scope["headers"])[b"content-length"].decode()}
    async with _session().put(STORE + scope["path"], data=body, headers=headers) as answer:
        status = 201 if answer.status == 200 else 502  # noqa: PLR2004 - S3's answer to a put
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Any) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        yield message["body"]


async def _hashed(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    async for chunk in body:
        digest.update(chunk)
        yield chunk
    digest.hexdigest()


def _session() -> ClientSession:
    if not _sessions:
        _sessions.append(ClientSession(cookie_jar=DummyCookieJar()))
    return _sessions[0]


async def _live(receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await _session().close()
    await send({"type": "lifespan.shutdown.complete"})
