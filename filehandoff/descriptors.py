"""How many file descriptors a process has, and for how many connections of clients that is enough.

Where they run out, everything fails at once: no connection is taken, none to S3 is made, no file is written to disk.
"""

from contextlib import suppress

from filehandoff.admission import reads_at_once, threads
from filehandoff.settings import Settings

#: As many are asked for as this: some programs go through all that a process may have.
ENOUGH = 65_536
#: What a process has open by itself: its libraries' files, pipes and sockets, and those of its probes of S3.
OWN = 32
#: The connections that are kept for their clients' next requests, or whose requests are still to come.
KEPT = 1000
#: What an upload has beside its connections to S3: the file that its form was read into, and a copy.
FILES = 2


def raise_limit() -> int:
    """Let this process, and those that it starts, have as many descriptors as the system allows; says how many.

    A shell gives 1,024, for the sake of programs of the last century (`select` knows no more).
    """
    limit = ENOUGH
    with suppress(ImportError):  # Windows has no such limit
        import resource  # noqa: PLC0415 - as it is not there everywhere

        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = ENOUGH if most == resource.RLIM_INFINITY else min(most, ENOUGH)
        if limit != resource.RLIM_INFINITY and limit < wanted:
            with suppress(OSError, ValueError):  # macOS says that it is unlimited, and is not
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
                limit = wanted
    return ENOUGH if limit < 0 else limit


def connections(limit: int, settings: Settings) -> int:
    """How many connections of clients a process may have open that has so many descriptors, and threads.

    Half as many again may be read on after their answers. It is one for each thread and some, however few there are.
    """
    uploads = settings.max_concurrent * (settings.parts_in_flight + FILES)
    room = limit - OWN - uploads - reads_at_once(settings.max_concurrent)
    served = threads(settings.max_concurrent)
    return max(served + 1, min(served + KEPT, room * 2 // 3))
