"""The recipes of docs/clients.md, as pages of an app's origin or of another one, with the packages of npm."""

import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from client_code import code_blocks
from playwright.sync_api import Route
from programs import program

from benchmarks import npm
from filehandoff.typing_backports import override

PACKAGES = Path(__file__).parent / "clients"
#: The folder of all addresses of the recipes, below either origin.
FOLDER = "/clients/"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{recipe}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="node_modules/{style}">
<script type="importmap">{imports}</script>
<div id="target"></div>
<script type="module">
  import {{ start }} from "./{recipe}.js";
  const client = await start({service}, "#target");
  window.fractions = [];
  client.on("{event}", (_file, progress) => fractions.push(({fraction})(progress)));
  window.client = client;
</script>
"""


@dataclass(frozen=True)
class Recipe:
    """A recipe in a browser: its module in the docs, its package's files, and the client's event of progress."""

    name: str
    package: str
    module: str
    style: str
    event: str
    fraction: str

    def page(self, service: str) -> str:
        """Return the page that starts the client for a service."""
        imports = {"imports": {self.package: f"./node_modules/{self.module}"}}
        return _PAGE.format(
            recipe=self.name,
            style=self.style,
            imports=json.dumps(imports),
            service=json.dumps(service),
            event=self.event,
            fraction=self.fraction,
        )


def installed_packages() -> Path:
    """Install the locked packages once for all processes, and return their folder."""
    program("npm", "npm")
    return npm.installed(PACKAGES) / "node_modules"


class Site:
    """The recipes' pages, their modules and the packages."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.packages: Path | None = None
        self.recipe: Recipe | None = None

    def install(self) -> None:
        """Install the packages, unless they are; a missing npm is a failure in CI and a skip elsewhere."""
        self.packages = self.packages or installed_packages()

    def answer(self, address: str) -> tuple[int, str, bytes]:
        """Return the status, the media type and the bytes of an address."""
        parts = urlsplit(address)
        name = parts.path.removeprefix(FOLDER)
        if self.recipe and name == self.recipe.name:
            return 200, "text/html", self.recipe.page(parse_qs(parts.query)["service"][0]).encode()
        if module := code_blocks().get(name):
            return 200, "text/javascript", module.encode()
        if self.packages and name.startswith("node_modules/"):
            path = self.packages / name.removeprefix("node_modules/")
            kind = "text/javascript" if path.suffix == ".mjs" else mimetypes.guess_type(path.name)[0]
            return 200, kind or "application/octet-stream", path.read_bytes()
        return 404, "text/plain", b""

    def fulfil(self, route: Route) -> None:
        """Answer a request of a page below an app's origin."""
        status, kind, body = self.answer(route.request.url)
        route.fulfill(status=status, content_type=kind, body=body)


@contextmanager
def serving() -> Iterator[Site]:
    """Serve the recipes on an origin of their own for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = site.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield site
        server.shutdown()
        thread.join()
