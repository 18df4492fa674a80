"""The identification of senders by their tokens, without a blocking call on the event loop."""

import asyncio
import time
from pathlib import Path

import aiohttp

from filehandoff.identity import MAX_KEYS_BYTES, READ_SECONDS, Identity, RequestHead, TokenSource, bearer_token


class TokenCheck:
    """Identifies senders by their bearer tokens; safe to use from many tasks."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._lock = asyncio.Lock()

    async def __call__(self, head: RequestHead) -> Identity:
        """Return the owner of the request's token.

        Raises:
            Unauthorized: the request has no valid token.
            IdentityUnavailable: the keys of tokens cannot be had.
        """
        token = bearer_token(head.headers)
        if self._source.is_due(token, time.monotonic()):
            async with self._lock:
                if self._source.is_due(token, time.monotonic()):
                    await self._read()
        return self._source.identify(token)

    async def _read(self) -> None:
        address = self._source.address
        try:
            data = await (fetch(address) if "://" in address else asyncio.to_thread(Path(address).read_bytes))
            self._source.take(data, time.monotonic())
        except (OSError, ValueError, aiohttp.ClientError) as error:
            self._source.fail(error, time.monotonic())


async def fetch(url: str) -> bytes:
    """Return the content at this URL.

    Raises:
        ClientError, OSError: there is no answer in time.
        ValueError: the answer is no content.
    """
    timeout = aiohttp.ClientTimeout(total=READ_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise ValueError(f"the answer has the status {answer.status}")
        data = bytearray()
        while len(data) < MAX_KEYS_BYTES and (piece := await answer.content.read(MAX_KEYS_BYTES)):
            data += piece  # each read returns only the bytes that have arrived
        return bytes(data[:MAX_KEYS_BYTES])
