"""What the flows of one service share."""

from contextlib import AbstractContextManager

from filehandoff.metrics import Metrics
from filehandoff.presigned import Seal
from filehandoff.s3.cleanup import Cleanup
from filehandoff.settings import Settings


class Context:
    """A service as its flows see it.

    Args:
        settings: the app's settings.
        lock: makes a lock, where several threads run flows.

    Attributes:
        seal: marks promises; made anew when the AWS credentials are known, unless the settings have a secret.
    """

    def __init__(self, settings: Settings, lock: "type[AbstractContextManager[object]] | None" = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.cleanup = Cleanup(lock() if lock else None)
        self.seal = Seal(settings.promise_secret)

    def use_secret(self, secret: str | None) -> None:
        """Mark promises by the secret of the AWS credentials, which all processes share; the settings' comes first."""
        self.seal = Seal(self.settings.promise_secret or secret)
