"""The service of one app: the core's part, the clients of S3, and the connections."""

from typing import cast

from quart import current_app

import filehandoff.service
from filehandoff.identity import Authenticate
from filehandoff.service import token_source
from filehandoff.settings import Settings
from filehandoff.stored import Handler
from filehandoff.web.request import EXTENSION
from quart_app.cleanup import Cleaner
from quart_app.connections import Connections
from quart_app.identity import TokenCheck
from quart_app.quotas import Limiter
from quart_app.shutdown import Shutdown
from quart_app.store import Store
from quart_app.stored import Webhook


class Service(filehandoff.service.Service):
    """The service of one app; safe to use from many tasks.

    Raises:
        SettingsError: a file of tokens or keys cannot be used, or there are a webhook and an `on_stored`.
    """

    def __init__(
        self, settings: Settings, authenticate: Authenticate | None = None, on_stored: Handler | None = None
    ) -> None:
        if authenticate is None and (source := token_source(settings)) is not None:
            authenticate = TokenCheck(source)
        super().__init__("quart", settings, authenticate, on_stored=on_stored)
        self.limiter = Limiter(settings)
        self.store = _store_class(settings)(settings, self.metrics)
        if settings.webhook_url is not None:
            self.on_stored = Webhook(settings, self.trace_context).send
        self.cleaner = Cleaner(self.cleanup, self.store.run)
        self.connections = Connections(settings.idle_timeout)
        self.shutdown = Shutdown(self.drain, settings.drain_seconds, self.connections.hang_up)

    async def open(self) -> None:
        """Open the connections to S3.

        Raises:
            SettingsError: AWS_PROFILE names no profile.
        """
        self.use_secret(await self.store.open())

    async def close(self) -> None:
        """Try the pending cleanup once more and close the connections to S3."""
        await self.cleaner.close()
        await self.store.close()
        await self.limiter.close()


def _store_class(settings: Settings) -> type[Store]:
    """Return the class of the store, with a span for each call if UPLOAD_TRACES is on."""
    if not settings.traces:
        return Store
    from quart_app.tracing import TracedStore  # noqa: PLC0415 - needs OpenTelemetry, which is optional

    return TracedStore


def service() -> Service:
    """Return the service of the current app."""
    return cast("Service", current_app.extensions[EXTENSION])
