"""Apps that are started on one store, and clients behind a proxy that cuts their connections."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from contract.api import Api
from contract.bucket import Bucket
from resuming.cutting import CuttingProxy
from resuming.programs import Program

from demo import stack, stores
from demo.processes import Server, listen
from filehandoff.settings import MIB, Settings

FRAMEWORKS = tuple(stack.COMMANDS)
SETTINGS = {"UPLOAD_PART_BYTES": "5 MiB", "UPLOAD_MAX_FILE_BYTES": "64 MiB", "UPLOAD_DRAIN_SECONDS": "1"}
#: A file of two parts and a remainder, and the bytes between two cuts of its connections.
FILE_BYTES, CUT_EVERY = 12 * MIB + 345, 2 * MIB


@dataclass
class Services:
    """A store, and the processes of the apps that are started on it."""

    store: stores.Store
    folder: Path
    log: IO[bytes]
    servers: list[Server] = field(default_factory=list)

    def start(self, framework: str, *options: str, environ: Mapping[str, str] | None = None) -> Server:
        """Start an app with options of its server and further variables, on a port of its own."""
        place = {"UPLOAD_S3_ENDPOINT_URL": self.store.endpoint_url, "TMPDIR": str(self.folder)}
        environ = {**os.environ, **self.store.environ, **SETTINGS, **place, **(environ or {})}
        command = [*stack.COMMANDS[framework], *options]
        server = Server(framework, command, listen("the app", "PORT", 0), environ, log=self.log, drain_seconds=1)
        self.servers.append(server)
        self.wait(server)
        return server

    def wait(self, server: Server) -> None:
        """Wait until an app is ready."""
        started = stack.Stack(self.store, Settings(), {}, [server])
        stack.wait_until_ready(started, server.url + "/readyz", self.log)

    def restart(self, server: Server, framework: str) -> Server:
        """Kill an app without warning, and start it again on another port."""
        server.kill()
        server.wait()
        self.servers.remove(server)
        return self.start(framework)


@dataclass(frozen=True)
class Resuming:
    """Sends files through a cutting proxy, and compares the stored bytes."""

    services: Services
    proxy: CuttingProxy
    folder: Path

    def send(self, client: Program, cut_every: int = CUT_EVERY) -> None:
        """Send a file by a program with cuts, and assert that its object has its bytes."""
        data = os.urandom(FILE_BYTES)
        path = self.folder / "photo ü.bin"
        path.write_bytes(data)
        self.proxy.cut_every(cut_every)
        url = client.send(self.proxy.url, path, self.folder)
        self.proxy.cut_every(0)
        self.check(urlsplit(url).path, data)

    def check(self, path: str, data: bytes) -> None:
        """Assert that an upload's object has these bytes; then terminate the upload."""
        with closing(self.services.store.client()) as s3, closing(Api(self.proxy.url)) as api:
            (receipt,) = api.send("GET", path).json()["receipts"]
            assert receipt["filename"] == "photo ü.bin"
            Bucket(s3, Settings().bucket, None).check_receipt(receipt, data)
            assert api.send("DELETE", path, headers={"Tus-Resumable": "1.0.0"}).status_code == 204

    def send_until(self, client: Program, cuts: int, cut_every: int = CUT_EVERY) -> None:
        """Send files until so many connections were cut."""
        while self.proxy.cuts < cuts:
            self.send(client, cut_every)


@contextmanager
def resuming(services: Services, servers: Sequence[Server], folder: Path, seed: int = 1) -> Iterator[Resuming]:
    """Clients behind a proxy in front of servers for the block; the servers are ended."""
    with CuttingProxy([server.url for server in servers], seed) as proxy:
        yield Resuming(services, proxy, folder)
