"""Stages run in order, stop at a signal, and go on at the next call; with invented stages in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from alive import alive
from patience import PATIENCE, wait_until

import evidence
from evidence.state import Record, State

ROOT = Path(evidence.__file__).parent.parent
#: Runs the stages in the place of the real ones.
PROGRAM = """
import sys
from pathlib import Path
from evidence import running
from evidence.__main__ import Evidence
from evidence.plan import Stage

def no_nginx():
    return "nginx is missing"

def table(log):
    return log.split("table ")[1]

running.GRACE_SECONDS = 3  # a shell's background jobs ignore Ctrl-C
{setup}
root = Path.cwd()
stages = [{stages}]
sys.exit(Evidence(stages, root, root / "build", root / "docs").run(sys.argv[1:]))
"""


class Project:
    """A folder with invented stages."""

    def __init__(self, folder: Path, stages: str, setup: str = "") -> None:
        self.folder = folder
        self._program = PROGRAM.format(stages=stages, setup=setup)
        (folder / "docs").mkdir(exist_ok=True)

    @contextmanager
    def running(self, *names: str) -> Iterator[subprocess.Popen[str]]:
        """Run the stages for the block."""
        with subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-c", self._program, *names],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def run(self, *names: str) -> tuple[int, str]:
        """Run the stages to their end; return the status and the output."""
        with self.running(*names) as process:
            output, _ = process.communicate(timeout=PATIENCE)
            return process.returncode, output

    def records(self) -> Sequence[Record]:
        """The records, in order."""
        return State.read(self.folder / "build").records

    def page(self) -> str:
        """The written page."""
        return (self.folder / "docs/evidence.md").read_text("utf-8")


def begun(folder: Path) -> bool:
    """Whether the long stage has started both processes."""
    return (folder / "own").exists() and bool((folder / "own").read_text())


def test_each_stage_has_its_outcome(tmp_path: Path) -> None:
    """A stage passes, fails or is skipped with its reason, and does not stop the next one."""
    project = Project(
        tmp_path,
        """
        Stage("good", "echo '5 passed in 0.10s'; echo table of figures", 1, tables={"t.md": table}),
        Stage("bad", "echo why; exit 3", 1),
        Stage("mute", "echo nothing", 1, tables={"u.md": table}),
        Stage("unable", "false", 1, [no_nginx]),
        Stage("last", "true", 1),
        """,
    )
    status, output = project.run()
    assert status == 1
    assert 'make evidence STAGES="bad mute"' in output
    outcomes = {one.stage: (one.outcome, one.reason) for one in project.records()}
    assert outcomes["bad"] == ("failed", "Its command ended with status 3.")
    assert outcomes["mute"][0] == "failed"
    assert outcomes["mute"][1].startswith("Its log lacks figures of u.md")
    assert outcomes["unable"] == ("skipped", "nginx is missing")
    assert outcomes["good"] == outcomes["last"] == ("passed", "")
    assert (tmp_path / "docs/evidence/t.md").read_text().endswith("of figures\n")
    assert not (tmp_path / "docs/evidence/u.md").exists()
    assert "| `good` | passed ¹ |" in project.page()
    assert "- `unable`: nginx is missing\n" in project.page()
    assert "````text\nwhy\n````" in project.page()


def test_a_done_stage_does_not_run_again(tmp_path: Path) -> None:
    """A second call repeats no passed stage, and a failed one only by its name."""
    project = Project(tmp_path, 'Stage("good", "echo x >> good", 1), Stage("bad", "echo x >> bad; false", 1)')
    for names in ([], [], ["bad", "good"]):
        assert project.run(*names)[0] == 1
    assert (tmp_path / "good").read_text() == "x\n"
    assert (tmp_path / "bad").read_text() == "x\nx\n"
    assert "| **failed**, after 1 failed ¹ |" in project.page()


def test_another_checkout_goes_on_with_the_page(tmp_path: Path) -> None:
    """Without the folder `build`, the records in `docs` count: the page keeps its rows, and no stage runs twice."""
    stages = 'Stage("good", "echo x >> good; echo table of figures", 1, tables={"t.md": table})'
    assert Project(tmp_path, stages).run()[0] == 0
    shutil.rmtree(tmp_path / "build")
    project = Project(tmp_path, stages + ', Stage("more", "true", 1)')
    assert project.run()[0] == 0
    assert (tmp_path / "good").read_text() == "x\n"
    assert [line.split("|")[1].strip() for line in project.page().splitlines() if "| passed" in line] == [
        "`good`",
        "`more`",
    ]
    assert (tmp_path / "docs/evidence/t.md").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
def test_an_interrupted_stage_ends_and_runs_at_the_next_call(tmp_path: Path, number: int) -> None:
    """A signal ends all processes of the running stage, even in groups of their own; the next call goes on with it."""
    project = Project(
        tmp_path,
        """
        Stage("first", "echo x >> first", 1),
        Stage("long", "[ -e again ] || { setsid sleep 999 & echo $! > other; sleep 999 & echo $! > own; wait; }", 1),
        """,
    )
    with project.running() as process:
        wait_until(lambda: begun(tmp_path) or process.poll() is not None, lambda: "no stage runs")
        assert begun(tmp_path)
        processes = [int((tmp_path / name).read_text()) for name in ("own", "other")]
        assert alive(processes) == processes
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert "Interrupted" in output
    wait_until(lambda: not alive(processes), lambda: f"{alive(processes)} run on")
    assert [one.stage for one in project.records()] == ["first"]
    (tmp_path / "again").touch()
    assert project.run()[0] == 0
    assert (tmp_path / "first").read_text() == "x\n"
    assert [one.stage for one in project.records()] == ["first", "long"]


def test_a_process_of_an_interrupted_stage_can_clean_up(tmp_path: Path) -> None:
    """Each gets SIGTERM before it is killed, also one in a group of its own that ignores Ctrl-C."""
    (tmp_path / "server").write_text(
        "trap 'echo x > cleaned; exit' TERM\necho $$ > new; mv new own\nwhile :; do sleep 0.1; done\n"
    )
    with Project(tmp_path, 'Stage("long", "setsid sh server & wait", 1)').running() as process:
        wait_until(lambda: begun(tmp_path) or process.poll() is not None, lambda: "no stage runs")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert (tmp_path / "cleaned").exists()


def test_a_signal_during_the_fork_ends_the_stage(tmp_path: Path) -> None:
    """The command may run before its fork has returned here, and Python ignores errors of hooks at a fork."""
    setup = """
import os, signal
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
"""
    stage = 'Stage("long", "sleep 20 & echo $! > new; mv new own; wait", 1)'
    status, output = Project(tmp_path, stage, setup).run()
    assert (status, "Interrupted" in output) == (130, True)
    assert not (tmp_path / "own").exists() or not alive([int((tmp_path / "own").read_text())])


def test_an_unknown_stage_is_one_line() -> None:
    """The command names the stages that exist, and runs none."""
    command = [sys.executable, "-m", "evidence", "soka"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 2
    assert "unknown stage soka; known: demo, test, contract-all" in done.stderr
