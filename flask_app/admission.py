"""Places for uploads: a request waits here until one is free.

Each running and each waiting upload holds a thread. `gunicorn.conf.py` counts both to keep threads for other requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from filehandoff.admission import WAIT_SECONDS, Places


@contextmanager
def place(places: Places) -> Iterator[None]:
    """Hold a place for the block.

    Raises:
        Overloaded: no place came free in time, or too many requests already wait.
    """
    turn = Event()
    own = places.ask(turn.set)
    try:
        if not own.admitted and not turn.wait(WAIT_SECONDS):
            places.end_wait(own)
        yield
    finally:
        places.leave(own)
