"""`python -m benchmarks run|report|compare|list`: measure uploads and report the results."""

import random
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import compare, goals, report, results, stats
from benchmarks.plans import LEVELS, PLANS, SCENARIOS, SIZES, STORES, Cell, Plan, guessed_seconds
from benchmarks.runner import Runner
from benchmarks.runs import NoRun, Run, RunFolder, described
from benchmarks.selection import Filters, one_of, plan_named, select_cells
from benchmarks.targets import SERVERS, Target, known
from demo.processes import StartError
from filehandoff.errors import SettingsError

INTERRUPTED = 130
AGAIN = "until the machine was quiet in enough cells, measure the others again, at most N times"


class BadArgument(click.ClickException):
    """An option or argument names something that does not exist; a one-line message."""

    exit_code = 2


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Parse the command line."""


def _selection_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options that select cells; `run` and `list cells` share them."""
    options = [
        click.option("--plan", metavar="NAME", help=f"the plan: {', '.join(PLANS)}"),
        click.option("--cell", "cells", metavar="ID", multiple=True, help="a cell id from `list cells`"),
        click.option(
            "--target", "targets", metavar="PATTERN", multiple=True, help="targets, such as 'quart/*@uvicorn'"
        ),
        click.option("--peer", "peers", metavar="NAME=MODULE:APP@SERVER", multiple=True, help="your own app"),
        click.option("--store", "stores", metavar="NAME", multiple=True, help=f"{', '.join(STORES)}, or a URL"),
        click.option("--scenario", "scenarios", metavar="NAME", multiple=True, help=", ".join(SCENARIOS)),
        click.option("--size", "sizes", metavar="SIZE", multiple=True, help="the file size, such as 64KiB"),
        click.option("--clients", metavar="N", multiple=True, type=int, help="the number of concurrent clients"),
        click.option("--level", "levels", metavar="NAME", multiple=True, help=", ".join(LEVELS)),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_selection_options
@click.option("--rounds", type=click.IntRange(1), help="measurements of each cell (default: the plan's)")
@click.option("--seconds", type=click.FloatRange(0.1), help="shortest duration of a measurement (default: the plan's)")
@click.option("--seed", type=int, help="the seed of the cells' order")
@click.option("--out", type=click.Path(path_type=Path), help="the folder of the run (default: a new one)")
@click.option("--resume", type=click.Path(path_type=Path), help="the folder of a run to continue")
@click.option("--again", type=click.IntRange(0), default=0, metavar="N", help=AGAIN)
def run(  # noqa: PLR0913 - an argument for each option
    *,
    plan: str | None,
    rounds: int | None,
    seconds: float | None,
    seed: int | None,
    out: Path | None,
    resume: Path | None,
    again: int,
    **filters: Any,
) -> None:
    """Measure the selected cells and write a report.

    With --plan, the other options filter the plan's cells. Without it, every combination of their values is measured.
    Ctrl-C ends the run and keeps its measurements; --resume continues it. The table of goals is printed at the end.
    """
    console = Console(highlight=False)
    try:
        if resume is not None:
            folder = RunFolder.resume(resume)
            targets = known(folder.run.own_peers)
        else:
            targets = known(filters["peers"])
            named = plan_named(plan)
            basis = named or PLANS["default"]
            cells = select_cells(named, targets, Filters(**filters))
            made = Run(
                plan=named.name if named else "own",
                rounds=rounds or basis.rounds,
                seconds=seconds or basis.seconds,
                seed=random.randrange(10**6) if seed is None else seed,  # noqa: S311 - an order, no secret
                own_peers=list(filters["peers"]),
                cells=[vars(cell) for cell in cells],
                targets={cell.target: described(targets[cell.target]) for cell in cells},
                environment={},
                began=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            folder = RunFolder.create(out or _new_folder(), made)
    except (NoRun, ValueError) as error:
        raise BadArgument(str(error)) from None
    _measure(console, folder, targets, again)


def _new_folder() -> Path:
    return Path("benchmarks") / "runs" / time.strftime("%Y%m%d-%H%M%S")


def _measure(console: Console, folder: RunFolder, targets: Mapping[str, Target], again: int) -> None:
    """Run the measurements, show progress, and print the result."""
    run = folder.run
    total = len(run.cells) * run.rounds
    console.print(
        f"{len(run.cells)} cells in {run.rounds} rounds into {folder.folder}; seed {run.seed}.", soft_wrap=True
    )
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=console, transient=True, refresh_per_second=1) as bar:
            task = bar.add_task("measuring the load generator", total=total)

            def progress(number: int, of: int, cell: Cell, round_number: int, left: float) -> None:
                minutes = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"  # noqa: PLR2004 - minutes are too coarse below it
                text = f"about {minutes} left  round {round_number + 1}  {cell.id}"
                bar.update(task, completed=number - 1, total=of, description=text)
                if not console.is_terminal:
                    console.print(f"{number}/{of} {text}", soft_wrap=True)

            runner = Runner(folder, targets)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, runner.interrupt)
            runner.run(progress)
            for _ in range(again):
                read = results.read(folder.folder)
                if read.is_quiet:
                    break
                folder.measure_again(read.noisy_trials)
                runner.run(progress)
            bar.update(task, completed=total, description="profiling the cells that missed a goal")
            runner.profile(goals.missed(results.read(folder.folder)))
    except KeyboardInterrupt:
        kept = f"Interrupted; {len(run.trials)} measurements are kept."
        console.print(f"{kept} Continue with --resume {folder.folder}", soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (StartError, SettingsError, NoRun, OSError) as error:
        raise click.ClickException(str(error)) from None
    _print_result(console, folder)


def _print_result(console: Console, folder: RunFolder) -> None:
    trials = folder.run.trials
    seen = {
        status: {v["cell"]: v["reason"] for v in trials if v["status"] == status} for status in ("failed", "skipped")
    }
    for status, cells in seen.items():
        for cell, reason in cells.items():
            console.print(f"{status}: {cell}: {reason}", soft_wrap=True, markup=False)
    good = {trial["cell"] for trial in trials} - set(seen["failed"]) - set(seen["skipped"])
    console.print(f"{len(good)} cells measured, {len(seen['failed'])} failed, {len(seen['skipped'])} skipped.")
    try:
        html, *_ = report.write(folder.folder)
    except (NoRun, OSError) as error:
        raise click.ClickException(f"the report cannot be written: {error}") from None
    console.print(f"Report: {html}", soft_wrap=True)
    read = results.read(folder.folder)
    console.print(report.quiet_sentence(read), soft_wrap=True)
    if not read.is_quiet:
        console.print(f"Measure the other cells again with --resume {folder.folder} --again 5", soft_wrap=True)
    _print_goals(read)


def _print_goals(read: results.Results) -> None:
    """Print the table of goals, if the run has any."""
    rows = [("measure", "goal", "reached ratio", ""), *report.goal_rows(read)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows if len(rows) > 1 else ():
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@main.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="a folder or a Markdown file (default: the run's folder)")
def report_(folder: Path, to: Path | None) -> None:
    """Write report.html and report.md for the run in FOLDER."""
    try:
        written = report.write(folder, to)
    except NoRun as error:
        raise BadArgument(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the report cannot be written: {error}") from None
    print("\n".join(str(path) for path in written))
    print(report.quiet_sentence(results.read(folder)))


@main.command("compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare_(before: Path, after: Path) -> None:
    """Print the changes between two runs beyond noise.

    BEFORE and AFTER are the folders of the runs.
    """
    try:
        comparison = compare.compare(results.read(before), results.read(after))
    except NoRun as error:
        raise BadArgument(str(error)) from None
    for line in comparison.environment:
        print(f"environment: {line}")
    for change in comparison.changes:
        word = "better" if change.is_better else "worse"
        old, new = (f"{report.shown(it)} {change.figure.unit}".rstrip() for it in (change.before, change.after))
        times = f" ({report.shown(change.times)} times)" if change.before.median else ""
        print(f"{word}: {change.cell} {change.level}: {change.figure.label} was {old}, is {new}{times}")
    for word, cells in (("before", comparison.only_before), ("after", comparison.only_after)):
        for cell in cells:
            print(f"only {word}: {cell}")
    if comparison.too_few_rounds:
        print(f"Fewer than {stats.FEWEST} rounds: no change can be distinguished from noise.")
    print(f"{len(comparison.changes)} of {comparison.compared} figures changed beyond noise.")


@main.command("list")
@click.argument("what", default="plans")
@_selection_options
def list_(what: str, plan: str | None, **filters: Any) -> None:
    """List the choices of an option.

    WHAT is plans, cells, targets, servers, stores, scenarios, sizes or levels.
    """
    try:
        targets = known(filters["peers"])
        kinds: dict[str, Iterable[str]] = {
            "plans": (
                f"{it.name:8} {len(it.cells(targets)):4} cells × {it.rounds} rounds, about {_duration(it, targets)}: "
                f"{it.sentence}"
                for it in PLANS.values()
            ),
            "targets": (_about(target) for target in targets.values()),
            "servers": (f"{it.name:17} {it.interface}" for it in SERVERS.values()),
            "stores": (*STORES, "http://… or https://…"),
            "scenarios": (f"{it.name:14} {it.sentence}" for it in SCENARIOS.values()),
            "sizes": SIZES,
            "levels": LEVELS,
        }
        if what == "cells":
            named = plan_named(plan)
            kinds["cells"] = (cell.id for cell in select_cells(named, targets, Filters(**filters)))
        for line in kinds[one_of(what, [*kinds, "cells"], "list")]:
            print(line)
    except ValueError as error:
        raise BadArgument(str(error)) from None


def _duration(plan: Plan, targets: Mapping[str, Target]) -> str:
    """Estimate how long a plan takes."""
    minutes = plan.rounds * sum(guessed_seconds(cell, plan.seconds) for cell in plan.cells(targets)) / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.0f} h"  # noqa: PLR2004 - minutes are too fine above it


def _about(target: Target) -> str:
    missing = target.missing()
    return f"{target.name:40} {target.label}" + (f" (the module {missing} is not installed)" if missing else "")


if __name__ == "__main__":
    main()
