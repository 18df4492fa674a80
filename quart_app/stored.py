"""The call of the handler of stored files, and the webhook."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any

import aiohttp

from filehandoff.settings import Settings
from filehandoff.stored import Handle, Receipts
from filehandoff.webhook import Attempt, attempts
from quart_app.tasks import finish_despite_cancel, in_thread, result_in_time


async def handle(step: Handle) -> None:
    """Call the handler, for as long as it may take, even if the client disconnects; the shutdown cancels it.

    Raises:
        HandlerFailed: the handler has raised, or has not returned in time.
    """
    await finish_despite_cancel(_handle(step), asyncio.Task.cancel)


async def _handle(step: Handle) -> None:
    with step.failing():
        await result_in_time(_await(step.call), step.seconds)
    step.keep()


async def _await(call: Callable[[], Any]) -> None:
    result = call() if iscoroutinefunction(call) else await in_thread(call)
    if isawaitable(result):
        await result


class Webhook:
    """The sender of receipts to `UPLOAD_WEBHOOK_URL`, with `more` headers; safe to use from many tasks."""

    def __init__(self, settings: Settings, more: Callable[[], dict[str, str]] = dict) -> None:
        self._url = settings.webhook_url or ""
        self._secret = settings.webhook_secret or ""
        self._more = more
        self._timeout = aiohttp.ClientTimeout(total=settings.webhook_timeout)

    async def send(self, receipts: Receipts) -> None:
        """Send the receipts until an attempt is accepted.

        Raises:
            WebhookFailed: no attempt was accepted.
        """
        for attempt in attempts(self._secret, receipts, self._more()):
            await asyncio.sleep(attempt.pause)
            try:
                attempt.status = await self._post(attempt)
            except (aiohttp.ClientError, TimeoutError) as error:
                attempt.error = error

    async def _post(self, attempt: Attempt) -> int:
        """Send one attempt, and return the status of the response, whose body stays unread."""
        # With a connection of its own, because a kept one could be stale.
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            headers = attempt.headers(time.time())
            async with session.post(self._url, data=attempt.body, headers=headers, allow_redirects=False) as response:
                return response.status
