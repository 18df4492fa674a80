"""rclone's S3 on an inherited socket and a folder of its own: `python -m demo.rclone_server FD PROGRAM`.

rclone takes a socket by systemd's socket activation (sd_listen_fds(3)): descriptor 3, if LISTEN_PID is its own id,
which is known only between fork and exec. This process stays as its parent, to remove the folder however it is ended.
"""

import os
import signal
import sys
import tempfile
from typing import NoReturn

FIRST_FD = 3


def main() -> None:
    """Serve until SIGTERM, or until rclone ends; the exit status is rclone's."""
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
    """In the child: hand over the socket and become rclone; never returns, whatever happens."""
    try:
        os.dup2(fd, FIRST_FD)
        os.set_inheritable(FIRST_FD, True)  # noqa: FBT003 - dup2 of a descriptor on itself leaves that as it was
        os.execve(command[0], command, os.environ | {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})  # noqa: S606 - our own command
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(1)


def _end(*_signal: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
