"""The call of the handler of stored files, and the webhook."""

import time
from collections.abc import Callable
from inspect import isawaitable

import urllib3
from urllib3.exceptions import HTTPError

from filehandoff import cancellation
from filehandoff.settings import Settings
from filehandoff.stored import Handle, Receipts
from filehandoff.webhook import Attempt, attempts
from flask_app.threads import result_in_time


def handle(step: Handle) -> None:
    """Call the handler in another thread, for as long as it may take.

    Raises:
        HandlerFailed: the handler has raised, or has not returned in time.
    """
    with step.failing():
        if isawaitable(result_in_time(step.call, step.seconds)):
            raise TypeError("on_stored returned an awaitable, which a Flask app cannot await")
    step.keep()


class Webhook:
    """The sender of receipts to `UPLOAD_WEBHOOK_URL`, with `more` headers; safe to use from many threads."""

    def __init__(self, settings: Settings, more: Callable[[], dict[str, str]] = dict) -> None:
        self._url = settings.webhook_url or ""
        self._secret = settings.webhook_secret or ""
        self._more = more
        self._timeout = urllib3.Timeout(total=settings.webhook_timeout)
        self._connections = urllib3.PoolManager()

    def send(self, receipts: Receipts) -> None:
        """Send the receipts until an attempt is accepted.

        Raises:
            WebhookFailed: no attempt was accepted.
        """
        for attempt in attempts(self._secret, receipts, self._more()):
            time.sleep(attempt.pause)
            cancellation.check()
            try:
                attempt.status = self._post(attempt)
            except HTTPError as error:
                attempt.error = error

    def _post(self, attempt: Attempt) -> int:
        """Send one attempt, and return the status of the response, whose body stays unread."""
        response = self._connections.request(
            "POST",
            self._url,
            body=attempt.body,
            headers=attempt.headers(time.time()),
            timeout=self._timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        response.close()  # with its connection, because a kept one could be stale
        return response.status

    def close(self) -> None:
        """Close the connections."""
        self._connections.clear()
