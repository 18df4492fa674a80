"""Start, await and end the store and both apps together."""

import itertools
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import IO, TYPE_CHECKING

import httpx

from demo import stores
from demo.processes import ROOT, Server, StartError, ending, listen, python
from filehandoff.errors import SettingsError
from filehandoff.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CORSRuleTypeDef

#: Made once, because httpx would read all certificates for each client.
_TLS = ssl.create_default_context()

#: Seconds until a start fails; only a server that hangs takes as long, even on a busy machine.
START_SECONDS = 180.0
#: Number of lines of server output that a failed start prints.
TAIL_LINES = 15

#: The ASGI server that runs the Quart app.
QUART_SERVER = os.environ.get("UPLOAD_QUART_SERVER") or "hypercorn"
#: How each app is started, on the socket it inherits: the command of docs/service/start.md, but for the address.
COMMANDS = {
    "flask": python("gunicorn", "-c", "flask_app/gunicorn.conf.py", "-b", "fd://{fd}", "flask_app.wsgi:app"),
    "quart": python("quart_app", "--server", QUART_SERVER, "-b", "fd://{fd}", "quart_app.asgi:app"),
}


@dataclass
class Stack:
    """The running store and, by framework, the running apps."""

    store: stores.Store
    settings: Settings
    environ: Mapping[str, str]
    servers: list[Server] = field(default_factory=list)
    apps: dict[str, Server] = field(default_factory=dict)

    def dead(self) -> Server | None:
        """A server that ended without a signal from us; None if all run."""
        return next((server for server in self.servers if server.returncode is not None), None)


@contextmanager
def running(
    environ: Mapping[str, str],
    *,
    ports: Mapping[str, int] | None = None,
    log_path: Path | None = None,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
    folder: Path = ROOT,
) -> Iterator[Stack]:
    """Run the store that `UPLOAD_S3` selects and both apps for the block.

    Args:
        environ: `UPLOAD_*` and the like, on top of this process's own environment.
        ports: by framework, the port to listen on; any free one by default.
        log_path: the file for the servers' output, which goes to the terminal by default.
        commands: by framework, the command that starts its app; in it, `{fd}` stands for the app's socket.
        folder: the working directory of the apps.

    Raises:
        StartError: a server did not start; a one-line message.
    """
    environ = {**os.environ, **environ}
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        raise StartError(str(error)) from None
    servers: list[Server] = []
    with (
        ExitStack() as exits,
        tempfile.TemporaryFile() if log_path is None else log_path.open("w+b") as file,
        ending(servers),
    ):
        listeners = {
            name: exits.enter_context(listen(name, f"{name.upper()}_PORT", (ports or {}).get(name, 0)))
            for name in commands
        }
        log = None if log_path is None else file
        origins = [one for listener in listeners.values() for one in origins_of(listener)]
        # moto takes the origins by an S3 call, Swift only at its start
        store = stores.start(environ.get("UPLOAD_S3") or "moto", {**environ, "PAGE_ORIGINS": ",".join(origins)}, log)
        stack = Stack(store, settings, environ, servers)
        if store.server is not None:
            servers.append(store.server)
            create_bucket(stack, log, origins)
        environ |= {**store.environ, "UPLOAD_S3_ENDPOINT_URL": store.endpoint_url}
        others = of_the_other(listeners)
        for name, command in commands.items():
            drain, own = settings.drain_seconds, others.get(name, {}) | environ
            app = Server(name, command, listeners[name], own, log=log, drain_seconds=drain, folder=folder)
            stack.apps[name] = app
            servers.append(app)
        for app in stack.apps.values():
            wait_until_ready(stack, app.url + "/readyz", log)
        yield stack


def create_bucket(stack: Stack, log: IO[bytes] | None, origins: Sequence[str] = ()) -> None:
    """Wait for the embedded store and create our bucket in it.

    Another's store must have its own.

    Pages of these origins may send to the bucket by presigned URLs, if the store supports such rules.
    """
    wait_until_ready(stack, stack.store.endpoint_url, log)
    client = stack.store.client()
    client.create_bucket(Bucket=stack.settings.bucket)
    rule: CORSRuleTypeDef = {
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
    }
    with suppress(client.exceptions.ClientError):
        client.put_bucket_cors(Bucket=stack.settings.bucket, CORSConfiguration={"CORSRules": [rule]})
    client.close()


def origins_of(listener: socket) -> list[str]:
    """The origins (RFC 6454) of a page on this socket, by both loopback names."""
    host, port = listener.getsockname()[:2]
    return [f"http://{name}:{port}" for name in (host, "localhost")]


def of_the_other(listeners: Mapping[str, socket]) -> dict[str, dict[str, str]]:
    """By app, the settings for a page that uses both apps, if there are two."""
    origins = {name: origins_of(listener) for name, listener in listeners.items()}
    return {
        name: {"UPLOAD_OTHER_APP_URL": origins[other][0], "UPLOAD_CORS_ORIGINS": ",".join(origins[other])}
        for name, other in itertools.permutations(origins, 2)
    }


def wait_until_ready(stack: Stack, url: str, log: IO[bytes] | None) -> None:
    """Wait until a server is ready to serve.

    Raises:
        StartError: a server has ended, or the wait takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    pause = 0.02
    while (left := deadline - time.monotonic()) > 0:
        if dead := stack.dead():
            raise StartError(f"{dead.name} ended with {dead.returncode} instead of starting{tail(log)}")
        try:
            # the socket listens already, so the first request waits until its server serves or ends
            # rclone answers 400 to unsigned requests; an app that is not ready answers 503
            if not httpx.get(url, timeout=left, verify=_TLS).is_server_error:
                return
        except httpx.HTTPError:
            pass
        time.sleep(pause)
        pause = min(pause * 1.5, 1)
    raise StartError(f"{url} was not ready within {START_SECONDS:g} seconds{tail(log)}")


def tail(log: IO[bytes] | None) -> str:
    """The last lines of the servers' output, unless it went to the terminal."""
    if log is None:
        return "; see above"
    log.seek(0)
    return ":\n" + b"\n".join(log.read().splitlines()[-TAIL_LINES:]).decode(errors="replace")
