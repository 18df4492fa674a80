"""The service of one app: the core's part and the clients of S3."""

from threading import Lock
from typing import cast

from flask import current_app

import filehandoff.service
from filehandoff.identity import Authenticate
from filehandoff.service import token_source
from filehandoff.settings import Settings
from filehandoff.stored import Handler
from filehandoff.web.request import EXTENSION
from flask_app.cleanup import Cleaner
from flask_app.identity import TokenCheck
from flask_app.quotas import Limiter
from flask_app.shutdown import Shutdown
from flask_app.store import Store
from flask_app.stored import Webhook


class Service(filehandoff.service.Service):
    """The service of one app; safe to use from many threads.

    Raises:
        SettingsError: a file of tokens or keys cannot be used, AWS_PROFILE names no profile, or there are a
            webhook and an `on_stored`.
    """

    def __init__(
        self, settings: Settings, authenticate: Authenticate | None = None, on_stored: Handler | None = None
    ) -> None:
        if authenticate is None and (source := token_source(settings)) is not None:
            authenticate = TokenCheck(source)
        super().__init__("flask", settings, authenticate, lock=Lock, on_stored=on_stored)
        self.limiter = Limiter(settings)
        self.store = _store_class(settings)(settings, self.metrics)
        self.use_secret(self.store.open())
        self.webhook = Webhook(settings, self.trace_context)
        if settings.webhook_url is not None:
            self.on_stored = self.webhook.send
        self.cleaner = Cleaner(self.cleanup, self.store.run)
        self.shutdown = Shutdown(self.drain, settings.drain_seconds)

    def close(self) -> None:
        """Try the pending cleanup once more and close the connections to S3."""
        self.cleaner.close()
        self.webhook.close()
        self.store.close()
        self.limiter.close()


def _store_class(settings: Settings) -> type[Store]:
    """Return the class of the store, with a span for each call if UPLOAD_TRACES is on."""
    if not settings.traces:
        return Store
    from flask_app.tracing import TracedStore  # noqa: PLC0415 - needs OpenTelemetry, which is optional

    return TracedStore


def service() -> Service:
    """Return the service of the current app."""
    return cast("Service", current_app.extensions[EXTENSION])
