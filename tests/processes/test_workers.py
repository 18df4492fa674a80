"""Of several processes on one address, any reports for all; all write one log."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from contract.api import Api, form, part
from contract.numbers import half_sent, numbers, stored, wait_for
from patience import wait_until

from demo import stack, stores
from demo.processes import Server, ending, listen
from filehandoff.settings import Settings

WORKERS = 2
#: Each server's option to log every request.
ACCESS_LOG = {
    "flask": ["--access-logfile", "-"],
    "quart": ["--access-log"] if stack.QUART_SERVER == "uvicorn" else ["--access-logfile", "-"],
}
#: Number of uploads sent at once, repeatedly, until each process has had some.
BATCH = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """An S3 server with a bucket."""
    with (tmp_path_factory.mktemp("workers") / "store.log").open("w+b") as log:
        store = stores.start("moto", {}, log)
        assert store.server is not None
        with ending([store.server]):
            stack.create_bucket(stack.Stack(store, Settings(), {}, [store.server]), log)
            yield store


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, store: stores.Store, tmp_path: Path) -> Iterator[Api]:
    """Two processes of an app with a metrics folder and the server's access log."""
    (tmp_path / "numbers").mkdir()
    with serving(request.param, store, tmp_path, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers")}) as api:
        yield api


@contextmanager
def serving(framework: str, store: stores.Store, tmp_path: Path, more: dict[str, str]) -> Iterator[Api]:
    """Two processes of an app for the block, with variables beside the suite's."""
    settings = {"UPLOAD_S3_ENDPOINT_URL": store.endpoint_url, "UPLOAD_LOG": "json", "UPLOAD_DRAIN_SECONDS": "1"}
    environ = {**os.environ, **store.environ, **settings, **more}
    command = [*stack.COMMANDS[framework], "--workers", str(WORKERS), *ACCESS_LOG[framework]]
    with (tmp_path / "log").open("w+b") as log:
        server = Server(framework, command, listen("the app", "PORT", 0), environ, log=log, drain_seconds=1)
        with ending([server]):
            stack.wait_until_ready(stack.Stack(store, Settings(), environ, [server]), server.url + "/readyz", log)
            with closing(Api(server.url)) as api:
                yield api


def upload(app: Api, number: int) -> int:
    """Send a file of this many bytes on a new connection.

    The kernel chooses the process.
    """
    with closing(Api(app.url)) as api:
        body = form(part("file", bytes(number), "name"))
        return api.upload(body, headers={"X-Request-Id": f"upload-{number}"}).status_code


def log_lines(tmp_path: Path) -> list[dict[str, Any]]:
    """The log lines so far, as objects."""
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def upload_until_all_had_some(app: Api, tmp_path: Path) -> int:
    """Upload until each process has had some files; return the number of uploads.

    The kernel chooses the process of a connection.
    """
    for sent in range(0, 50 * BATCH, BATCH):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda size: upload(app, size), range(sent + 1, sent + BATCH + 1))) == {201}
        if len({line["process"] for line in log_lines(tmp_path) if line["event"] == "stored"}) == WORKERS:
            return sent + BATCH
    raise AssertionError("one process has taken everything")


def test_any_process_answers_for_all_and_all_write_one_log(app: Api, tmp_path: Path) -> None:
    """Each scrape has the uploads of all processes.

    Every line is JSON with its request's id.
    """
    count = upload_until_all_had_some(app, tmp_path)
    expected = stored("read_early", *range(1, count + 1), uploads=count)
    for _ in range(5):
        with closing(Api(app.url)) as another:
            seen = numbers(another)
            assert {series: seen[series] for series in expected} == expected
    wait_for(app, "uploads_in_flight", 0)
    # an access line follows its answer
    wait_until(lambda: len(access_lines(tmp_path)) >= count, lambda: f"{len(access_lines(tmp_path))} lines of {count}")
    lines = log_lines(tmp_path)
    ours = [line for line in lines if line["event"] == "stored"]
    assert sorted(line["bytes"] for line in ours) == list(range(1, count + 1))
    assert all(line["request_id"] == f"upload-{line['bytes']}" for line in ours)
    access = access_lines(tmp_path)
    assert sorted(line["request_id"] for line in access) == sorted(f"upload-{size}" for size in range(1, count + 1))


def access_lines(tmp_path: Path) -> list[dict[str, Any]]:
    """The server's own lines about uploads."""
    lines = log_lines(tmp_path)
    return [line for line in lines if line["logger"].endswith(".access") and "POST /uploads" in line["event"]]


def booted(tmp_path: Path) -> list[int]:
    """The ids of the processes that gunicorn has started so far."""
    return [line["process"] for line in log_lines(tmp_path) if line["event"].startswith("Booting worker")]


@pytest.mark.parametrize("app", ["flask"], indirect=True)
def test_uploads_of_a_killed_process_are_not_in_flight(app: Api, tmp_path: Path) -> None:
    """A killed process is replaced, and its uploads in flight leave the metrics."""
    with half_sent(app):
        wait_for(app, "uploads_in_flight", 1)
        for process in booted(tmp_path):
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: len(booted(tmp_path)) >= 2 * WORKERS, (tmp_path / "log").read_text)
        with closing(Api(app.url)) as another:
            wait_for(another, "uploads_in_flight", 0)


def test_gunicorn_makes_a_folder_for_the_numbers_of_several_processes(store: stores.Store, tmp_path: Path) -> None:
    """Each of two processes reports for both; the last one removes the folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving("flask", store, tmp_path, {"TMPDIR": str(temporary)}) as app:
        count = upload_until_all_had_some(app, tmp_path)
        for _ in range(10):
            with closing(Api(app.url)) as another:
                assert numbers(another)["uploads_total{handoff=read_early,outcome=stored}"] == count
        assert [path.name.startswith("handoff-metrics-") for path in temporary.iterdir()] == [True]
    assert list(temporary.iterdir()) == []
