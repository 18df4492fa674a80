"""The page of the evidence, and the measured tables."""

from pathlib import Path

import pytest

from evidence import figures, page, tables
from evidence.plan import STAGES, Stage
from evidence.state import FAILED, PASSED, SKIPPED, Record, State

COMMIT, OTHER = "a" * 40, "b" * 40
MACHINE = page.Machine("Some CPU", 2, 3 * 2**30, "Linux 6.1", {"Python": "3.13.0", "flask": "3.1.3"})
STAGE = [Stage("one", "true", 1)]


def rendered(*records: Record, clean: bool = True) -> str:
    """The page of one stage with these records."""
    return page.document(STAGE, State(Path("none"), list(records)), COMMIT, MACHINE, clean=clean)


def row(text: str) -> str:
    """The stage's row."""
    return next(line for line in text.splitlines() if line.startswith("| `one`"))


def test_a_passed_stage_has_its_figures() -> None:
    """The row names outcome, day, duration and key figures."""
    text = rendered(Record("one", COMMIT, PASSED, "2026-01-02T03:04:05", 600, figures=["5 passed", "a | b"]))
    assert row(text) == "| `one` | passed | 2026-01-02 | 10 min | 5 passed; a \\| b |"
    assert "Commit `aaaaaaaaaaaa`.\n" in text
    assert text.endswith("## Skipped, and why\n\nNothing.\n")


def test_a_stage_that_never_ran_is_named() -> None:
    """A stage without a record is on the page."""
    assert row(rendered()) == "| `one` | **not run** |  |  |  |"
    assert rendered().endswith("- `one`: not run yet\n")


def test_a_skipped_stage_has_its_reason() -> None:
    """The reasons of skipped stages and skipped tests are listed."""
    text = rendered(Record("one", COMMIT, SKIPPED, "2026-01-02", reason="nginx is missing"))
    assert "- `one`: nginx is missing\n" in text
    text = rendered(Record("one", COMMIT, PASSED, "2026-01-02", left_out=["1 of a.py: no Redis"]))
    assert "- in `one`: 1 of a.py: no Redis\n" in text


def test_a_failure_has_the_end_of_its_log() -> None:
    """A failed stage has a section with the reason and the end of the log."""
    text = rendered(Record("one", COMMIT, FAILED, "2026-01-02", reason="It broke.", excerpt="the last line"))
    assert "| **failed** |" in row(text)
    assert text.endswith("## The failure of `one`\n\nIt broke.\n\n````text\nthe last line\n````\n")


def test_an_earlier_failure_stays_visible() -> None:
    """A stage that passed only when it was repeated says so."""
    text = rendered(Record("one", COMMIT, FAILED, "2026-01-02"), Record("one", COMMIT, PASSED, "2026-01-03"))
    assert "| passed, after 1 failed |" in row(text)


def test_another_commit_is_named() -> None:
    """A record of another commit names it."""
    text = rendered(Record("one", OTHER, PASSED, "2026-01-02"))
    assert "| passed at `bbbbbbbbbbbb` |" in row(text)
    assert "was not repeated on this one" in text


def test_a_changed_work_tree_is_named() -> None:
    """Uncommitted changes are said of the page and of each stage that ran with them."""
    text = rendered(Record("one", COMMIT, PASSED, "2026-01-02", clean=False), clean=False)
    assert "**with uncommitted changes in the work tree**" in text
    assert "| passed ¹ |" in row(text)
    assert "\n¹ " in text


def test_the_machine_is_described() -> None:
    """The page has the machine and the versions, which this machine gives too."""
    assert "Some CPU, 2 cores, 3 GiB of memory, Linux 6.1.\n\nPython 3.13.0, flask 3.1.3.\n" in rendered()
    here = page.Machine.this(Path(__file__).parent)
    assert here.cores > 0
    assert here.versions.keys() >= {"Python", "flask", "quart", "boto3", "aioboto3", "moto"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("Chromium 140.0.7339.127 built on Debian", "140.0.7339.127"),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1", "7.0.15"),
        ("v20.19.2", "20.19.2"),
        ("", "unknown"),
    ],
)
def test_a_program_names_its_version(text: str, version: str) -> None:
    """The version is found in the output of each program."""
    assert page.version_in(text) == version


def test_slow_clients_become_a_table() -> None:
    """A cell has latencies, or the share of refused files where there are some."""
    fast, mixed = {"median": 4, "ninety_nine": 11, "refused": 0}, {"median": 9, "ninety_nine": 9, "refused": 98}
    none = {"median": None, "ninety_nine": None, "refused": 100}
    held = {"slow": 300, "alone": fast, "healthz": 1, "threads": 3, "memory": -2}
    log = "\n".join(
        figures.line("slow-clients", places=places, app="quart", beside=beside, **held)
        for places, beside in ((400, fast), (32, mixed), (1, none))
    )
    assert tables.slow_clients(log).splitlines()[0].startswith("| places | service | the fast client alone")
    assert tables.slow_clients(log).splitlines()[2:] == [
        "| 400 | Quart | 4 / 11 ms | 4 / 11 ms | 1 ms | 3 | -2 MiB |",
        "| 32 | Quart | 4 / 11 ms | 9 / 9 ms, 503 for 98% | 1 ms | 3 | -2 MiB |",
        "| 1 | Quart | 4 / 11 ms | 503 for 100% | 1 ms | 3 | -2 MiB |",
    ]


def test_the_hour_becomes_a_table() -> None:
    """The table has a row for each count and each quantity, and a column for each app."""
    held = {name: {"least": 5, "most": 7, "rise": 0.5} for name in ("memory", "descriptors", "threads")}
    log = "\n".join(
        [
            figures.line("soak-hour", app="flask", minutes=60, uploads=12345, **held),
            figures.line("soak-hour", app="quart", minutes=60, uploads=2, **held),
            figures.line("soak-hour-store", unfinished_before_the_sweep=0),
        ]
    )
    assert tables.soak_hour(log).splitlines() == [
        "|  | Flask | Quart |",
        "| --- | --- | --- |",
        "| minutes | 60 | 60 |",
        "| uploads | 12,345 | 2 |",
        "| memory in the second half, and rise in the pauses | 5 to 7 MiB, +0.5 | 5 to 7 MiB, +0.5 |",
        "| descriptors in the second half, and rise in the pauses | 5 to 7, +0.5 | 5 to 7, +0.5 |",
        "| threads in the second half, and rise in the pauses | 5 to 7, +0.5 | 5 to 7, +0.5 |",
        "",
        "Unfinished uploads before the sweep: 0.",
    ]


def test_the_goals_become_a_table() -> None:
    """Each line of a goal is a row, with its verdict in the last column."""
    log = """5 cells measured, 0 failed, 0 skipped.
Report: report.html
measure                          goal   reached ratio
uploads/s: Quart / FastAPI       ≥ 1.5  1.47 (1.21–1.68)  missed, within the noise
disk written per byte: a stream  ≤ 1    0.5               met
/tmp/report.md
"""
    assert tables.goals(log).splitlines() == [
        "| measure | goal | reached ratio |  |",
        "| --- | --- | --- | --- |",
        "| uploads/s: Quart / FastAPI | ≥ 1.5 | 1.47 (1.21–1.68) | missed, within the noise |",
        "| disk written per byte: a stream | ≤ 1 | 0.5 | met |",
    ]


def test_the_table_of_resumable_uploads_begins_with_the_fastest() -> None:
    """The targets stand by their seconds; an unknown number of bytes on disk is named so."""
    known = {"mib": 1024, "rounds": 3, "cpu": 1.5, "peak": 40}
    log = "\n".join(
        [
            figures.line("resumable", target="slow", seconds=20.0, disk=None, quiet=False, **known),
            figures.line("resumable", target="fast", seconds=5.1, disk=0, quiet=True, **known),
        ]
    )
    assert tables.resumable(log).splitlines()[2:] == [
        "| fast | 5.1 | 1.5 | 40 MiB | 0 MiB | yes |",
        "| slow | 20.0 | 1.5 | 40 MiB | unknown | no |",
    ]


def test_the_other_tables_have_their_figures() -> None:
    """Each table is made of the line that its program prints."""
    overload = {"stored": 10, "refused": 20, "memory": 100, "allowed": 157, "median": 1, "ninety": 2, "slowest": 3}
    assert "| Flask | 100 MiB | 1 / 2 / 3 ms | 10 | 20 |" in tables.overload(
        figures.line("overload", app="flask", **overload)
    )
    part = figures.line("part-memory", at_once=4, rate=40, size=96, allowed=232, flask=194, quart=178)
    assert "| 4 at once | 232 MiB | 194 MiB | 178 MiB |" in tables.part_memory(part)
    memory = figures.line("memory", app="quart", minutes=30.0, heaps="2", least=169, most=216, slope=0.1)
    assert "| Quart | 2 | 30 | 169 to 216 MiB | +0.1 MiB a minute |" in tables.process_memory(memory)
    cost = figures.line("explain-cost", rounds=20, pairs=400, micros=[49.1, 40, 55], share=[0.04, 0.034, 0.045])
    assert "| 49 µs (40 to 55) | 4.0% (3.4% to 4.5%) | 20 rounds of 400 pairs |" in tables.explain_cost(cost)


def test_every_table_of_a_stage_is_included_in_a_page() -> None:
    """Each measured table is a file that exactly one page includes, and each stage is a command that exists."""
    docs = Path(tables.__file__).parent.parent / "docs"
    pages = "".join(path.read_text("utf-8") for path in docs.rglob("*.md"))
    names = [name for stage in STAGES for name in stage.tables]
    assert sorted(names) == sorted(path.name for path in (docs / "evidence").glob("*.md"))
    assert [name for name in names if pages.count(f"evidence/{name}\n```") != 1] == []


def test_the_names_of_stages_differ() -> None:
    """Each stage has a name of its own."""
    assert len({stage.name for stage in STAGES}) == len(STAGES)
