"""The folder of temporary files is chosen once, and its errors are those of the apps."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from filehandoff.errors import FileMissing, Overloaded, SettingsError, StorageFull
from filehandoff.temporary_files import choose_folder, temporary_files


@pytest.fixture
def unchosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:  # noqa: ARG001 - it chooses
    """A process that has made no temporary file yet."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    return monkeypatch


def test_the_chosen_temporary_folder_stays(unchosen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary file in a folder that has vanished fails; it is not put into another folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    unchosen.setenv("TMPDIR", str(folder))
    choose_folder()
    folder.rmdir()
    with pytest.raises(FileNotFoundError), tempfile.TemporaryFile():
        pass


def test_a_missing_temporary_folder_is_a_wrong_setting(unchosen: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another folder does not take its place."""
    unchosen.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"TMPDIR is '.*/missing'; it must be a folder that exists and is writable"):
        choose_folder()


def test_an_app_needs_no_temporary_folder(unchosen: pytest.MonkeyPatch) -> None:
    """Without one, a start succeeds: `stream` writes no file."""
    unchosen.delenv("TMPDIR", raising=False)
    unchosen.setattr(tempfile, "_candidate_tempdir_list", list)
    choose_folder()


@pytest.mark.parametrize(
    "number",
    ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "ESTALE"],
)
def test_a_temporary_folder_that_takes_no_bytes_is_full(number: str) -> None:
    """The error has the system's reason, and names the hand-off that writes no temporary file."""
    reason = os.strerror(getattr(errno, number))
    with pytest.raises(StorageFull, match="'stream'") as caught, temporary_files():
        raise OSError(getattr(errno, number), reason)
    assert reason in caught.value.detail


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_without_descriptors_is_overloaded(number: int) -> None:
    """A temporary file without a free descriptor is a temporary error: a client may retry."""
    with pytest.raises(Overloaded), temporary_files():
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "a broken disk"), ValueError("closed"), FileMissing("No file.")])
def test_other_errors_pass_a_block_of_temporary_files(error: Exception) -> None:
    """Errors other than a failed write pass unchanged."""
    with pytest.raises(type(error)) as caught, temporary_files():
        raise error
    assert caught.value is error
