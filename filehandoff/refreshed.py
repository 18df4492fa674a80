"""Content from elsewhere that is read again while the process runs: the times, without the reading."""

import logging
from abc import ABC, abstractmethod

logger = logging.getLogger(__name__)

#: Seconds until the next attempt after a failed one.
RETRY_SECONDS = 10.0


class Refreshed(ABC):
    """Content of a file or a server, read again after `every` seconds.

    Attributes:
        address: the path or the URL.
    """

    def __init__(self, address: str, *, every: float) -> None:
        self.address = address
        self._every = every
        self._next = self._read = float("-inf")
        self._data: bytes | None = None
        self._failure = ""

    def is_due(self, _token: str, now: float) -> bool:
        """Return whether the content must be read again."""
        return now >= self._next

    def take(self, data: bytes, now: float) -> None:
        """Use this content from now on.

        Raises:
            ValueError: the content cannot be used; the message is one line.
        """
        if data != self._data:
            self.use(data)
            if self._data is not None:
                logger.info("%s has changed", self.address)
        self._data, self._failure = data, ""
        self._read, self._next = now, now + self._every

    @abstractmethod
    def use(self, data: bytes) -> None:
        """Parse changed content; raise ValueError if it cannot be used."""

    def fail(self, error: Exception, now: float) -> None:
        """Log a failed read or `take`, once for each reason; the former content stays in use."""
        self._read, self._next = now, now + min(self._every, RETRY_SECONDS)
        if (reason := str(error)) != self._failure:
            self._failure = reason
            kept = "the former content is kept" if self._data is not None else "no token can be verified"
            logger.error("%s cannot be used, and %s: %s", self.address, kept, reason)
