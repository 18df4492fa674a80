"""A run of both apps, from the command to the report."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench.made import Done, check_report, command, done

from benchmarks import report, runs
from demo.processes import ROOT


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of both apps, each with a file size, and a peer with a full disk."""
    sizes = {"flask/stream@gunicorn": "64KiB", "quart/stream@hypercorn": "9MiB"}
    cells = [f"--cell={name} null plain {size} x2" for name, size in sizes.items()]
    peer = ("--peer=full=tests.bench.odd_peers:full@uvicorn", "--cell=full@uvicorn null plain 64KiB x4")
    load = ("--level", "open50", "--rounds", "1", "--seconds", "0.2")
    return done(tmp_path_factory.mktemp("ours") / "run", *cells, *peer, *load)


def test_the_report_matches_the_raw_data(ours: Done) -> None:
    """Each row of the report matches the raw records."""
    check_report(ours)


def test_errors_stand_beside_the_throughput(ours: Done) -> None:
    """An upload answered with 500 counts as an error, not as an upload."""
    (result,) = [it for it in ours.read.results if (it.cell.target, it.level) == ("full@uvicorn", "closed")]
    assert result.errors >= 1
    assert result.requests >= 1
    raw = [line for line in runs.requests(ours.folder, result.trials[0]) if line["level"] == "closed"]
    statuses = {line["status"] for line in raw if line["error"]}
    assert 500 in statuses
    assert statuses <= {500, 0}  # uvicorn closes the connection after an exception, perhaps during the next upload
    assert f"{result.errors} of {len(raw)}" in (ours.folder / report.MARKDOWN).read_text("utf-8")


def test_both_apps_have_their_costs_measured(ours: Done) -> None:
    """Both apps have CPU, memory and threads and no disk writes; ASGI adds lag."""
    read = ours.read
    assert (read.failed, read.skipped) == ({}, {})
    apps = [it for it in read.results if it.target["is_ours"]]
    assert len(apps) == 4
    for it in apps:
        assert it.errors == 0
        assert it.figures["cpu_per_request"].median > 0
        assert it.figures["threads"].median >= 1
        assert ("loop_lag_p99" in it.figures) == (it.cell.target == "quart/stream@hypercorn")
        assert "disk" not in it.figures or it.figures["disk"].median < 0.01
    for it in apps:
        if it.level == "open50":
            offered = it.trials[0]["levels"]["closed"]["rate"] / 2
            assert it.trials[0]["levels"]["open50"]["offered_rate"] == pytest.approx(offered)


def test_the_report_needs_nothing_else(ours: Done) -> None:
    """The HTML report embeds its figures and style, and loads nothing."""
    page = (ours.folder / report.HTML).read_text("utf-8")
    assert page.count("<svg") == len(list((ours.folder / report.PICTURES).glob("*.svg"))) > 0
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", page)
    assert not re.findall(r"@import|url\((?!#)|<script|<link", page)


def test_the_report_is_made_from_the_raw_data_alone(ours: Done, tmp_path: Path) -> None:
    """The report from a copy of the run's files is the same, byte for byte."""
    for name in (runs.SUMMARY, runs.REQUESTS):
        shutil.copy(ours.folder / name, tmp_path)
    for path in report.write(tmp_path):
        assert path.read_bytes() == (ours.folder / path.relative_to(tmp_path)).read_bytes()


def test_the_record_names_no_place(ours: Done) -> None:
    """The record and the report contain neither this folder nor the user's home."""
    for name in (runs.SUMMARY, report.HTML, report.MARKDOWN):
        text = (ours.folder / name).read_text("utf-8")
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text


def test_the_output_ends_with_the_goals(ours: Done) -> None:
    """The output says whether the machine was quiet, and ends with the table of goals."""
    lines = [line for line in ours.output.splitlines() if not line.startswith("disk written")]
    *_, head, memory = lines
    assert [line for line in lines if line.startswith("The machine was quiet in ")]
    assert head.split() == ["measure", "goal", "reached", "ratio"]
    assert re.fullmatch(r"memory above idle: the worst stream / the formula +≤ 1 +0\.\d+ +met", memory)


@pytest.mark.thorough
def test_noisy_cells_are_measured_again(ours: Done, tmp_path: Path) -> None:
    """`--resume --again` measures the trials again in which the machine was not quiet, and no others."""
    for name in (runs.SUMMARY, runs.REQUESTS):
        shutil.copy(ours.folder / name, tmp_path)
    loud = runs.load(tmp_path)
    for trial in loud.trials:
        is_loud = trial["cell"].startswith("quart")
        for level in trial["levels"].values():
            level["machine_cpu_seconds"] = 100 if is_loud else 0
    runs.RunFolder(tmp_path, loud).save()
    subprocess.run(command("run", "--resume", str(tmp_path), "--again", "1"), cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own
    run = runs.load(tmp_path)
    kept = [trial for trial in loud.trials if not trial["cell"].startswith("quart")]
    assert run.trials[: len(kept)] == kept
    assert len(run.trials) == len(loud.trials)
    assert run.measured_again == len(loud.trials) - len(kept) == 1
    assert all(list(runs.requests(tmp_path, trial)) for trial in run.trials)


def trials(folder: Path) -> Sequence[dict[str, Any]]:
    """The trials recorded so far."""
    try:
        return list(runs.load(folder).trials)
    except runs.NoRun:
        return []


def test_ctrl_c_keeps_the_trials_and_a_resumed_run_continues(tmp_path: Path) -> None:
    """Ctrl-C keeps the recorded trials; a resumed run measures only the rest."""
    folder = tmp_path / "run"
    cells = ("--target", "relay@uvicorn", "--size", "4KiB", "--size", "64KiB", "--clients", "2", "--rounds", "2")
    arguments = command("run", "--out", str(folder), "--seconds", "0.2", *cells)
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        while not trials(folder):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130
    assert f"Continue with --resume {folder}" in output
    kept = trials(folder)
    assert 1 <= len(kept) < 4
    subprocess.run(command("run", "--resume", str(folder)), cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own
    run = runs.load(folder)
    assert run.complete
    assert run.trials[: len(kept)] == kept
    assert sorted((trial["cell"], trial["round"]) for trial in run.trials) == sorted(
        (cell.id, number) for cell in run.measured_cells() for number in range(2)
    )
    assert all(list(runs.requests(folder, trial)) for trial in run.trials)
