"""Whether /healthz answers, and how fast, while clients load an app."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import httpx
from contract.api import TLS
from patience import PATIENCE

#: Seconds between two requests.
PAUSE_SECONDS = 0.1

_processes = multiprocessing.get_context("spawn")


@dataclass
class Health:
    """The seconds that each answer took, and the errors of requests without an answer of 200."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def watched(url: str) -> Iterator[Health]:
    """Request /healthz repeatedly for the block, each time on a new connection; the end fills the result.

    A process of its own sends the requests: in this one, the clock would measure how long the load's threads hold the
    GIL.
    """
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=_ask, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()  # so that an early end of the process is an EOFError here
    health = Health()
    try:
        ours.recv()
        yield health
    finally:
        ours.send("end")
        found: Health = ours.recv()
        health.seconds, health.failures = found.seconds, found.failures
        process.join()


def _ask(url: str, parent: Connection) -> None:
    health = Health()
    parent.send("ready")
    while not parent.poll(PAUSE_SECONDS):
        began = time.monotonic()
        try:
            httpx.get(f"{url}/healthz", timeout=PATIENCE, verify=TLS).raise_for_status()
        except httpx.HTTPError as error:
            health.failures.append(repr(error))
        health.seconds.append(time.monotonic() - began)
    parent.send(health)
