"""Who may upload now: so many at once, so many more that wait a moment, and the rest is told to come back.

Each upload holds a thread from its first byte to its last, and so does each that waits: `gunicorn.conf.py` counts on
both numbers to keep threads for everything else.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from filehandoff.admission import WAIT_SECONDS, busy, busy_reading


class Admission:
    """The places of one process: `at_once` to upload in, and as many again to wait in."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._places = threading.BoundedSemaphore(at_once)
        self._waiting_places = threading.BoundedSemaphore(at_once)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block takes.

        Raises:
            Overloaded: none came free in time, or too many wait for one already.
        """
        if not self._places.acquire(blocking=False):
            self._wait()
        try:
            yield
        finally:
            self._places.release()

    def _wait(self) -> None:
        if not self._waiting_places.acquire(blocking=False):
            raise busy(self._at_once)
        try:
            if not self._places.acquire(timeout=WAIT_SECONDS):
                raise busy(self._at_once)
        finally:
            self._waiting_places.release()


class Reading:
    """The places of one process to answer requests for objects in: `at_once`, and nobody waits for one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._places = threading.BoundedSemaphore(at_once)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block takes.

        Raises:
            Overloaded: none is free.
        """
        if not self._places.acquire(blocking=False):
            raise busy_reading(self._at_once)
        try:
            yield
        finally:
            self._places.release()
