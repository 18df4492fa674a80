"""The state that all requests of one app share, without the shell's clients of S3."""

from contextlib import AbstractContextManager

from filehandoff.admission import read_places, upload_places
from filehandoff.drain import Drain
from filehandoff.logs import AnswerLog
from filehandoff.s3.context import Context
from filehandoff.settings import Settings


class Service(Context):
    """The settings and the shared state of one app.

    Args:
        framework: the framework's name, for receipts.
        settings: the app's settings.
        lock: makes a lock, if several threads serve requests.

    Attributes:
        uploads: the places for uploads.
        reads: the places for requests for objects.
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
