"""The tables of the documentation, from the figures of a stage's log."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from evidence import figures

APPS = {"flask": "Flask", "quart": "Quart"}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def overload(log: str) -> str:
    """Both apps under ten times their load."""
    found = figures.of(log, "overload")
    head = ("", f"memory above idle (formula: {found[0]['allowed']} MiB)", "`/healthz`, median / 90% / slowest")
    rows = (
        (APPS[one["app"]], f"{one['memory']} MiB", f"{one['median']} / {one['ninety']} / {one['slowest']} ms", *both)
        for one in found
        for both in [(one["stored"], one["refused"])]
    )
    return table((*head, "201", "503"), rows)


def part_memory(log: str) -> str:
    """The memory of uploads into a slow store, against the formula."""
    found = figures.of(log, "part-memory")
    first = found[0]
    head = (f"{first['size']} MiB into a store that takes {first['rate']} MB/s of each service", "the formula")
    rows = ((f"{one['at_once']} at once", *(f"{one[it]} MiB" for it in ("allowed", *APPS))) for one in found)
    return table((*head, *APPS.values()), rows)


def slow_clients(log: str) -> str:
    """A fast client, alone and beside many slow ones."""
    head = ("places", "service", "the fast client alone, median / 99%", "beside {} slow ones", "`/healthz`, slowest")
    found = figures.of(log, "slow-clients")
    rows = (
        (
            one["places"],
            APPS[one["app"]],
            _latencies(one["alone"]),
            _latencies(one["beside"]),
            f"{one['healthz']} ms",
            one["threads"],
            f"{one['memory']:+} MiB",
        )
        for one in found
    )
    return table((*(text.format(found[0]["slow"]) for text in head), "threads", "memory"), rows)


def _latencies(one: dict[str, Any]) -> str:
    """Median and 99% of the stored files; the share of the refused ones, if there are any."""
    refused = [f"503 for {one['refused']}%"] if one["refused"] else []
    stored = [f"{one['median']} / {one['ninety_nine']} ms"] if one["refused"] < 100 else []  # noqa: PLR2004 - percent
    return ", ".join(stored + refused)


def process_memory(log: str) -> str:
    """The memory of a process in mixed load, by the number of glibc's heaps."""
    rows = (
        (
            APPS[one["app"]],
            one["heaps"],
            f"{one['minutes']:g}",
            f"{one['least']} to {one['most']} MiB",
            f"{one['slope']:+} MiB a minute",
        )
        for one in figures.of(log, "memory")
    )
    return table(("", "heaps", "minutes", "the minutes' medians", "growth in the second half"), rows)


def explain_cost(log: str) -> str:
    """The CPU time that explaining adds to an upload."""
    [one] = figures.of(log, "explain-cost")
    percent = "{} ({} to {})".format(*(f"{value:.1%}" for value in one["share"]))
    micros = "{:.0f} µs ({:.0f} to {:.0f})".format(*one["micros"])
    return table(
        ("CPU time added to an upload of 64 KiB (95% interval)", "share of it", "measured"),
        [(micros, percent, f"{one['rounds']} rounds of {one['pairs']} pairs")],
    )


def soak_hour(log: str) -> str:
    """Both apps after an hour on a store that comes and goes."""
    found = figures.of(log, "soak-hour")
    counts = [key for key, value in found[0].items() if isinstance(value, int | float)]
    rows = [(key, *(f"{one.get(key, 0):,}" for one in found)) for key in counts]
    for key in ("memory", "descriptors", "threads"):
        unit = " MiB" if key == "memory" else ""
        cells = (f"{one[key]['least']} to {one[key]['most']}{unit}, {one[key]['rise']:+}" for one in found)
        rows.append((f"{key} in the second half, and rise in the pauses", *cells))
    [left] = figures.of(log, "soak-hour-store")
    below = f"\nUnfinished uploads before the sweep: {left['unfinished_before_the_sweep']}.\n"
    return table(("", *(APPS[one["app"]] for one in found)), rows) + below


def resumable(log: str) -> str:
    """A large file by tus, by one form, and by a tus server with its parts on disk."""
    found = sorted(figures.of(log, "resumable"), key=lambda one: float(one["seconds"]))
    first = found[0]
    head = (f"{first['mib']} MiB, rounds: {first['rounds']}", "seconds", "CPU of the server, s", "memory above idle")
    rows = (
        (
            one["target"],
            one["seconds"],
            f"{one['cpu']:.1f}",
            f"{one['peak']} MiB",
            "unknown" if one["disk"] is None else f"{one['disk']} MiB",
            "yes" if one["quiet"] else "no",
        )
        for one in found
    )
    return table((*head, "written to disk", "machine quiet"), rows)


def goals(log: str) -> str:
    """The goals of a benchmark, as it prints them."""
    lines = [line for line in log.splitlines() if re.search(r"^measure  |  (met|missed)", line)]
    head, *rows = (re.split(" {2,}", line) for line in lines)
    return table([*head, ""], rows)
