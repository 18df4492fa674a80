"""Waits for a place to upload in.

Each upload holds a thread from its first byte to its last, and so does each that waits: `gunicorn.conf.py` counts on
both numbers to keep threads for everything else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from filehandoff.admission import WAIT_SECONDS, Places


@contextmanager
def place(places: Places) -> Iterator[None]:
    """Hold a place for the block.

    Raises:
        Overloaded: none came free in time, or too many requests wait already.
    """
    turn = Event()
    own = places.ask(turn.set)
    try:
        if not own.admitted and not turn.wait(WAIT_SECONDS):
            places.end_wait(own)
        yield
    finally:
        places.leave(own)
