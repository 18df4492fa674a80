"""How many uploads a process takes on at once, how many more may wait for their turn, and what the others are told.

`UPLOAD_MAX_CONCURRENT` run, as many again may wait, each for at most `WAIT_SECONDS`, so that a burst of short uploads
is not refused; everything above that is refused at once. Who waits holds no more than the first bytes of its body.
"""

from handoff.errors import Overloaded

#: How long an upload may wait to be taken on, in seconds: shorter than a client that is refused would wait.
WAIT_SECONDS = 1.0
#: How long after SIGTERM an upload may still begin, in seconds: it was sent before, to a process that was ready.
LATE_SECONDS = 1.0


def busy(at_once: int) -> Overloaded:
    """The error for an upload that finds this many running, and is not taken on."""
    return Overloaded(
        f"This process takes {at_once} uploads at once, and they are under way. Nothing was stored; try again later."
    )


def ending() -> Overloaded:
    """The error for an upload, or a look at /readyz, in a process that is about to end."""
    return Overloaded("The service is shutting down. Nothing was stored; try again later.")
