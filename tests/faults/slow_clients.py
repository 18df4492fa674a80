"""Measure a fast client alone and beside many slow ones: `python -m faults.slow_clients`.

Each slow client sends 100 bytes a second, and connects again after a response.
"""

import os
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from contract.api import TLS, form, part
from faults.load import Connection, begin
from faults.processes import Processes
from patience import PATIENCE

from benchmarks import null_store
from demo import stack
from evidence import figures
from filehandoff.settings import MIB

#: Places for uploads: more than there are slow clients, and the default.
PLACES = (400, 32)
SLOW, SLOW_BYTES = 300, 100
#: Files of the fast client, each of 64 KiB, and requests for /healthz.
FAST, HEALTHZ = 200, 50
FAST_FORM = form(part("file", os.urandom(64 * 1024), "fast.bin"))
SLOW_FORM = form(part("file", bytes(MIB), "slow.bin"))
#: Bytes of an upload's body that a slow client sends with the head.
BEGUN = 200


def measure(url: str) -> dict[str, Any]:
    """Send files one after another; return their latencies, and the percentage of 503."""
    took, refused = list[float](), 0
    with closing(Connection(url)) as connection:
        for number in range(FAST):
            began = time.monotonic()
            status = connection.upload("/uploads", FAST_FORM, f"fast-{number}")[0].status
            if status == httpx.codes.CREATED:
                took.append((time.monotonic() - began) * 1000)
            elif status == httpx.codes.SERVICE_UNAVAILABLE:
                refused += 1
            else:
                raise AssertionError(status)
    median, ninety_nine = (quantile(took, share) for share in (50, 99))
    return {"median": median, "ninety_nine": ninety_nine, "refused": round(100 * refused / FAST)}


def quantile(values: list[float], percent: int) -> int | None:
    """A percentile, rounded; None of no values."""
    if len(values) < 2:
        return round(values[0]) if values else None
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])


def slowest_healthz(url: str) -> int:
    """The longest response time of /healthz, each on a new connection, in milliseconds."""

    def ask() -> float:
        began = time.monotonic()
        httpx.get(f"{url}/healthz", timeout=PATIENCE, verify=TLS).raise_for_status()
        return time.monotonic() - began

    return round(max(ask() for _ in range(HEALTHZ)) * 1000)


@contextmanager
def slow_clients(url: str) -> Iterator[None]:
    """Run the slow clients for the block, once all have connected."""
    done = threading.Event()
    with selectors.DefaultSelector() as selector:
        for _ in range(SLOW):
            selector.register(begin(url, SLOW_FORM, BEGUN), selectors.EVENT_READ)

        def drip() -> None:
            while not done.wait(1):
                for answered, _ in selector.select(0):
                    reconnect(answered.fileobj)
                for key in list(selector.get_map().values()):
                    with suppress(OSError):  # its response came meanwhile
                        key.fileobj.sendall(bytes(SLOW_BYTES))  # type: ignore[union-attr] # a socket

        def reconnect(connection: Any) -> None:
            selector.unregister(connection)
            connection.close()
            selector.register(begin(url, SLOW_FORM, BEGUN), selectors.EVENT_READ)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            yield
        finally:
            done.set()
            dripping.join()
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()


def main() -> int:
    """Measure both apps with each number of places."""
    for places in PLACES:
        with tempfile.TemporaryDirectory() as folder, null_store.running() as store:
            environ = {**store.environ, "UPLOAD_S3": store.endpoint_url, "UPLOAD_MAX_CONCURRENT": str(places)}
            with stack.running(environ, log_path=Path(folder) / "servers.log") as started:
                for name, server in started.apps.items():
                    alone, app = measure(server.url), Processes(server.pid)
                    idle = app.resident()
                    with slow_clients(server.url):
                        found = {"alone": alone, "beside": measure(server.url), "healthz": slowest_healthz(server.url)}
                        held = {"threads": app.threads(), "memory": round((app.resident() - idle) / MIB)}
                    print(figures.line("slow-clients", places=places, app=name, slow=SLOW, **found, **held), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
