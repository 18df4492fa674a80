"""The benchmark of resumable uploads, on small files."""

from pathlib import Path

import pytest
from bench.made import Done, done
from programs import program

from benchmarks import npm, resumable
from benchmarks.targets import TUSD_WAY
from demo.processes import StartError
from evidence import figures


def run(folder: Path, *targets: str) -> Done:
    """Send files of two chunks and a rest by tus to some targets."""
    cells = [f"--cell={target} rclone plain 17MiB x1" for target in targets]
    return done(folder, *cells, "--rounds", "1", "--seconds", "0.1")


@pytest.mark.thorough
def test_both_apps_are_measured_beside_their_streams(tmp_path: Path) -> None:
    """Uploads by tus and by form have all figures of the table, and no bytes on disk."""
    streams = ("flask/stream@gunicorn", "quart/stream@uvicorn")
    made = run(tmp_path / "run", "flask/tus@gunicorn", "quart/tus@uvicorn", *streams)
    assert (made.read.failed, made.read.skipped) == ({}, {})
    found = figures.of("\n".join(resumable.lines(made.read)), "resumable")
    assert {one["target"] for one in found} >= {"Flask tus, gunicorn", "Quart tus, uvicorn"}
    assert len(found) == 4
    for one in found:
        assert (one["mib"], one["disk"] or 0) == (17, 0)
        assert one["cpu"] > 0


def test_the_peer_writes_its_parts_to_disk(tmp_path: Path) -> None:
    """The tus server on Node stores the file, and writes as many bytes to disk."""
    program("npm", "npm")
    made = run(tmp_path / "run", "tusd-way@node")
    assert (made.read.failed, made.read.skipped) == ({}, {})
    (one,) = figures.of("\n".join(resumable.lines(made.read)), "resumable")
    assert one["disk"] is None or one["disk"] >= 17


def test_without_npm_the_peer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the missing program and its package."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StartError, match=r"^no npm is found; install it with `apt-get install npm`$"):
        npm.installed(TUSD_WAY)
