"""A trial that cannot run is skipped, one that breaks fails; both have reasons."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alive import alive

from benchmarks import trial
from benchmarks.bodies import Bodies
from benchmarks.counters import tree_pids
from benchmarks.plans import FAR_STORE_LATENCY_MS, Cell
from benchmarks.targets import TARGETS, Target, own
from benchmarks.workbench import Workbench
from demo import stores
from demo.processes import StartError, listen
from filehandoff.settings import KIB


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    """A workbench with short levels."""
    with closing(Bodies()) as bodies:
        yield Workbench(bodies, tmp_path, seconds=0.1)


def cell(target: Target, store: str = "null", scenario: str = "plain") -> Cell:
    """A small cell."""
    return Cell(target.name, store, scenario, 64 * KIB, 2)


RELAY = TARGETS["relay@uvicorn"]


def test_a_server_that_ends_at_its_start_is_skipped_with_its_last_words(workbench: Workbench) -> None:
    """A server that ends at its start is skipped, with its last line as reason."""
    target = own("wrong=json:no_such_app@uvicorn")
    record, lines = workbench.run_trial(cell(target), target, thorough=True)
    assert record["status"] == "skipped"
    assert "did not start" in record["reason"]
    assert "no_such_app" in record["reason"]
    assert lines == []


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_a_port_in_use_skips_the_cell(workbench: Workbench, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """A cell is skipped if another process takes the port before the server starts."""
    taken = []
    start = listen

    def take(*arguments: object, **options: object) -> object:
        listener = start(*arguments, **options)  # type: ignore[arg-type] # passed on
        taken.append(listener.dup())  # stays open when the server closes its own
        return listener

    monkeypatch.setattr("benchmarks.workbench.listen", take)
    target = own(f"mine=tests.bench.odd_peers:right@{server}")
    try:
        record, _ = workbench.run_trial(cell(target), target, thorough=True)
    finally:
        for listener in taken:
            listener.close()
    assert record["status"] == "skipped"
    assert "did not start" in record["reason"]


def test_a_missing_program_skips_the_cell(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is skipped if the store's program is missing, with the store's reason."""

    def missing() -> Path:
        raise StartError("rclone's program is not installed")

    monkeypatch.setattr(stores, "rclone_program", missing)
    target = TARGETS["flask-plain@gunicorn-gthread"]
    record, _ = workbench.run_trial(cell(target, "rclone"), target, thorough=True)
    assert (record["status"], record["reason"]) == ("skipped", "rclone's program is not installed")


def test_a_store_that_dies_fails_the_cell(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that dies during the measurement fails the cell; no process is left."""
    measure = trial.Trial.measure
    pids: list[int] = []

    def kill_first(self: trial.Trial, *arguments: object) -> None:
        assert self.backend.server is not None
        pids.extend([*tree_pids(self.server.pid), self.backend.server.pid])
        os.kill(self.backend.server.pid, signal.SIGKILL)
        while self.backend.server.returncode is None:
            time.sleep(0.01)
        measure(self, *arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(trial.Trial, "measure", kill_first)
    record, _ = workbench.run_trial(cell(RELAY), RELAY, thorough=True)
    assert record["status"] == "failed"
    assert record["reason"]
    assert alive(pids) == []


def test_nothing_of_the_servers_is_left_in_the_folder(workbench: Workbench) -> None:
    """A trial deletes the servers' temporary files."""
    record, lines = workbench.run_trial(cell(RELAY), RELAY, thorough=True)
    assert record["status"] == "measured"
    assert lines
    assert list(workbench.folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "flask/stream@gunicorn",
        *[pytest.param(it, marks=pytest.mark.thorough) for it in ("fastapi@uvicorn", "relay@uvicorn")],
    ],
)
def test_uploads_reach_a_store_over_tls(workbench: Workbench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Ours, a peer and the relay trust the certificate of a store that speaks TLS, and store the same bytes there."""
    measure = trial.Trial.measure
    endpoints = []

    def look_first(self: trial.Trial, *arguments: object) -> None:
        endpoints.append(self.backend.environ["UPLOAD_S3_ENDPOINT_URL"])
        measure(self, *arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(trial.Trial, "measure", look_first)
    record, lines = workbench.run_trial(cell(TARGETS[name], scenario="tls"), TARGETS[name], thorough=True)
    assert (record["status"], record["reason"]) == ("measured", None)
    assert endpoints[0].startswith("https://")
    assert not [line["error"] for line in lines if line["error"]]


@pytest.mark.parametrize("name", ["flask/stream@gunicorn", "quart/stream@hypercorn"])
def test_two_workers_are_two_processes(workbench: Workbench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With two workers, a server has two processes besides the one that started them."""
    measure = trial.Trial.measure
    pids: list[int] = []

    def count_first(self: trial.Trial, *arguments: object) -> None:
        pids.extend(tree_pids(self.server.pid))
        measure(self, *arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(trial.Trial, "measure", count_first)
    record, _ = workbench.run_trial(cell(TARGETS[name], scenario="two-workers"), TARGETS[name], thorough=True)
    assert (record["status"], record["reason"]) == ("measured", None)
    assert len(pids) >= 3
    assert record["levels"]["closed"]["loop_lag_p99"] is None


def test_each_answer_of_a_far_store_is_late(workbench: Workbench) -> None:
    """An upload takes at least the latency of a far store."""
    _, lines = workbench.run_trial(cell(RELAY, scenario="far-store"), RELAY, thorough=True)
    assert min(line["ended_us"] - line["began_us"] for line in lines) >= FAR_STORE_LATENCY_MS * 1000
