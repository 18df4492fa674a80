"""The limit of file descriptors, and the number of client connections that it allows.

Without a free descriptor everything fails at once: the process can accept no connection, connect to no S3 server and
open no file.
"""

from contextlib import suppress

from filehandoff.admission import reads_at_once, threads
from filehandoff.settings import Settings

#: Descriptors requested. Not more: some programs loop over all descriptors that a process may have.
ENOUGH = 65_536
#: Descriptors of the process itself: its libraries' files, pipes and sockets, and its probes of S3.
OWN = 32
#: Idle connections: kept alive for a next request, or waiting for their first.
KEPT = 1000
#: Descriptors of an upload beside its connections to S3: the form's temporary file, and a copy of it.
FILES = 2


def raise_limit() -> int:
    """Raise the limit of descriptors to `ENOUGH` or the system's own; return the new limit.

    A shell's default is 1,024, for old programs that call `select`, which handles no more. Child processes inherit the
    new limit.
    """
    limit = ENOUGH
    with suppress(ImportError):  # Windows has no such limit
        import resource  # noqa: PLC0415 - Windows lacks the module

        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = ENOUGH if most == resource.RLIM_INFINITY else min(most, ENOUGH)
        if limit != resource.RLIM_INFINITY and limit < wanted:
            with suppress(OSError, ValueError):  # macOS reports an unlimited maximum and rejects it
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
                limit = wanted
    return ENOUGH if limit < 0 else limit


def connections(limit: int, settings: Settings) -> int:
    """Return how many client connections a process may hold open with this limit of descriptors.

    A third of the descriptors left stays free for connections that are still drained after their responses. The result
    is at least one more than the process has threads.
    """
    uploads = settings.max_concurrent * (settings.parts_in_flight + FILES)
    room = limit - OWN - uploads - reads_at_once(settings.max_concurrent)
    served = threads(settings.max_concurrent)
    return max(served + 1, min(served + KEPT, room * 2 // 3))
