"""How many uploads a process takes on at once, how many more may wait for their turn, and what the others are told.

`UPLOAD_MAX_CONCURRENT` run, as many again may wait, each for at most `WAIT_SECONDS`, so that a burst of short uploads
is not refused; everything above that is refused at once. Who waits holds no more than the first bytes of its body.

What else asks S3, such as a download, has places of its own. Nobody waits for those: there are more of them instead.
So a store that answers nothing, or clients that are slow to read, leave `SPARE_THREADS` for /healthz and for saying no.
"""

from filehandoff.errors import Overloaded

#: How long an upload may wait to be taken on, in seconds: shorter than a client that is refused would wait.
WAIT_SECONDS = 1.0
#: How long after SIGTERM an upload may still begin, in seconds: it was sent before, to a process that was ready.
LATE_SECONDS = 1.0
#: The threads that nothing which may take long ever holds.
SPARE_THREADS = 8


def reads_at_once(max_concurrent: int) -> int:
    """How many requests for objects, or for URLs of their parts, are answered at once."""
    return 2 * max_concurrent


def threads(max_concurrent: int) -> int:
    """How many threads a process needs that serves each request by one."""
    return max_concurrent + max_concurrent + reads_at_once(max_concurrent) + SPARE_THREADS


def busy(at_once: int) -> Overloaded:
    """The error for an upload that finds this many running, and is not taken on."""
    return Overloaded(
        f"This process takes {at_once} uploads at once, and they are under way. Nothing was stored; try again later."
    )


def busy_reading(at_once: int) -> Overloaded:
    """The error for a request about an object that finds this many under way."""
    return Overloaded(
        f"This process answers {at_once} requests for objects at once, and they are under way; try again later."
    )


def ending() -> Overloaded:
    """The error for an upload, or a look at /readyz, in a process that is about to end."""
    return Overloaded("The service is shutting down. Nothing was stored; try again later.")
