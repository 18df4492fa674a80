"""nginx and TLS in front of an app, by the configuration that `deploy/nginx.conf` ships."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import httpx
import pytest
from contract.api import TLS
from patience import wait_until

from benchmarks.certificate import temporary_certificate
from demo import stack
from demo.processes import ROOT, Server, ending, listen

#: The program; Debian's package is nginx-light.
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
needs_nginx = pytest.mark.skipif(
    NGINX is None and "CI" not in os.environ, reason="nginx is missing: apt-get install nginx-light"
)

_MAIN = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def site(port: int, app_port: int, certificate: Path) -> str:
    """The shipped configuration, on these ports and with this certificate."""
    text = (ROOT / "deploy/nginx.conf").read_text("utf-8")
    for pattern, value in (
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"server_name \S+;", "server_name 127.0.0.1;"),
        (r"/etc/ssl/\S+;", f"{certificate};"),
        (r"server 127\.0\.0\.1:8001;", f"server 127.0.0.1:{app_port};"),
    ):
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    return text


def free_port() -> int:
    """A port that is free now; nginx inherits no socket."""
    with listen("nginx", "", 0) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def behind_nginx(environ: Mapping[str, str], folder: Path) -> Iterator[tuple[stack.Stack, dict[str, str]]]:
    """Run the store, both apps and an nginx in front of each for the block; yield their URLs."""
    ports = {name: free_port() for name in stack.COMMANDS}
    urls = {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}
    commands = {
        name: ["/usr/bin/env", f"UPLOAD_PUBLIC_URL={urls[name]}", *command] for name, command in stack.COMMANDS.items()
    }
    with stack.running(environ, log_path=folder / "servers.log", commands=commands) as started, ExitStack() as exits:
        for name, app in started.apps.items():
            exits.enter_context(in_front(app.url, folder / f"nginx-{name}", ports[name]))
        yield started, urls


@contextmanager
def in_front(app_url: str, folder: Path, port: int | None = None) -> Iterator[str]:
    """Run nginx in front of an app for the block, in a new folder; yield its URL."""
    port, app_port, servers = port or free_port(), int(app_url.rpartition(":")[2]), list[Server]()
    url = f"https://127.0.0.1:{port}"
    folder.mkdir()
    with temporary_certificate() as certificate, (folder / "log").open("w+b") as log, ending(servers):
        TLS.load_verify_locations(certificate)
        servers.append(start(site(port, app_port, certificate), folder, log))
        wait_until(partial(_answers, url, servers[0]), lambda: log.name)
        yield url


def start(site: str, folder: Path, log: IO[bytes]) -> Server:
    """Start nginx with a site, in a folder of its own."""
    assert NGINX is not None, "apt-get install nginx-light"
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return Server("nginx", command, listen("nginx", "", 0), {}, log=log, drain_seconds=1, inherits=False)


def _answers(url: str, server: Server) -> bool:
    """Whether nginx answers; the app may have no process at the moment."""
    assert server.returncode is None
    try:
        httpx.get(f"{url}/healthz", verify=TLS)
    except httpx.HTTPError:
        return False
    return True
