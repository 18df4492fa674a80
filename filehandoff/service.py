"""One service: its settings and all that its requests share, but for the clients of S3, which a shell adds."""

from contextlib import AbstractContextManager

from filehandoff.admission import read_places, upload_places
from filehandoff.cleanup import Cleanup
from filehandoff.drain import Drain
from filehandoff.logs import AnswerLog
from filehandoff.presigned import Seal
from filehandoff.settings import Settings
from filehandoff.web.metrics import Metrics


class Service:
    """What the requests of one app share.

    Args:
        framework: the name of the app's framework, as receipts give it.
        settings: the app's settings.
        lock: makes a lock, where several threads serve requests.

    Attributes:
        seal: marks promises; made anew when the AWS credentials are known, unless the settings have a secret.
        uploads: the places of uploads.
        reads: the places of requests for objects.
    """

    def __init__(
        self, framework: str, settings: Settings, lock: "type[AbstractContextManager[object]] | None" = None
    ) -> None:
        self.framework = framework
        self.settings = settings
        self.metrics = Metrics()
        self.cleanup = Cleanup(lock() if lock else None)
        self.uploads = upload_places(settings.max_concurrent, lock() if lock else None)
        self.reads = read_places(settings.max_concurrent, lock() if lock else None)
        self.drain = Drain()
        self.answer_log = AnswerLog()
        self.seal = Seal(settings.promise_secret)

    def use_secret(self, secret: str | None) -> None:
        """Mark promises by the secret of the AWS credentials, which all processes share; the settings' comes first."""
        self.seal = Seal(self.settings.promise_secret or secret)
