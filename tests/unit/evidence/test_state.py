"""The records of stages, and the commit they belong to."""

import subprocess
from pathlib import Path

import pytest

from evidence.state import FAILED, PASSED, SKIPPED, Record, State, code_commit, duration, is_clean


def record(stage: str, outcome: str, *, commit: str = "c1", began: str = "2026-01-01", seconds: float = 1.0) -> Record:
    """Make a record."""
    return Record(stage, commit, outcome, began, seconds)


def git(folder: Path, *arguments: str) -> None:
    """Run git with a name for commits."""
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)  # noqa: S603, S607


def committed(folder: Path, path: str, text: str) -> str:
    """Commit a file; return the code's commit."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", path)
    return code_commit(folder)


def test_records_outlive_the_process(tmp_path: Path) -> None:
    """Another reader finds the records of all commits, and the durations."""
    state = State(tmp_path)
    for one in (record("a", PASSED, seconds=7), record("b", FAILED, commit="c2"), record("c", SKIPPED)):
        state.add(one)
    again = State.read(tmp_path)
    assert {(one.commit, one.stage, one.outcome) for one in again.records} == {
        ("c1", "a", PASSED),
        ("c2", "b", FAILED),
        ("c1", "c", SKIPPED),
    }
    assert again.seconds == {"a": 7, "b": 1.0}


@pytest.mark.parametrize(
    ("outcome", "named", "done"),
    [
        pytest.param(PASSED, False, True, id="passed"),
        pytest.param(PASSED, True, True, id="passed, and named"),
        pytest.param(FAILED, False, True, id="failed"),
        pytest.param(FAILED, True, False, id="failed, and named"),
        pytest.param(SKIPPED, False, False, id="skipped"),
    ],
)
def test_a_done_stage_is_not_repeated(tmp_path: Path, outcome: str, *, named: bool, done: bool) -> None:
    """A stage is done at its commit if it passed, or failed and is not named again."""
    state = State(tmp_path)
    state.add(record("a", outcome))
    assert state.is_done("c1", "a", named=named) is done
    assert not state.is_done("c2", "a", named=named)


def test_the_newest_record_is_that_of_the_commit(tmp_path: Path) -> None:
    """A record of the asked commit comes before a later one of another; without one, the latest counts."""
    older, other = record("a", PASSED), record("a", FAILED, commit="c2", began="2026-02-02")
    state = State(tmp_path, [older, other])
    assert state.newest("c1", "a") == older
    assert state.newest("c3", "a") == other
    assert state.newest("c1", "b") is None


def test_the_estimate_is_of_the_last_run(tmp_path: Path) -> None:
    """The time left is that of the last runs, and a guess for a stage without one."""
    state = State(tmp_path)
    for seconds in (90.0, 30.0):
        state.add(record("a", PASSED, seconds=seconds))
    assert state.left([("a", 1000), ("b", 600)]) == 630


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (125, "2 min"), (5399, "1 h 30 min"), (7260, "2 h 01 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """A duration has the unit that suits it."""
    assert duration(seconds) == text


def test_the_written_pages_are_no_code(tmp_path: Path) -> None:
    """The code's commit stays when only written pages are committed, and they leave the work tree clean."""
    git(tmp_path, "init", "-q")
    first = committed(tmp_path, "code.py", "1")
    assert is_clean(tmp_path)
    assert committed(tmp_path, "docs/evidence.md", "a page") == first
    assert committed(tmp_path, "docs/evidence/soak.md", "a table") == first
    (tmp_path / "docs/evidence.md").write_text("another page")
    assert is_clean(tmp_path)
    (tmp_path / "code.py").write_text("2")
    assert not is_clean(tmp_path)
    assert committed(tmp_path, "code.py", "2") != first


def test_outside_a_repository_nothing_is_clean(tmp_path: Path) -> None:
    """A folder without git has no known commit."""
    assert (code_commit(tmp_path), is_clean(tmp_path)) == ("unknown", False)
