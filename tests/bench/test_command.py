"""The command line: what does not exist is said in one line with what does, and what exists is listed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.plans import LEVELS, PLANS, SCENARIOS, SIZES, STORES
from benchmarks.targets import SERVERS, TARGETS

CELL = "quart/stream@uvicorn null plain 64KiB x8"


def run(*arguments: str) -> tuple[int, str]:
    """The exit status, and what is printed."""
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--plan", "defualt"], ["no plan 'defualt'", "'default' meant", *PLANS], id="plan"),
        pytest.param(["--target", "quart/streem@*"], ["no target 'quart/streem@*'", *TARGETS], id="target"),
        pytest.param(["--store", "s3"], ["no store 's3'", *STORES, "http://"], id="store"),
        pytest.param(["--scenario", "slow"], ["no scenario 'slow'", *SCENARIOS], id="scenario"),
        pytest.param(["--size", "64KB"], ["'64KB' is no size", *SIZES], id="size"),
        pytest.param(["--size", "0KiB"], ["'0KiB' is no size", *SIZES], id="no size at all"),
        pytest.param(["--clients", "0"], ["1 or more"], id="no clients"),
        pytest.param(["--level", "open90"], ["no level 'open90'", *LEVELS], id="level"),
        pytest.param(["--cell", "quart"], ["no cell 'quart'", CELL], id="cell"),
        pytest.param(["--cell", CELL.replace("null", "nul")], ["no store 'nul'", *STORES], id="cell's store"),
        pytest.param(
            ["--cell", CELL.replace("uvicorn", "unicorn")],
            ["no target", "'quart/stream@uvicorn' meant"],
            id="cell's target",
        ),
        pytest.param(
            ["--cell", "quart/file+copied@hypercorn null plain 64KiB x8"], ["known to be lost"], id="a lost cell"
        ),
        pytest.param(
            ["--cell", "relay@uvicorn moto plain 64KiB x8"], ["do not go together"], id="a cell that cannot be"
        ),
        pytest.param(["--peer", "mine"], ["'mine' is not of the form NAME=MODULE:APP@SERVER"], id="peer"),
        pytest.param(["--peer", "mine=app:app@nginx"], ["no server 'nginx'", *SERVERS], id="peer's server"),
        pytest.param(["--target", "relay@uvicorn", "--store", "rclone"], ["nothing is left"], id="nothing is left"),
        pytest.param(["--resume", "nowhere"], ["there is no run in nowhere"], id="no run"),
    ],
)
def test_what_does_not_exist_is_said_in_one_line(tmp_path: Path, arguments: list[str], said: list[str]) -> None:
    """With what there is instead; nothing is begun."""
    out = [] if "--resume" in arguments else ["--out", str(tmp_path / "run")]
    status, output = run("run", *out, *arguments)
    assert status == 2
    assert output.count("\n") == 1
    for text in said:
        assert text in output
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    """It is told how to go on with it."""
    (tmp_path / "run.json").write_text("{}")
    status, output = run("run", "--out", str(tmp_path), "--plan", "smoke")
    assert status == 2
    assert "--resume" in output
    assert output.count("\n") == 1
    assert (tmp_path / "run.json").read_text() == "{}"


@pytest.mark.parametrize("command", [["report"], ["compare", "."]], ids=lambda it: it[0])
@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": 99}'], ids=repr)
def test_what_is_no_run_is_said_in_one_line(tmp_path: Path, command: list[str], content: str | None) -> None:
    """A folder without one, or with something else of that name."""
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    status, output = run(*command, str(tmp_path))
    assert status == 2
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("plans", list(PLANS)),
        ("targets", list(TARGETS)),
        ("servers", list(SERVERS)),
        ("stores", list(STORES)),
        ("scenarios", list(SCENARIOS)),
        ("sizes", list(SIZES)),
        ("levels", list(LEVELS)),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_what_there_is_is_listed(what: str, names: list[str]) -> None:
    """A line each, with its name in front."""
    status, output = run("list", what)
    assert status == 0
    assert [line.split(" ")[0] for line in output.splitlines()][: len(names)] == names


@pytest.mark.parametrize("plan", PLANS)
def test_a_listed_cell_can_be_asked_for(plan: str) -> None:
    """Every cell of every plan is listed once, by the name that `--cell` takes."""
    status, output = run("list", "cells", "--plan", plan)
    cells = output.splitlines()
    assert status == 0
    assert len(set(cells)) == len(cells) > 0
    status, output = run("list", "cells", *(argument for cell in cells for argument in ("--cell", cell)))
    assert (status, output.splitlines()) == (0, cells)


def test_known_losses_are_in_no_plan() -> None:
    """What is known to lose the file is not measured."""
    _, output = run("list", "cells", "--plan", "full")
    assert "+copied@" in output
    assert "/file+copied@" not in output
    assert "/byte_queue+copied@gunicorn null plain 16MiB" not in output
