"""The two ASGI servers, each run in this process on listening sockets that are open already."""

import signal
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any

#: The app that the servers load.
APP = "quart_app.asgi:app"


def run_hypercorn(config: Path, listeners: Sequence[socket], arguments: Sequence[str]) -> int:
    """Serve by hypercorn's own command, with more of its arguments; returns the exit status."""
    from hypercorn.__main__ import main  # noqa: PLC0415 - only the chosen server must be installed

    binds = [f"--bind=fd://{listener.detach()}" for listener in listeners]
    return main(["--config", str(config), "--workers", "0", *binds, *arguments, APP])


def run_uvicorn(config: Path, listeners: Sequence[socket], arguments: Sequence[str]) -> int:
    """Serve by uvicorn, with more arguments of its command; returns the exit status."""
    from uvicorn import Config, Server  # noqa: PLC0415 - only the chosen server must be installed

    options = {"log_config": None, **tomllib.loads(config.read_text()), **uvicorn_options(arguments)}
    options.pop("workers", None)
    # uvicorn raises the signal that ended it once more, when all is over: the status would be that of a killed process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = Server(Config(APP, **options))
    with suppress(KeyboardInterrupt):  # it raises SIGINT once more, too
        server.run(list(listeners))
    return 0


def uvicorn_options(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The options that a command line or UVICORN_* give, by the names that uvicorn's `Config` knows."""
    from click import ClickException  # noqa: PLC0415
    from click.core import ParameterSource  # noqa: PLC0415
    from uvicorn.main import main  # noqa: PLC0415

    try:
        given = main.make_context("uvicorn", [*arguments, APP], auto_envvar_prefix="UVICORN")
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sources = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
    names = [name for name in given.params if name != "app" and given.get_parameter_source(name) in sources]
    return {name: given.params[name] for name in names}


#: How each server is run, by its name.
RUN: Mapping[str, Callable[[Path, Sequence[socket], Sequence[str]], int]] = {
    "hypercorn": run_hypercorn,
    "uvicorn": run_uvicorn,
}
