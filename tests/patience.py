"""Wait for events, with one time limit for all tests that do not measure time."""

import time
from collections.abc import Callable

#: Seconds that a test waits for an event; only a fault takes so long, even on a slow machine.
PATIENCE = 180.0
#: Seconds that a client keeps an idle connection. The apps end it after 5 seconds, as httpx does by default, and
#: a request that arrives at that moment gets no answer (RFC 9112, section 9.5).
KEPT_SECONDS = 2.0
#: Seconds between two checks for an event.
LOOK_EVERY = 0.02


def wait_until(happened: Callable[[], object], explain: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for an event; fail with the explanation after the time limit."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(LOOK_EVERY)
