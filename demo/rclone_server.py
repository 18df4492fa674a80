"""rclone's S3 on an inherited socket and a temporary folder: `python -m demo.rclone_server FD PROGRAM`.

rclone takes a socket by systemd's socket activation (sd_listen_fds(3)): descriptor 3, if LISTEN_PID is its own id. That
id is known only between fork and exec. This process stays as its parent, to delete the folder however rclone ends.
"""

import os
import signal
import sys
import tempfile
from typing import NoReturn

FIRST_FD = 3


def main() -> None:
    """Serve until SIGTERM or until rclone ends; exit with rclone's status."""
    signal.signal(signal.SIGTERM, _end)
    fd, program = int(sys.argv[1]), sys.argv[2]
    key = f"{os.environ['AWS_ACCESS_KEY_ID']},{os.environ['AWS_SECRET_ACCESS_KEY']}"
    with tempfile.TemporaryDirectory(prefix="handoff-rclone-") as folder:
        command = [program, "serve", "s3", "--auth-key", key, "--config", os.devnull, folder]
        child = os.fork() or _become(command, fd)
        try:
            _, status = os.waitpid(child, 0)
        except SystemExit:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
    sys.exit(os.waitstatus_to_exitcode(status))


def _become(command: list[str], fd: int) -> NoReturn:
    """In the child: pass the socket on and become rclone; never returns."""
    try:
        os.dup2(fd, FIRST_FD)
        os.set_inheritable(FIRST_FD, True)  # noqa: FBT003 - dup2 onto the same descriptor leaves it non-inheritable
        os.execve(command[0], command, os.environ | {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})  # noqa: S606 - our own command
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(1)


def _end(*_signal: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
