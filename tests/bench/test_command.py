"""The command line lists its choices, and rejects an unknown one in one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.plans import LEVELS, PLANS, SCENARIOS, SIZES, STORES
from benchmarks.targets import SERVERS, TARGETS

CELL = "quart/stream@uvicorn null plain 64KiB x8"


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return exit status and output."""
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        pytest.param(["--plan", "defualt"], ["unknown plan 'defualt'", "did you mean 'default'", *PLANS], id="plan"),
        pytest.param(["--target", "quart/streem@*"], ["unknown target 'quart/streem@*'", *TARGETS], id="target"),
        pytest.param(["--store", "s3"], ["unknown store 's3'", *STORES, "http://"], id="store"),
        pytest.param(["--scenario", "slow"], ["unknown scenario 'slow'", *SCENARIOS], id="scenario"),
        pytest.param(["--size", "64KB"], ["'64KB' is not a size", *SIZES], id="size"),
        pytest.param(["--size", "0KiB"], ["'0KiB' is not a size", *SIZES], id="no size at all"),
        pytest.param(["--clients", "0"], ["1 or more"], id="no clients"),
        pytest.param(["--level", "open90"], ["unknown level 'open90'", *LEVELS], id="level"),
        pytest.param(["--cell", "quart"], ["unknown cell 'quart'", CELL], id="cell"),
        pytest.param(["--cell", CELL.replace("null", "nul")], ["unknown store 'nul'", *STORES], id="cell's store"),
        pytest.param(
            ["--cell", CELL.replace("uvicorn", "unicorn")],
            ["unknown target", "did you mean 'quart/stream@uvicorn'"],
            id="cell's target",
        ),
        pytest.param(
            ["--cell", "quart/file+copied@hypercorn null plain 64KiB x8"], ["known to lose the file"], id="a lost cell"
        ),
        pytest.param(
            ["--cell", "relay@uvicorn moto plain 64KiB x8"], ["do not fit together"], id="a cell that cannot be"
        ),
        pytest.param(
            ["--cell", "flask/stream@waitress null two-workers 64KiB x8"], ["do not fit together"], id="no workers"
        ),
        pytest.param(["--peer", "mine"], ["'mine' is not of the form NAME=MODULE:APP@SERVER"], id="peer"),
        pytest.param(["--peer", "mine=app:app@nginx"], ["unknown server 'nginx'", *SERVERS], id="peer's server"),
        pytest.param(["--target", "relay@uvicorn", "--store", "rclone"], ["no cell is left"], id="nothing is left"),
        pytest.param(["--resume", "nowhere"], ["there is no run in nowhere"], id="no run"),
    ],
)
def test_an_unknown_name_is_rejected_in_one_line(tmp_path: Path, arguments: list[str], texts: list[str]) -> None:
    """An unknown name exits with 2 and one line that lists the choices.

    No run begins.
    """
    out = [] if "--resume" in arguments else ["--out", str(tmp_path / "run")]
    status, output = run("run", *out, *arguments)
    assert status == 2
    assert output.count("\n") == 1
    for text in texts:
        assert text in output
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    """An existing run is not overwritten; the message names --resume."""
    (tmp_path / "run.json").write_text("{}")
    status, output = run("run", "--out", str(tmp_path), "--plan", "smoke")
    assert status == 2
    assert "--resume" in output
    assert output.count("\n") == 1
    assert (tmp_path / "run.json").read_text() == "{}"


@pytest.mark.parametrize("command", [["report"], ["compare", "."]], ids=lambda it: it[0])
@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": 99}'], ids=repr)
def test_a_folder_without_a_run_is_rejected_in_one_line(
    tmp_path: Path, command: list[str], content: str | None
) -> None:
    """A folder without a readable run exits with 2 and one line."""
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
def test_every_choice_is_listed(what: str, names: list[str]) -> None:
    """`list` prints a line per choice that begins with its name."""
    status, output = run("list", what)
    assert status == 0
    assert [line.split(" ")[0] for line in output.splitlines()][: len(names)] == names


@pytest.mark.parametrize("plan", PLANS)
def test_every_listed_cell_can_be_selected(plan: str) -> None:
    """`list cells` prints each cell of a plan once, as an id that `--cell` accepts."""
    status, output = run("list", "cells", "--plan", plan)
    cells = output.splitlines()
    assert status == 0
    assert len(set(cells)) == len(cells) > 0
    status, output = run("list", "cells", *(argument for cell in cells for argument in ("--cell", cell)))
    assert (status, output.splitlines()) == (0, cells)


def test_known_losses_are_in_no_plan() -> None:
    """No plan measures a cell that is known to lose its file."""
    _, output = run("list", "cells", "--plan", "full")
    assert "+copied@" in output
    assert "/file+copied@" not in output
    assert "/byte_queue+copied@gunicorn null plain 16MiB" not in output
