"""Waiting for events, with the one limit of all tests that are not about time."""

import time
from collections.abc import Callable

#: How long a test waits for an event, in seconds: only a fault takes that long, on the slowest machine too.
PATIENCE = 180.0
#: How often a test looks for an event that nothing announces, in seconds.
LOOK_EVERY = 0.02


def wait_until(happened: Callable[[], object], explain: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for an event; fail with the explanation when it does not come."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(LOOK_EVERY)
