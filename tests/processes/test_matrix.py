"""The matrix matches this machine's results, and its page matches its data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

import matrix
from matrix.__main__ import SCRIPTS, read
from matrix.cells import CAUSES, CELLS, Cell, Row
from matrix.report import markdown

FOLDER = Path(matrix.__file__).parent
DOCS = FOLDER.parent / "docs"


@pytest.mark.parametrize(
    "framework",
    ["flask", "quart", *[pytest.param(it, marks=pytest.mark.thorough) for it in ("starlette", "fastapi", "django")]],
)
def test_the_matrix_matches_the_newest_pair(framework: str) -> None:
    """Each cause and fix has the result of the committed matrix on this version."""
    command = [sys.executable, str(FOLDER / SCRIPTS[Cell(framework, None, "").causes]), framework]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)  # noqa: S603 - our own
    found: dict[str, Any] = json.loads(done.stdout)
    recorded = [row.ran for row in read(DOCS / "matrix.json") if row.ran and row.cell.framework == framework]
    same = [ran for ran in recorded if ran["versions"][framework] == found["versions"][framework]]
    assert same, f"{framework} {found['versions'][framework]} is not in docs/matrix.json: make matrix"
    for ran in same:
        assert found["outcomes"] == ran["outcomes"]


def test_the_matrix_has_every_cell_and_says_why_one_did_not_run() -> None:
    """Each cell has a result or a reason, and each version ran on some interpreter."""
    rows = read(DOCS / "matrix.json")
    assert [row.cell for row in rows] == CELLS
    assert [str(row.cell) for row in rows if (row.ran is None) == (row.reason is None)] == []
    assert {row.cell.version_name for row in rows if row.ran} == {cell.version_name for cell in CELLS}


def test_the_page_matches_the_data() -> None:
    """docs/matrix.md is the rendering of docs/matrix.json."""
    assert (DOCS / "matrix.md").read_text("utf-8") == markdown(read(DOCS / "matrix.json"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("right", "does not occur", id="right"),
        pytest.param("ValueError: read of closed file", "occurs", id="closed"),
        pytest.param("TypeError: something else", "fails otherwise", id="another error"),
        pytest.param(None, "not run", id="not run"),
    ],
)
def test_a_cause_occurs_only_where_its_error_was_seen(text: str | None, word: str) -> None:
    """Only an error about a closed file counts as an occurrence of the cause."""
    outcomes = {cause: {"none": {"memory": text, "disk": text}} for cause in CAUSES}
    ran = {"outcomes": outcomes} if text else None
    row = Row(Cell("flask", None, "3.13"), ran, None if text else "there is none")
    assert [row.occurs(cause) for cause in CAUSES] == [word] * 3
