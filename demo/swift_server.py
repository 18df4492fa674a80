"""OpenStack Swift's S3 on an inherited socket and a temporary folder: `python -m demo.swift_server FD`.

Swift runs in a child, `demo.swift_cluster`. This process stays as its parent, to delete the folder however the child
ends; a killed child leaves nothing else behind.
"""

import signal
import sys
import tempfile
from typing import NoReturn

from demo.processes import python, start_child


def main() -> None:
    """Serve until SIGTERM or until Swift ends; exit with Swift's status."""
    signal.signal(signal.SIGTERM, _end)
    fd = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="handoff-swift-") as folder:
        child = start_child(
            python("demo.swift_cluster", fd, folder),
            pass_fds=[int(fd)],
        )
        try:
            status = child.wait()
        finally:
            child.kill()
            child.wait()
    sys.exit(status)


def _end(*_signal: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the removal of the folder
    sys.exit(0)


if __name__ == "__main__":
    main()
