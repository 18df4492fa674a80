"""`make matrix`: run each cause and fix in throw-away environments; write `docs/matrix.json` and `docs/matrix.md`.

Takes some ten minutes on two cores, and downloads packages. A cell that cannot run is recorded with the reason. Flask's
main branch runs if the environment variable FLASK_SOURCE names a checkout of it; otherwise its row stays.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from matrix.cells import CAUSES, CELLS, OTHER_CAUSES, Cell, Row
from matrix.report import markdown

FOLDER = Path(__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
SCRIPTS = {CAUSES: "reproduction.py", OTHER_CAUSES: "others.py"}
INSTALL_SECONDS = 600
RUN_SECONDS = 300


def interpreter(version: str) -> str | None:
    """The path of a working Python of this version, on the PATH or among pyenv's.

    It is None if there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        candidates.insert(0, sys.executable)
    for candidate in candidates:
        if candidate is None:
            continue
        ask = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(ask, capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return candidate
    return None


def run(cell: Cell) -> Row:
    """Run the reproduction in a temporary environment for this cell."""
    python = interpreter(cell.python)
    if python is None:
        return Row(cell, reason=f"there is no Python {cell.python} here")
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        own = f"{folder}/bin/python"
        # pip of this process, run for that interpreter: an old interpreter has no usable pip
        pip = [sys.executable, "-m", "pip", "--python", own, "--quiet", "--disable-pip-version-check", "--no-input"]
        steps = [
            ("make an environment", [python, "-m", "venv", "--without-pip", folder], INSTALL_SECONDS),
            ("install it", [*pip, "install", *cell.requirements], INSTALL_SECONDS),
            ("run it", [own, str(FOLDER / SCRIPTS[cell.causes]), cell.framework], RUN_SECONDS),
        ]
        output = ""
        for what, command, seconds in steps:
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=seconds, check=False, cwd=folder, env=_environ()
                )
            except subprocess.TimeoutExpired:
                return Row(cell, reason=f"it took more than {seconds} s to {what}")
            if done.returncode:
                return Row(cell, reason=f"could not {what}: {_last_line(done.stderr)}")
            output = done.stdout
        return Row(cell, ran=json.loads(output.splitlines()[-1]))


def _environ() -> dict[str, str]:
    # settings of this process's Python and AWS must not reach the others
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_", "VIRTUAL_ENV"))}


def _last_line(text: str) -> str:
    errors = [line for line in text.strip().splitlines() if line.startswith("ERROR:")] or text.strip().splitlines()
    return errors[-1].removeprefix("ERROR: ")[:200] if errors else "no output"


def run_all(cells: list[Cell], at_once: int) -> list[Row]:
    """Run all cells, some at once, and show the progress."""
    rows: dict[Cell, Row] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(at_once) as pool:
        task = progress.add_task("environments", total=len(cells))
        futures = {pool.submit(run, cell): cell for cell in cells}
        for future in as_completed(futures):
            row = future.result()
            rows[row.cell] = row
            progress.console.print(f"{row.cell}: {row.reason or row.summary}", highlight=False, soft_wrap=True)
            progress.advance(task)
    return [rows[cell] for cell in cells]


def main() -> int:
    """Run the matrix and write the pages.

    Return 1 if a version ran on no interpreter.
    """
    parser = argparse.ArgumentParser(prog="python -m matrix")
    parser.add_argument(
        "--only",
        metavar="TEXT",
        nargs="+",
        default=[""],
        help="run only the cells whose name contains one of these texts; keep the other rows",
    )
    parser.add_argument("--at-once", type=int, default=2, help="number of concurrent environments (%(default)s)")
    arguments = parser.parse_args()
    cells = [cell for cell in CELLS if cell.is_at_hand and any(text in str(cell) for text in arguments.only)]
    if not cells:
        parser.error(f"no cell's name contains {' or '.join(arguments.only)}; known: {', '.join(map(str, CELLS))}")
    rows = {row.cell: row for row in read(DOCS / "matrix.json") if row.cell not in cells}
    rows |= {row.cell: row for row in run_all(cells, arguments.at_once)}
    write([rows[cell] for cell in CELLS if cell in rows])
    ran = {row.cell.version_name for row in rows.values() if row.ran}
    unable = sum(not row.ran for row in rows.values())
    Console().print(f"{len(rows) - unable} environments ran, {unable} could not", highlight=False)
    missing = sorted({cell.version_name for cell in CELLS if cell.is_at_hand} - ran)
    for name in missing:
        Console(stderr=True).print(f"{name} ran on no interpreter", soft_wrap=True)
    return 1 if missing else 0


def read(path: Path) -> list[Row]:
    """The rows of an earlier run; empty if there was none."""
    return [Row.from_json(one) for one in json.loads(path.read_text("utf-8"))] if path.exists() else []


def write(rows: list[Row]) -> None:
    """Write both pages."""
    DOCS.mkdir(exist_ok=True)
    found = [asdict(row) for row in rows]
    (DOCS / "matrix.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (DOCS / "matrix.md").write_text(markdown(rows), "utf-8")
    Console().print(f"Written: {DOCS / 'matrix.md'} and {DOCS / 'matrix.json'}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
