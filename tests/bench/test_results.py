"""Results of a run: medians, intervals, ties, recommendations, goals and comparisons."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest
from bench.invented import KIND, REQUESTS, Seen, around, invent
from click.testing import CliRunner

from benchmarks import goals, recommendations, report, results, runs
from benchmarks.__main__ import main
from benchmarks.compare import compare
from benchmarks.plans import PLANS
from benchmarks.runs import RunFolder
from benchmarks.stats import is_tie, measure, ratio
from benchmarks.targets import TARGETS

QUART, FLASK, FASTAPI = "quart/stream@uvicorn", "flask/stream@gunicorn", "fastapi@uvicorn"


def test_an_interval_holds_the_median_and_lies_within_the_values() -> None:
    """An interval contains the median, in any order of at least three values."""
    one = measure([5.0, 1.0, 3.0, 4.0, 2.0])
    assert one.median == 3
    assert one.low is not None
    assert one.high is not None
    assert 1 <= one.low < 3 < one.high <= 5
    assert measure([1.0, 2.0, 3.0, 4.0, 5.0]) == one
    assert measure([1.0, 2.0]).low is None


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """The 95% interval contains the true median about as often as it claims."""
    chance = random.Random(7)  # noqa: S311 - draws, no secret
    held = 0
    for _ in range(400):
        one = measure([chance.gauss(10, 1) for _ in range(15)])
        assert one.low is not None
        assert one.high is not None
        held += one.low <= 10 <= one.high
    assert 0.88 <= held / 400 <= 0.99


def test_equal_measures_tie_and_doubled_ones_do_not() -> None:
    """Measures are tied if the interval of their ratio contains 1 or is missing."""
    few, many = measure([1.0, 1.1, 0.9, 1.05, 0.95]), measure([2.0, 2.2, 1.8, 2.1, 1.9])
    assert is_tie(ratio(few, measure([1.02, 1.1, 0.9, 1.0, 0.97])))
    assert not is_tie(ratio(many, few))
    assert ratio(many, few).median == 2
    assert is_tie(ratio(measure([1.0]), measure([2.0])))


def test_figures_are_those_of_the_rounds(tmp_path: Path) -> None:
    """The figures are computed from known rounds: rate, time, CPU, memory, disk and percentiles."""
    seen = [Seen(8, cpu_per_gib=16, peak_bytes=2**20, disk_per_byte=2) for _ in range(5)]
    (one,) = results.read(invent(tmp_path / "run", {QUART: seen})).results
    expected = {
        "rate": 1000,
        "bytes_per_second": 65.536,
        "seconds_per_upload": 0.008,
        "cpu_per_gib": 16,
        "cpu_per_request": 16 * 65536 / 2**30 * 1000,
        "peak": 1,
        "disk": 2,
        "threads": 5,
        "p50": 8,
        "p90": 8,
    }
    assert {name: one.figures[name].median for name in expected} == pytest.approx(expected, rel=0.001)
    assert one.requests == 5 * REQUESTS


def test_too_few_requests_have_no_percentile(tmp_path: Path) -> None:
    """A round of 20 requests has no 99th percentile."""
    folder = invent(tmp_path / "run", {QUART: around(8)})
    run = json.loads((folder / runs.SUMMARY).read_text("utf-8"))
    trial = run["trials"][0]
    kept = list(runs.requests(folder, trial))[:20]
    data = gzip.compress("".join(json.dumps(line) + "\n" for line in kept).encode())
    (folder / runs.REQUESTS).write_bytes(data)
    run["trials"] = [trial | {"length": len(data)}]
    (folder / runs.SUMMARY).write_text(json.dumps(run))
    (one,) = results.read(folder).results
    assert "p90" in one.figures
    assert "p99" not in one.figures


@pytest.mark.parametrize(
    ("values", "sink_rate", "reason"),
    [
        pytest.param({"load_cpu_share": 0.95}, 1e6, "used 95% of its core", id="its CPU is used up"),
        pytest.param({}, 1100, "limit is 1100 uploads/s, and it did 1000", id="its rate is reached"),
    ],
)
def test_a_cell_limited_by_the_load_generator_has_no_figures(
    tmp_path: Path, values: dict[str, float], sink_rate: float, reason: str
) -> None:
    """A cell limited by the load generator has no figures, but the reason is reported."""
    folder = invent(tmp_path / "run", {QUART: [Seen(8, **values)] * 5}, sink_rate=sink_rate)  # type: ignore[arg-type] # a dict of keywords
    read = results.read(folder)
    assert read.results == []
    assert reason in read.bottlenecked[f"{QUART} null plain 64KiB x8"]
    report.write(folder)
    assert reason in (folder / report.MARKDOWN).read_text("utf-8")


@pytest.mark.parametrize(("noisy", "is_quiet"), [(0, True), (1, True), (2, False)])
def test_a_noisy_machine_is_reported(tmp_path: Path, noisy: int, *, is_quiet: bool) -> None:
    """The report counts the cells in which the machine was quiet, and warns if they are fewer than nine in ten."""
    names = [f"quart/{name}@{server}" for name in ("stream", "file", "byte_queue") for server in ("uvicorn", "granian")]
    names += ["flask/stream@gunicorn", "flask/file@gunicorn", FASTAPI, "starlette@uvicorn"]
    loud = [*around(8)[:4], Seen(8, others_share=0.3)]
    folder = invent(tmp_path / "run", {name: loud if at < noisy else around(8) for at, name in enumerate(names)})
    report.write(folder)
    page = (folder / report.MARKDOWN).read_text("utf-8")
    assert f"The machine was quiet in {10 - noisy} of 10 cells" in page
    assert ("not quiet enough" in page) != is_quiet
    assert page.count("| no, 30% |") == noisy
    assert page.count("| yes |") == 10 - noisy


def test_noisy_measurements_are_dropped_and_counted(tmp_path: Path) -> None:
    """Only the measurements in which the machine was not quiet are dropped, to be repeated."""
    folder = invent(tmp_path / "run", {QUART: [*around(8)[:4], Seen(8, others_share=0.3)], FLASK: around(8)})
    one = RunFolder.resume(folder)
    one.measure_again(results.read(folder).noisy_trials)
    left = [(trial["cell"], trial["round"]) for trial in one.run.trials]
    assert left == [
        (f"{name} {KIND}", number) for number in range(5) for name in (QUART, FLASK) if (name, number) != (QUART, 4)
    ]
    assert one.run.measured_again == 1
    assert not one.run.complete


CELLS = {
    QUART: around(10, cpu_per_gib=10),
    FLASK: around(10.1, cpu_per_gib=20),
    "flask/file@gunicorn": around(5, disk_per_byte=1),
    "quart/stream+snapshot@uvicorn": around(20),
    FASTAPI: around(15),
    "relay@uvicorn": around(1),
}


def test_each_question_has_its_own_answer(tmp_path: Path) -> None:
    """Each table recommends the fastest target that fits its question, or the cheapest of a tie."""
    answers = recommendations.questions(results.read(invent(tmp_path / "run", CELLS)))
    rows = {question.title: question.rows[0] for question in answers}
    assert {title: row.best.cell.target for title, row in rows.items()} == {
        "Small files": "flask/file@gunicorn",
        "No temporary files": QUART,
        "The boto hook needs the request": "quart/stream+snapshot@uvicorn",
    }
    assert rows["Small files"].ties == []
    assert [it.cell.target for it in rows["No temporary files"].ties] == [FLASK]
    against = rows["No temporary files"].against
    assert against is not None
    assert against.median == pytest.approx(1.5)  # the relay is no peer and does not count


def test_a_question_without_figures_has_no_table(tmp_path: Path) -> None:
    """A question has rows only for measured targets, and no table without rows."""
    cells = {f"{QUART} null plain {size} x1": around(9) for size in ("1MiB", "16MiB")}
    folder = invent(tmp_path / "run", cells | {f"{FLASK} null plain 16MiB x1": around(9, disk_per_byte=1)})
    answers = recommendations.questions(results.read(folder))
    assert [(question.title, len(question.rows)) for question in answers] == [
        ("Small files", 1),
        ("Large files", 1),
        ("No temporary files", 1),
    ]
    report.write(folder)
    assert "| not measured |" not in (folder / report.MARKDOWN).read_text("utf-8")


@pytest.mark.parametrize(
    ("quart", "verdict"),
    [
        pytest.param(around(9.5), "met", id="faster"),
        pytest.param(around(14), "missed", id="not as much faster"),
        pytest.param(around(9.9, spread=0.2), "met, within the noise", id="just, by chance perhaps"),
        pytest.param(around(10.1, spread=0.2), "missed, within the noise", id="just not"),
    ],
)
def test_a_goal_is_met_or_missed_by_its_ratio(tmp_path: Path, quart: list[Seen], verdict: str) -> None:
    """A goal's verdict follows from the measured ratio, and names a result within the noise."""
    goal = goals.goals(results.read(invent(tmp_path / "run", {FASTAPI: around(15), QUART: quart})))[0]
    assert (goal.measure, goal.text) == ("uploads/s, 64 KiB × 8: Quart on uvicorn / FastAPI on uvicorn", "≥ 1.5")
    assert goal.verdict == verdict


def test_the_goals_plan_has_each_compared_cell(tmp_path: Path) -> None:
    """The plan `goals` has figures for its whole table; without one of two cells, a goal is left out."""
    cells = {cell.id: around(10, cpu_per_gib=1) for cell in PLANS["goals"].cells(TARGETS)}
    table = report.goal_rows(results.read(invent(tmp_path / "run", cells)))
    ratios = [row for row in table if " / FastAPI" in row[0] or " / relay" in row[0] or " / plain" in row[0]]
    assert [row[1] for row in ratios] == [
        "≥ 1.5",
        "≥ 1.15",
        "≥ 1.7",
        "≥ 1.8",
        "≤ 1",
        "≤ 1",
        "≤ 0.6",
        "≤ 1.15",
        "≤ 0.8",
        "≤ 0.65",
    ]
    assert all(row[2].startswith("1.00 (") for row in ratios)
    assert not [row for row in table if row[3] == "not measured"]
    alone = report.goal_rows(results.read(invent(tmp_path / "alone", {QUART: around(10)})))
    assert not [row for row in alone if " / " in row[0] and "formula" not in row[0]]


def test_a_goal_whose_cell_failed_is_not_measured(tmp_path: Path) -> None:
    """A goal whose cell has failed stays in the table, without a verdict on it."""
    folder = invent(tmp_path / "run", {FASTAPI: around(15), QUART: around(10)})
    run = json.loads((folder / runs.SUMMARY).read_text("utf-8"))
    for trial in run["trials"]:
        if trial["cell"].startswith(QUART):
            trial |= {"status": "failed", "reason": "it lost a file"}
    (folder / runs.SUMMARY).write_text(json.dumps(run))
    assert goals.goals(results.read(folder))[0].verdict == "not measured"


def test_two_runs_of_the_same_do_not_differ(tmp_path: Path) -> None:
    """Changes below 5% or within the spread of the rounds are not reported."""
    before = results.read(invent(tmp_path / "before", CELLS))
    after = {
        name: [Seen(**{**vars(it), "milliseconds": it.milliseconds * 1.01}) for it in seen]
        for name, seen in CELLS.items()
    }
    seen = compare(before, results.read(invent(tmp_path / "after", after)))
    assert seen.changes == []
    assert seen.compared > 20
    assert seen.environment == []


def test_changes_are_printed_with_their_ratio(tmp_path: Path) -> None:
    """`compare` prints each change with its ratio, and the differences of the environments."""
    before = invent(tmp_path / "before", CELLS)
    after = invent(
        tmp_path / "after",
        CELLS | {QUART: around(15, cpu_per_gib=10), FLASK: around(10.1, cpu_per_gib=10)},
        packages={"boto3": "2"},
    )
    result = CliRunner().invoke(main, ["compare", str(before), str(after)])
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert "environment: packages: boto3 was 1, is 2" in lines
    assert [line for line in lines if line.startswith(f"worse: {QUART} null plain 64KiB x8 closed: uploads was 800")]
    assert [line for line in lines if line.startswith(f"better: {FLASK} null plain 64KiB x8 closed: CPU per upload")]
    assert lines[-1].startswith("4 of ")  # uploads, median and 99% of one cell, CPU of the other
    assert "(0.667 (" in result.output


def test_cells_of_only_one_run_are_listed(tmp_path: Path) -> None:
    """`compare` lists the cells of only one run instead of comparing them."""
    before = invent(tmp_path / "before", {QUART: around(10), FLASK: around(10)})
    after = invent(tmp_path / "after", {QUART: around(10), FASTAPI: around(10)})
    output = CliRunner().invoke(main, ["compare", str(before), str(after)]).output
    assert f"only before: {FLASK} null plain 64KiB x8" in output
    assert f"only after: {FASTAPI} null plain 64KiB x8" in output


def test_too_few_rounds_show_no_change(tmp_path: Path) -> None:
    """With two rounds, `compare` reports no change, however large."""
    before = invent(tmp_path / "before", {QUART: around(10)[:2]})
    after = invent(tmp_path / "after", {QUART: around(90)[:2]})
    output = CliRunner().invoke(main, ["compare", str(before), str(after)]).output
    assert "Fewer than 3 rounds" in output
    assert "0 of " in output


def test_a_full_disk_fails_the_cell_and_not_the_run(tmp_path: Path) -> None:
    """A trial whose requests cannot be written is recorded as failed; later trials are kept."""
    folder = invent(tmp_path / "run", {QUART: around(10)})
    one = RunFolder.resume(folder)
    trials = list(one.run.trials)
    trial = {name: value for name, value in trials[0].items() if name not in {"offset", "length"}}
    kept = (folder / runs.REQUESTS).rename(folder / "kept")
    (folder / runs.REQUESTS).symlink_to("/dev/full")
    one.add(trial | {"round": 5}, [{"level": "closed"}])
    assert one.run.trials[-1]["status"] == "failed"
    assert "No space left on device" in one.run.trials[-1]["reason"]
    (folder / runs.REQUESTS).unlink()
    kept.rename(folder / runs.REQUESTS)
    one.add(trial | {"round": 6}, list(runs.requests(folder, trials[0])))
    read = runs.load(folder)
    assert list(runs.requests(folder, read.trials[-1])) == list(runs.requests(folder, trials[0]))


def test_a_resumed_run_drops_unrecorded_requests(tmp_path: Path) -> None:
    """A resumed run cuts off requests that have no record."""
    folder = invent(tmp_path / "run", {QUART: around(10)})
    whole = (folder / runs.REQUESTS).read_bytes()
    (folder / runs.REQUESTS).write_bytes(whole + b"\x1f\x8bhalf")
    RunFolder.resume(folder)
    assert (folder / runs.REQUESTS).read_bytes() == whole


def test_damaged_requests_are_rejected_in_one_line(tmp_path: Path) -> None:
    """Damaged requests exit with 2 and one line instead of a partial report."""
    folder = invent(tmp_path / "run", {QUART: around(10)})
    (folder / runs.REQUESTS).write_bytes(b"damaged")
    result = CliRunner().invoke(main, ["report", str(folder)])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (0.5, "0.500"), (1.234, "1.23"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    """Numbers have three significant digits and no powers of ten."""
    assert report.number(value) == text


def test_a_report_may_be_one_markdown_file(tmp_path: Path) -> None:
    """A report may be one Markdown file, with its published pictures in a folder.

    It mentions the other pictures.
    """
    folder = invent(tmp_path / "run", {"quart/stream@uvicorn": around(10)})
    written = report.write(folder, tmp_path / "docs" / "speed.md")
    assert {path.relative_to(tmp_path / "docs").parts[0] for path in written} == {"speed.md", "speed"}
    page = written[0].read_text("utf-8")
    linked = re.findall(r"\]\(([^)]*\.svg)\)", page)
    assert {tmp_path / "docs" / path for path in linked} == set(written[1:])
    assert "more pictures: Throughput by file size" in page
    assert "throughput" not in {path.stem for path in written}


@pytest.mark.thorough
def test_published_pictures_of_a_whole_run_are_small(tmp_path: Path) -> None:
    """A published picture has less than 60 KB, with exact numbers as text."""
    cells = [cell for cell in PLANS["published"].cells(TARGETS) if (cell.store, cell.scenario) == ("null", "plain")]
    folder = invent(tmp_path / "run", {cell.id: around(10, cpu_per_gib=1.234) for cell in cells})
    _, *pictures = report.write(folder, tmp_path / "speed.md")
    assert {path.stem for path in pictures} == set(report.PUBLISHED)
    for path in pictures:
        assert path.stat().st_size < 60_000
    assert ">1.23</text>" in (tmp_path / "speed" / "cpu.svg").read_text("utf-8")
