"""`make test` leaves out every other combination of a test's parameters, but no value."""

import subprocess
import sys
from pathlib import Path

from patience import PATIENCE

TESTS = """
import pytest

@pytest.fixture(params=["flask", "quart"])
def app(request):
    pass

@pytest.mark.every_other
@pytest.mark.parametrize("value", [["a"], ["b"], ["c"]], ids="abc")
def test_of_an_odd_number(app, value):
    pass

@pytest.mark.every_other
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("name", "more"), [("a", {}), ("b", {}), ("c", {})], ids="abc")
def test_of_values(name, more, size):
    pass

@pytest.mark.every_other
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["a", pytest.param("b", marks=pytest.mark.thorough), "c"])
def test_of_three(app, name, size):
    pass

@pytest.mark.every_other
@pytest.mark.parametrize("name", ["a", "b"])
def test_of_one(name):
    pass
"""
RUN = [
    *("test_of_an_odd_number[flask-a]", "test_of_an_odd_number[flask-c]", "test_of_an_odd_number[quart-b]"),
    *("test_of_values[a-1]", "test_of_values[b-2]", "test_of_values[c-1]"),
    *("test_of_three[flask-a-1]", "test_of_three[flask-c-2]", "test_of_three[quart-a-2]", "test_of_three[quart-c-1]"),
    *("test_of_one[a]", "test_of_one[b]"),
]


def test_every_value_runs(tmp_path: Path) -> None:
    """Each value of two parameters runs once or more, and each pair of values of three runs once."""
    (tmp_path / "test_it.py").write_text(TESTS, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "--collect-only", "-q", "--rootdir", str(tmp_path)]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert sorted(line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line) == sorted(RUN), done
