"""Serve the app in one process, or in several supervised ones (`--workers 4`).

Options that are not listed here go to the server unchanged: `--max-requests 1000`, `--access-logfile -`. A last
argument `MODULE:NAME` names another app than `quart_app.asgi:app`, made by `quart_app.start.start_app`.
"""

import argparse
import logging
import os
import re
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from socket import socket

from filehandoff import logs
from filehandoff.errors import SettingsError
from filehandoff.service import OPEN
from filehandoff.settings import Settings
from quart_app import hypercorn_server, uvicorn_server
from quart_app.servers import listen
from quart_app.shutdown import ignore_reload_signals
from quart_app.workers import Supervisor

#: The app that the servers load, without another one as the last argument.
APP = "quart_app.asgi:app"
_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: The function of each server that serves in this process.
RUN = {"hypercorn": hypercorn_server.run, "uvicorn": uvicorn_server.run}
PORT = 8000


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; return the exit status."""
    ignore_reload_signals()
    options, rest = parser().parse_known_args(arguments)
    *others, last = rest or [APP]
    rest = [*(other for other in others if other != APP), last, *([] if _APP.fullmatch(last) else [APP])]
    config = options.config or Path(__file__).with_name(f"{options.server}.toml")
    try:
        workers = number_of_workers(config) if options.workers is None else options.workers
        listeners = [listen(bind) for bind in options.bind or [f"127.0.0.1:{PORT}"]]
        if workers:
            return supervise(workers, [f"--server={options.server}", f"--config={config}", *rest], listeners)
    except (OSError, SettingsError) as error:
        sys.exit(f"quart_app: {error}")
    return RUN[options.server](config, listeners, rest)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options that both servers share."""
    parser = argparse.ArgumentParser("python -m quart_app", description=__doc__, allow_abbrev=False)
    parser.add_argument("--server", choices=RUN, default="hypercorn", help="the ASGI server (hypercorn)")
    parser.add_argument(
        "-b", "--bind", action="append", help=f"HOST:PORT, unix:PATH or fd://NUMBER; again for more (127.0.0.1:{PORT})"
    )
    parser.add_argument(
        "-w", "--workers", type=count, help="processes to supervise; 0 serves in this one (as the configuration says)"
    )
    parser.add_argument("-c", "--config", type=Path, help="the server's configuration (quart_app/SERVER.toml)")
    return parser


def count(text: str) -> int:
    """Parse a number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of processes")
    return int(text)


def number_of_workers(config: Path) -> int:
    """Return the key `workers` of a TOML configuration; 0 without one.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return int(tomllib.loads(config.read_text()).get("workers", 0))
    except (ValueError, TypeError) as error:
        sys.exit(f"quart_app: {config}: {error}")


def supervise(workers: int, arguments: list[str], listeners: list[socket]) -> int:
    """Serve by several processes, each of which runs this command on inherited sockets.

    Raises:
        SettingsError: a setting cannot work.
    """
    settings = Settings.from_env(os.environ)
    logs.configure(settings)
    if settings.auth == "none":
        logging.getLogger("quart_app").warning(OPEN)
    binds = [f"--bind=fd://{listener.fileno()}" for listener in listeners]
    command = [sys.executable, "-m", "quart_app", "--workers=0", *binds, *arguments]
    supervisor = Supervisor(command, workers, [listener.fileno() for listener in listeners])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, supervisor.end)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
