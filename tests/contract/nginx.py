"""nginx in front of an app, by the configuration that `deploy/nginx.conf` ships."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import httpx
from contract.api import TLS
from patience import wait_until

from benchmarks.certificate import temporary_certificate
from demo import stack
from demo.processes import ROOT, Server, ending, listen

#: The program; Debian's package is nginx-light.
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")

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
    servers: list[Server] = []
    with (
        temporary_certificate() as certificate,
        stack.running(environ, log_path=folder / "servers.log", commands=commands) as started,
        (folder / "nginx.log").open("w+b") as log,
        ending(servers),
    ):
        TLS.load_verify_locations(certificate)
        for name, app in started.apps.items():
            app_port = int(app.url.rpartition(":")[2])
            servers.append(start(site(ports[name], app_port, certificate), folder / f"nginx-{name}", log))
        for name, server in zip(urls, servers, strict=True):
            wait_until(partial(_answers, urls[name], server), lambda: log.name)
        yield started, urls


def start(site: str, folder: Path, log: IO[bytes]) -> Server:
    """Start nginx with a site, in a folder of its own."""
    assert NGINX is not None, "apt-get install nginx-light"
    folder.mkdir()
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return Server("nginx", command, listen("nginx", "", 0), {}, log=log, drain_seconds=1, inherits=False)


def _answers(url: str, server: Server) -> bool:
    assert server.returncode is None
    try:
        return httpx.get(f"{url}/healthz", verify=TLS).is_success
    except httpx.HTTPError:
        return False
