"""The state that all flows of one service share."""

from contextlib import AbstractContextManager

from filehandoff.metrics import Metrics
from filehandoff.presigned import Seal
from filehandoff.s3.cleanup import Cleanup
from filehandoff.settings import Settings


class Context:
    """The settings, metrics, cleanup and seal of one service.

    Args:
        settings: the app's settings.
        lock: makes a lock, if several threads run flows.

    Attributes:
        seal: signs promises; `use_secret` replaces it when the AWS credentials are known.
    """

    def __init__(self, settings: Settings, lock: "type[AbstractContextManager[object]] | None" = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.cleanup = Cleanup(lock() if lock else None)
        self.seal = Seal(settings.promise_secret)

    def use_secret(self, secret: str | None) -> None:
        """Sign promises with the secret of the AWS credentials, unless the settings have one."""
        self.seal = Seal(self.settings.promise_secret or secret)
