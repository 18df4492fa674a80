"""The state that all flows of one service share."""

from contextlib import AbstractContextManager

from filehandoff.file_types import FileTypes
from filehandoff.metrics import Metrics
from filehandoff.presigned import Seal
from filehandoff.s3.cleanup import Cleanup
from filehandoff.settings import Settings


class Context:
    """The settings, metrics, cleanup and seal of one service.

    Args:
        settings: the app's settings.
        lock: makes a lock, if several threads run flows.

    Raises:
        SettingsError: a setting needs a library that is not installed.

    Attributes:
        file_types: checks each file's first bytes; None if no setting needs it.
        seal: signs promises; `use_secret` replaces it when the AWS credentials are known.
        conditional_writes: whether the store honours `If-None-Match: *`; None before the first resumable upload.
    """

    def __init__(self, settings: Settings, lock: "type[AbstractContextManager[object]] | None" = None) -> None:
        self.settings = settings
        self.file_types = (
            FileTypes(settings.allowed_types, store_found=settings.store_found_type)
            if settings.allowed_types or settings.store_found_type
            else None
        )
        self.metrics = Metrics()
        self.cleanup = Cleanup(lock() if lock else None)
        self.seal = Seal(settings.promise_secret)
        self.conditional_writes: bool | None = None

    def use_secret(self, secret: str | None) -> None:
        """Sign promises with the secret of the AWS credentials, unless the settings have one."""
        self.seal = Seal(self.settings.promise_secret or secret)
