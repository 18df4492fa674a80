"""Measure the cost of explaining: `python -m benchmarks.explain_cost`, some minutes.

A plain app and an explained app, each in its own process, take the same 64 KiB upload and put it to the null store
with boto3, in one thread and without a server. Nothing else costs CPU, so the share of explaining is at its largest.
Uploads alternate in pairs, in random order, so that a slow moment of the machine slows both apps. Two processes
differ by a few per cent for their whole life, so there are many rounds, each with new processes. The result is the
median over the rounds of the median paired difference in CPU time, as a share of the plain app's median, with a 95%
interval by bootstrap over the rounds.
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
from secrets import token_hex
from typing import Any

import boto3
from flask import Flask, request

from benchmarks.null_store import running
from evidence import figures
from filehandoff.explain import explain_closed_files

BYTES = 64 * 1024
WARM_UP = 200
RESAMPLES = 2000


def make_app(client: Any, *, explained: bool) -> Flask:
    """Make an app that puts the uploaded file to S3."""
    app = Flask(__name__)
    if explained:
        explain_closed_files(app)

    @app.post("/")
    def upload() -> str:
        client.put_object(Bucket="uploads", Key="k", Body=request.files["file"].stream)
        return "stored"

    return app


def sender(app: Flask) -> Callable[[], float]:
    """Return a function that sends one upload to the app and returns its CPU seconds."""
    file, client = os.urandom(BYTES), app.test_client()

    def send() -> float:
        boundary = token_hex(16)  # clients make one for each form; Werkzeug compiles it into its parser's patterns
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        body = head.encode() + file + f"\r\n--{boundary}--\r\n".encode()
        began = time.process_time()
        answer = client.post("/", data=body, content_type=f"multipart/form-data; boundary={boundary}")
        took = time.process_time() - began
        assert answer.get_data() == b"stored"
        return took

    return send


def worker(pipe: Connection, endpoint_url: str, *, explained: bool) -> None:
    """Send one upload per received message and reply with its CPU seconds.

    It ends when the pipe closes.
    """
    credentials: dict[str, Any] = {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "region_name": "eu-central-1",
    }
    client = boto3.client("s3", endpoint_url=endpoint_url, **credentials)
    send = sender(make_app(client, explained=explained))
    for _ in range(WARM_UP):
        send()
    gc.disable()  # a collection would slow only one upload of a pair
    with suppress(EOFError):
        for number in itertools.count():
            pipe.recv()
            pipe.send(send())
            if number % 50 == 0:
                gc.collect()


def measure(endpoint_url: str, pairs: int) -> list[tuple[float, float]]:
    """Start a plain and an explained app.

    Return the CPU seconds of each pair of uploads.
    """
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
    """Measure and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain_cost")
    parser.add_argument("--rounds", type=int, default=20, help="rounds, each with new processes (%(default)s)")
    parser.add_argument("--pairs", type=int, default=400, help="pairs of uploads per round (%(default)s)")
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
    micros, share = [one * 1e6 for one in (middle, low, high)], [one / base for one in (middle, low, high)]
    print(figures.line("explain-cost", rounds=len(rounds), pairs=arguments.pairs, micros=micros, share=share))


if __name__ == "__main__":
    main()
