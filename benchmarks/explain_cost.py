"""Measure the cost of explaining: `python -m benchmarks.explain_cost`, twelve minutes.

A plain app and an explained one take the same 64 KiB upload and pass it to boto3's `upload_fileobj`, which sends it to
the null store. Each is served by one process of gunicorn with threads. They take turns in batches, in random order, so
that a slow moment of the machine slows both. Two processes differ by a few per cent for their whole life, so there are
many rounds, each with new processes. The result is the median over the rounds of the median paired difference in the
serving processes' CPU time, as a share of the plain app's median, with a 95% interval by bootstrap over the rounds.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.client import HTTPConnection
from secrets import token_hex
from urllib.parse import urlsplit

from flask import Flask

from benchmarks.null_store import running
from demo.processes import Server, ending, family, listen, python
from evidence import figures
from filehandoff.explain import explain_closed_files

BYTES = 64 * 1024
BATCH = 10
WARM_UP = 20 * BATCH
RESAMPLES = 2000
APPS = {name: f"benchmarks.explain_cost:app({name == 'explained'})" for name in ("plain", "explained")}
GUNICORN = (
    "-k",
    "gthread",
    "--threads",
    "4",
    "--no-control-socket",
    "--keep-alive",
    "60",
    "--log-level",
    "warning",
    "-b",
    "fd://{fd}",
)


def app(explained: bool) -> Flask:  # noqa: FBT001 - gunicorn calls this
    """Return the peer's app, plain or explained; both processes have the same modules for the collector to visit."""
    from benchmarks.peers.flask_boto3 import app  # noqa: PLC0415 - it needs the server's environment

    if explained:
        explain_closed_files(app)
    return app


class Serving:
    """One app's server, a connection to it, and the CPU clock of its worker."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        self._file = os.urandom(BYTES)
        self.close = self._connection.close
        self.upload(WARM_UP)
        [_, worker] = family(server.pid)
        self._clock = ~worker << 3 | 2  # clock_getcpuclockid(3): all threads of the process, also those that have ended

    def upload(self, times: int) -> None:
        """Send the file some times."""
        for _ in range(times):
            boundary = token_hex(16)  # clients make one for each form; Werkzeug compiles it into its parser's patterns
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
            body = head.encode() + self._file + f"\r\n--{boundary}--\r\n".encode()
            self._connection.request(
                "POST", "/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            )
            answer = self._connection.getresponse()
            answer.read()
            assert answer.status == HTTPStatus.CREATED, answer.status

    def batch(self) -> float:
        """Send a batch; return the CPU seconds of one upload."""
        began = time.clock_gettime(self._clock)
        self.upload(BATCH)
        return (time.clock_gettime(self._clock) - began) / BATCH


def measure(environ: Mapping[str, str], pairs: int) -> list[tuple[float, float]]:
    """Start a plain and an explained app; return the CPU seconds of an upload in each pair of batches."""
    servers: list[Server] = []
    with ExitStack() as exits:
        exits.enter_context(ending(servers))
        for name, app in APPS.items():
            listener, command = listen(name, "nothing", 0), python("gunicorn", *GUNICORN, app)
            servers.append(Server(name, command, listener, {**os.environ, **environ}, log=None, drain_seconds=1))
        serving = [exits.enter_context(closing(Serving(server))) for server in servers]
        measured = []
        for _ in range(pairs):
            took = [0.0, 0.0]
            for one in random.sample((0, 1), 2):
                took[one] = serving[one].batch()
            measured.append((took[0], took[1]))
        return measured


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain_cost")
    parser.add_argument("--rounds", type=int, default=60, help="rounds, each with new processes (%(default)s)")
    parser.add_argument("--pairs", type=int, default=60, help=f"pairs of {BATCH} uploads per round (%(default)s)")
    arguments = parser.parse_args()
    with running() as store:
        rounds = [measure(store.environ, arguments.pairs) for _ in range(arguments.rounds)]
    base = statistics.median(plain for one in rounds for plain, _ in one)
    differences = [statistics.median(explained - plain for plain, explained in one) for one in rounds]
    draws = sorted(statistics.median(random.choices(differences, k=len(differences))) for _ in range(RESAMPLES))  # noqa: S311 - a bootstrap
    low, middle, high = draws[int(RESAMPLES * 0.025)], statistics.median(differences), draws[int(RESAMPLES * 0.975)]
    print(
        f"{len(rounds)} rounds of {arguments.pairs} pairs of {BATCH} uploads of 64 KiB; "
        f"the plain app takes {base * 1e6:.0f} µs of CPU (median).\n"
        f"Explaining adds {middle * 1e6:.0f} µs (95%: {low * 1e6:.0f} to {high * 1e6:.0f}), "
        f"{middle / base:.2%} ({low / base:.2%} to {high / base:.2%}); the rounds: "
        + ", ".join(f"{one * 1e6:.0f}" for one in sorted(differences))
    )
    micros, share = [one * 1e6 for one in (middle, low, high)], [one / base for one in (middle, low, high)]
    print(figures.line("explain-cost", rounds=len(rounds), pairs=arguments.pairs, micros=micros, share=share))


if __name__ == "__main__":
    main()
