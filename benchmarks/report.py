"""Write a run's report from its raw data: a self-contained `report.html`, and `report.md`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from benchmarks import figures, goals, recommendations
from benchmarks.plans import LEVELS, SCENARIOS, size_name
from benchmarks.results import FIGURES, NOISY, QUIET_CELLS, Result, Results, read
from benchmarks.stats import FEWEST, Measure
from benchmarks.targets import NOT_ON
from filehandoff.settings import GIB

HTML, MARKDOWN, PICTURES = "report.html", "report.md", "pictures"
#: Figures in a report that is one Markdown file; the others are drawn into a folder only.
PUBLISHED = ("cpu", "memory")
_TEMPLATES = Path(__file__).parent / "templates"
#: The figures in the table of each level.
_COLUMNS = {
    "closed": (
        "rate",
        "bytes_per_second",
        "p50",
        "p99",
        "cpu_per_request",
        "cpu_per_gib",
        "peak",
        "disk",
        "threads",
        "loop_lag_p99",
    ),
    "open50": ("rate", "p50", "p90", "p99", "cpu_per_request"),
    "open80": ("rate", "p50", "p90", "p99", "cpu_per_request"),
}


@dataclass(frozen=True)
class Table:
    """The results at one store, scenario, size, number of clients and level."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write(folder: Path, to: Path | None = None) -> list[Path]:
    """Write the report of the run in `folder`; return the written files.

    Args:
        folder: the folder of the run.
        to: another folder for the report, or a Markdown file. The latter gets only `PUBLISHED` pictures, in a folder of
            the same name beside it.

    Raises:
        NoRun: there is no run, or it cannot be read.
        OSError: the report cannot be written.
    """
    results = read(folder)
    drawn, omitted = figures.pictures(results), list[str]()
    values = context(results)
    if to is not None and to.suffix == ".md":
        pictures, pages = to.with_suffix(""), {to: "report.md.jinja"}
        omitted = [picture.title for picture in drawn if picture.name not in PUBLISHED]
        drawn = [picture for picture in drawn if picture.name in PUBLISHED]
    else:
        place = to or folder
        pictures, pages = place / PICTURES, {place / HTML: "report.html.jinja", place / MARKDOWN: "report.md.jinja"}
    pictures.mkdir(parents=True, exist_ok=True)
    for path, template in pages.items():
        path.write_text(_render(template, **values, pictures=drawn, omitted=omitted, folder=pictures.name), "utf-8")
    files = {pictures / f"{picture.name}.svg": picture.svg for picture in drawn}
    for path, svg in files.items():
        path.write_text(svg, "utf-8")
    return [*pages, *files]


def _render(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


def context(results: Results) -> dict[str, Any]:
    """The values for the templates."""
    run = results.run
    return {
        "began": datetime.fromisoformat(run.began),
        "run": run,
        "environment": run.environment,
        "questions": [_question(it) for it in recommendations.questions(results)],
        "goals": goal_rows(results),
        "profiles": [_profile(cell, profile) for cell, profile in run.profiles.items()],
        "tables": tables(results),
        "scenarios": _scenarios(results),
        "not_measured": not_measured(results),
        "is_quiet": results.is_quiet,
        "quiet_sentence": quiet_sentence(results),
        "erring": [(it, f"{it.errors} of {it.errors + it.requests}") for it in results.results if it.errors],
        "cells": len(results.cells),
        "requests": sum(it.requests for it in results.results),
        "enough": bool(results.results) and all(it.figures["rate"].low is not None for it in results.results),
        "fewest": FEWEST,
        "sink": [{**it, "size": size_name(it["size"])} for it in run.sink],
        "gib": GIB,
    }


def number(value: float) -> str:
    """Format a number with three significant digits, without powers of ten."""
    if value >= 99.95:  # noqa: PLR2004 - larger numbers have no decimals
        return f"{value:,.0f}"
    digits = next((it for it, limit in ((0, 100), (1, 10), (2, 1)) if value >= limit), 3)
    return f"{value:.{digits}f}" if value else "0"


def shown(measure: Measure | None) -> str:
    """Format a median with its interval: `12.3 (11.9–12.8)`."""
    if measure is None:
        return "–"
    if measure.low is None or measure.high is None:
        return number(measure.median)
    return f"{number(measure.median)} ({number(measure.low)}–{number(measure.high)})"


def tables(results: Results) -> list[Table]:
    """Every figure of the run."""
    made = []
    kinds = {(it.cell.store, it.cell.scenario, it.cell.size, it.cell.clients, it.level) for it in results.results}
    scenarios, levels = list(SCENARIOS), list(LEVELS)
    for kind in sorted(
        kinds, key=lambda it: (it[0] != "null", it[0], scenarios.index(it[1]), it[2], it[3], levels.index(it[4]))
    ):
        store, scenario, size, clients, level = kind
        rows = [
            it
            for it in results.results
            if (it.cell.store, it.cell.scenario, it.cell.size, it.cell.clients, it.level) == kind
        ]
        rows.sort(key=lambda it: -it.figures["rate"].median)
        load = "closed loop" if level == "closed" else f"open loop at {LEVELS[level]:.0%} of the ceiling"
        title = f"{size_name(size)}, {clients} at once, {load}; {scenario}, store {store}"
        made.append(Table(title, _head(level), [_row(it) for it in rows]))
    return made


def _head(level: str) -> list[str]:
    names = [FIGURES[name] for name in _COLUMNS[level]]
    return ["", *(f"{it.label}, {it.unit}" if it.unit else it.label for it in names), "errors", "quiet"]


def _row(result: Result) -> list[str]:
    values = [shown(result.figures.get(name)) for name in _COLUMNS[result.level]]
    return [
        figures.label(result),
        *values,
        f"{result.errors} of {result.errors + result.requests}" if result.errors else "0",
        "yes" if result.is_quiet else f"no, {result.others_share:.0%}",
    ]


def _question(question: recommendations.Question) -> dict[str, Any]:
    return {
        "title": question.title,
        "sentence": question.sentence,
        "rows": [_recommendation(it) for it in question.rows],
    }


def _recommendation(it: recommendations.Recommendation) -> dict[str, Any]:
    best, target, is_small = it.best, it.best.target, it.size <= recommendations.SMALL
    speed, cpu = ("rate", "cpu_per_request") if is_small else ("bytes_per_second", "cpu_per_gib")
    return {
        "size": size_name(it.size),
        "clients": it.clients,
        "choice": f"{target['handoff']} × {target['hook']}, {target['framework']} on {target['server']}",
        "speed": f"{shown(best.figures[speed])} {'uploads/s' if is_small else 'MB/s'}",
        "cpu": f"{shown(best.figures[cpu])} {'ms/upload' if is_small else 's/GiB'}",
        "ties": "; ".join(figures.label(tie) for tie in it.ties) or "–",
        "against": f"{shown(it.against)} × {figures.label(it.peer)}" if it.peer else "–",
    }


def goal_rows(results: Results) -> list[tuple[str, str, str, str]]:
    """The table of goals: measure, goal, reached ratio, verdict."""
    return [(it.measure, it.text, shown(it.reached), it.verdict) for it in goals.goals(results)]


def quiet_sentence(results: Results) -> str:
    """Say in how many cells the machine was quiet."""
    noisy, cells, again = len(results.noisy), len(results.cells), results.run.measured_again
    worst = max((it.others_share for it in results.results), default=0.0)
    return (
        f"The machine was quiet in {cells - noisy} of {cells} cells; the goal is {QUIET_CELLS:.0%}. It is quiet if "
        f"other programs take at most {NOISY:.0%} of its CPU time in every round; the most was {worst:.0%}."
    ) + (f" For this, {again} measurements were repeated." if again else "")


def _profile(cell: str, profile: dict[str, Any]) -> dict[str, Any]:
    shares = {kind: [(name, f"{share:.1%}") for name, share in profile[kind]] for kind in ("functions", "packages")}
    return {"cell": cell, "samples": profile["samples"], "reason": profile["reason"], **shares}


def _scenarios(results: Results) -> list[tuple[str, str]]:
    seen = {it.cell.scenario for it in results.results}
    return [(it.name, it.sentence) for it in SCENARIOS.values() if it.name in seen]


def not_measured(results: Results) -> list[tuple[str, str]]:
    """Everything that the run did not measure, each with the reason."""
    run = results.run
    seen = {it.cell for it in results.results}
    reasons = [(cell, f"failed: {reason}") for cell, reason in results.failed.items()]
    reasons += [(cell, f"skipped: {reason}") for cell, reason in results.skipped.items()]
    reasons += [
        (cell, f"the load generator was the bottleneck: {reason}") for cell, reason in results.bottlenecked.items()
    ]
    reasons += [(cell, "the run was interrupted earlier") for cell in results.not_reached]
    reasons += [
        (f"hand-off {name} on the store {', '.join(sorted(on))}, and so in the answer", reason)
        for name, (on, reason) in NOT_ON.items()
    ]
    scenarios = [name for name in SCENARIOS if name not in {it.scenario for it in seen}]
    stores = [name for name in ("rclone", "moto", "swift") if name not in {it.store for it in seen}]
    if scenarios:
        reasons.append((f"scenarios {', '.join(scenarios)}", f"not in the plan '{run.plan}'"))
    if stores:
        reasons.append((f"stores {', '.join(stores)}", f"not in the plan '{run.plan}'"))
    reasons.append(("HTTP/2, networks other than loopback", "no plan has them"))
    return reasons
