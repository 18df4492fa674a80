"""A failure report of this suite fits on a screen, even in CI."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from demo.processes import ROOT

SCREEN_LINES = 55
SUITE = """
import logging
import httpx
import pytest

def deep(depth):
    if not depth:
        raise ValueError("line\\n" * 300)
    try:
        deep(depth - 1)
    except ValueError as error:
        raise ValueError(f"at {depth}") from error

@pytest.fixture
def leaves_much():
    yield
    print("a server's line\\n" * 300)
    pytest.fail("left: " + ", ".join(map(str, range(1000))), pytrace=False)

@pytest.fixture
def never_starts():
    raise RuntimeError("a server's line\\n" * 300)

def test_difference():
    assert set(range(0, 1000)) == set(range(500, 1500))

def test_long_text():
    assert "x" in "y" * 100_000

def test_deep():
    deep(30)

def test_in_a_library():
    httpx.get("http://127.0.0.1:0")

def test_captured():
    for number in range(300):
        print(number)
        logging.getLogger().warning("%d", number)
    assert False

def test_teardown(leaves_much):
    pass

def test_setup(never_starts):
    pass
"""
NAMES = re.findall(r"^def (test_\w+)", SUITE, re.MULTILINE)


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["here", "by xdist"])
def test_each_failure_fits_on_a_screen(tmp_path: Path, options: list[str]) -> None:
    """Long differences, deep tracebacks and captured output are shortened; the summary lists each test."""
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE, "utf-8")
    command = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, *command, *options, str(tmp_path)],
        env=os.environ | {"CI": "true", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    failures, _, summary = done.stdout.partition("short test summary info")
    each = re.split(r"^_+ (?:ERROR at \w+ of )?test_\w+ _+$", failures, flags=re.MULTILINE)[1:]
    assert len(each) == len(NAMES), done.stdout
    assert max(len(one.splitlines()) for one in each) < SCREEN_LINES
    assert 'httpx.get("http' in failures  # the line of the test, among many of the library
    assert max(map(len, failures.splitlines())) < 400
    assert sorted(re.findall(r"^(?:FAILED|ERROR) \S+::(test_\w+) - \S", summary, re.MULTILINE)) == sorted(NAMES)
    assert len(summary.splitlines()) < len(NAMES) + 4
