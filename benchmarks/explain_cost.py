"""What explaining costs: `python -m benchmarks.explain_cost`, some minutes.

A plain app and an explained one, each in a process of its own, take the same 64 KiB upload and put it to the null
store by boto3, in one thread, with no server before them: as little else as an upload can cost, so that the share is
the largest there is. They take turns in pairs, in an order that is drawn for each pair, so that whatever slows the
machine down slows both. Two processes differ by a few per cent for as long as they live, so there are many rounds,
each with new ones. Told are the median over the rounds of the paired differences' median, in CPU time, with a 95%
interval by a bootstrap of the rounds, as a share of the plain app's median.
"""

import argparse
import gc
import itertools
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

import boto3
from flask import Flask, request

from benchmarks.null_store import running
from filehandoff.explain import explain_closed_files

BYTES = 64 * 1024
WARM_UP = 200
RESAMPLES = 2000
BOUNDARY = "a-boundary-of-the-measurement"


def make_app(client: Any, *, explained: bool) -> Flask:
    """An app that puts the uploaded file."""
    app = Flask(__name__)
    if explained:
        explain_closed_files(app)

    @app.post("/")
    def upload() -> str:
        client.put_object(Bucket="uploads", Key="k", Body=request.files["file"].stream)
        return "stored"

    return app


def sender(app: Flask) -> Callable[[], float]:
    """A function that sends one upload to the app, and tells its CPU time in seconds."""
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode()
        + os.urandom(BYTES)
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    client, content_type = app.test_client(), f"multipart/form-data; boundary={BOUNDARY}"

    def send() -> float:
        began = time.process_time()
        answer = client.post("/", data=body, content_type=content_type)
        took = time.process_time() - began
        assert answer.get_data() == b"stored"
        return took

    return send


def worker(pipe: Connection, endpoint_url: str, *, explained: bool) -> None:
    """Send one upload for each word, and answer with its CPU time; end with the pipe."""
    credentials: dict[str, Any] = {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "region_name": "eu-central-1",
    }
    client = boto3.client("s3", endpoint_url=endpoint_url, **credentials)
    send = sender(make_app(client, explained=explained))
    for _ in range(WARM_UP):
        send()
    gc.disable()  # a collection would fall on one of a pair
    with suppress(EOFError):
        for number in itertools.count():
            pipe.recv()
            pipe.send(send())
            if number % 50 == 0:
                gc.collect()


def measure(endpoint_url: str, pairs: int) -> list[tuple[float, float]]:
    """CPU seconds of a new plain and a new explained app, pair by pair."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as ends:
        pipes = []
        for explained in (False, True):
            here, there = context.Pipe()
            process = context.Process(
                target=worker, args=(there, endpoint_url), kwargs={"explained": explained}, daemon=True
            )
            process.start()
            there.close()
            ends.callback(process.join)
            pipes.append(ends.enter_context(here))
        measured = []
        for _ in range(pairs):
            took = [0.0, 0.0]
            for one in random.sample((0, 1), 2):
                pipes[one].send("go")
                took[one] = pipes[one].recv()
            measured.append((took[0], took[1]))
        return measured


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain_cost")
    parser.add_argument("--rounds", type=int, default=20, help="how often with new processes (%(default)s)")
    parser.add_argument("--pairs", type=int, default=400, help="how many pairs of uploads in each (%(default)s)")
    arguments = parser.parse_args()
    with running() as store:
        rounds = [measure(store.endpoint_url, arguments.pairs) for _ in range(arguments.rounds)]
    base = statistics.median(plain for one in rounds for plain, _ in one)
    differences = [statistics.median(explained - plain for plain, explained in one) for one in rounds]
    draws = sorted(statistics.median(random.choices(differences, k=len(differences))) for _ in range(RESAMPLES))  # noqa: S311 - a bootstrap
    low, middle, high = draws[int(RESAMPLES * 0.025)], statistics.median(differences), draws[int(RESAMPLES * 0.975)]
    print(
        f"{len(rounds)} rounds of {arguments.pairs} pairs of 64 KiB uploads; "
        f"the plain app takes {base * 1e6:.0f} µs of CPU (median).\n"
        f"Explaining adds {middle * 1e6:.0f} µs (95%: {low * 1e6:.0f} to {high * 1e6:.0f}), "
        f"{middle / base:.2%} ({low / base:.2%} to {high / base:.2%}); the rounds: "
        + ", ".join(f"{one * 1e6:.0f}" for one in sorted(differences))
    )


if __name__ == "__main__":
    main()
