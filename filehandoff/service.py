"""One service: its settings and all that its requests share, but for the clients of S3, which a shell adds."""

from contextlib import AbstractContextManager

from filehandoff.admission import read_places, upload_places
from filehandoff.drain import Drain
from filehandoff.logs import AnswerLog
from filehandoff.s3.context import Context
from filehandoff.settings import Settings


class Service(Context):
    """What the requests of one app share.

    Args:
        framework: the name of the app's framework, as receipts give it.
        settings: the app's settings.
        lock: makes a lock, where several threads serve requests.

    Attributes:
        uploads: the places of uploads.
        reads: the places of requests for objects.
    """

    def __init__(
        self, framework: str, settings: Settings, lock: "type[AbstractContextManager[object]] | None" = None
    ) -> None:
        super().__init__(settings, lock)
        self.framework = framework
        self.uploads = upload_places(settings.max_concurrent, lock() if lock else None)
        self.reads = read_places(settings.max_concurrent, lock() if lock else None)
        self.drain = Drain()
        self.answer_log = AnswerLog()
