"""Perform runs, and read their reports and raw data without the program's own reader."""

import gzip
import json
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, results
from benchmarks.plans import size_name
from demo.processes import ROOT, python


def command(*arguments: str) -> list[str]:
    """The command line of the program."""
    return python("benchmarks", *arguments)


@dataclass
class Done:
    """A finished run: its folder and its output."""

    folder: Path
    output: str

    @property
    def read(self) -> results.Results:
        """The results, read by the program's own reader."""
        return results.read(self.folder)


def done(folder: Path, *arguments: str) -> Done:
    """Perform a run."""
    process = subprocess.run(  # noqa: S603 - our own command
        command("run", "--out", str(folder), "--seed", "1", *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return Done(folder, process.stdout)


def tables(markdown: str) -> dict[str, list[dict[str, str]]]:
    """The tables of all figures by title; each row maps columns to values."""
    found = {}
    for block in markdown.partition("## Every figure")[2].partition("## How it was measured")[0].split("\n### ")[1:]:
        title, _, text = block.partition("\n")
        head, _, *rows = [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n") if line[:1] == "|"
        ]
        found[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def raw_lines(folder: Path, cell: str, level: str) -> list[list[dict[str, Any]]]:
    """Read the records of a cell by round, without the program's own reader."""
    run = json.loads((folder / "run.json").read_text("utf-8"))
    data = (folder / "requests.jsonl.gz").read_bytes()
    trials = [trial for trial in run["trials"] if trial["cell"] == cell]
    parts = [gzip.decompress(data[trial["offset"] :][: trial["length"]]) for trial in trials]
    lines = [[json.loads(line) for line in part.splitlines()] for part in parts]
    return [[line for line in each if line["level"] == level] for each in lines]


def first_number(text: str) -> float:
    """The median in a cell of a table."""
    return float(text.split(" ", maxsplit=1)[0].replace(",", ""))


def check_row(folder: Path, result: results.Result, row: dict[str, str]) -> None:
    """Check a row of the report against the raw records of its cell."""
    size, rounds = result.cell.size, raw_lines(folder, result.cell.id, result.level)
    good = [[line for line in each if line["status"] == 201 and line["error"] is None] for each in rounds]
    rates = [
        len(lines) / (max(line["ended_us"] for line in each) / 1e6) for lines, each in zip(good, rounds, strict=True)
    ]
    latencies = [statistics.median(line["ended_us"] - line["intended_us"] for line in each) / 1000 for each in good]
    assert first_number(row["uploads, 1/s"]) == pytest.approx(statistics.median(rates), rel=0.006)
    if all(len(each) % 2 for each in good):  # HDR's median of an even count is the lower of the two middle values
        assert first_number(row["latency, median, ms"]) == pytest.approx(statistics.median(latencies), rel=0.006)
    if "throughput, MB/s" in row:
        assert first_number(row["throughput, MB/s"]) == pytest.approx(statistics.median(rates) * size / 1e6, rel=0.006)
    errors = sum(len(each) for each in rounds) - sum(len(each) for each in good)
    assert row["errors"].split(" of ")[0] == str(errors)


def check_report(made: Done) -> None:
    """Check that the report's rows match the raw records, one for one."""
    by_title = tables((made.folder / report.MARKDOWN).read_text("utf-8"))
    read = made.read
    for result in read.results:
        level = {"closed": "closed loop", "open50": "open loop at 50% of the ceiling"}[result.level]
        rows = by_title[f"{size_name(result.cell.size)}, {result.cell.clients} at once, {level}; plain, store null"]
        (row,) = [row for row in rows if row[""] == f"{result.target['label']}, {result.target['server']}"]
        check_row(made.folder, result, row)
    assert len(read.results) == sum(len(rows) for rows in by_title.values()) > 0
