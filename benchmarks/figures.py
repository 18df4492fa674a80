"""Draw the report's figures as SVG: medians with their 95% intervals."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.goals import allowed_bytes
from benchmarks.plans import LEVELS, size_name
from benchmarks.results import FIGURES, Result, Results
from benchmarks.stats import Measure
from filehandoff.settings import MIB

#: Colour and hatching by a target's maker; the hatching distinguishes them without colour too.
_COLOURS = {
    "Flask": ("#d55e00", "////"),
    "Quart": ("#0072b2", ""),
    "limit": ("#222222", "xxxx"),
    "peer": ("#a7a9ac", ""),
}
_GRID = "#dddddd"
_LEVEL_NAMES = {"closed": "closed loop", "open50": "at 50%", "open80": "at 80%"}
_BAR_INCHES = 0.27

#: Parts of matplotlib's SVG that no reader sees, each with its replacement.
_SHORTER = (
    (re.compile(r"\A.*?(?=<svg)", re.DOTALL), ""),
    (re.compile(r" *<metadata>.*?</metadata>\n", re.DOTALL), ""),
    (re.compile(r"(?<=\d\.\d)\d+(?=[^<>]*>)"), ""),  # of attributes; a tenth of a point is less than a pixel
    (re.compile(r"(?m)^ +|(?<=\") $"), ""),
    (re.compile(r" *\n(?![ <])"), " "),
    (re.compile(r" transform=\"rotate\(-0 [^\"]*\"|(?<=<g) id=\"[^\"]*\""), ""),
)

mpl.rcParams.update(
    {
        "svg.hashsalt": "benchmarks",  # the same run draws the same file
        "svg.fonttype": "none",  # text, not outlines: a tenth of the size
        "font.size": 9,
        "font.sans-serif": ["DejaVu Sans"],  # the list of fallbacks would stand in every text
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "hatch.linewidth": 0.4,
    }
)


@dataclass(frozen=True)
class Picture:
    """A figure with its title and caption."""

    name: str
    title: str
    caption: str
    svg: str


def pictures(results: Results) -> list[Picture]:
    """Draw every figure that the run has data for."""
    plain = [it for it in results.results if it.cell.scenario == "plain" and it.cell.store == "null"]
    closed = [it for it in plain if it.level == "closed"]
    made = [
        _throughput(closed),
        _latency(plain),
        _memory(closed),
        _cpu(closed),
        _sync_and_async(closed),
    ]
    return [picture for picture in made if picture is not None]


def maker(result: Result) -> str:
    """A target's maker: `Flask` or `Quart` (ours), `limit` (the bare relay), or `peer`."""
    if result.target["is_ours"]:
        return str(result.target["framework"])
    return "peer" if result.target["as_form"] else "limit"


def label(result: Result) -> str:
    """A target's label with its server."""
    return f"{result.target['label']}, {result.target['server']}"


def _drawn(figure: Figure, name: str, title: str, caption: str) -> Picture:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return Picture(name, title, caption, _compact(buffer.getvalue()))


def _compact(svg: str) -> str:
    """Shorten an SVG: a published figure is a file in the repository."""
    for pattern, shorter in _SHORTER:
        svg = pattern.sub(shorter, svg)
    return svg


def _cases(results: Sequence[Result]) -> list[tuple[int, int]]:
    """Each file size with the number of clients that most of its results have."""
    by_size: dict[int, list[int]] = {}
    for it in results:
        by_size.setdefault(it.cell.size, []).append(it.cell.clients)
    return [(size, max(set(many), key=lambda n: (many.count(n), n == 8))) for size, many in sorted(by_size.items())]  # noqa: PLR2004 - the goals are for 8 clients


def _of(results: Sequence[Result], case: tuple[int, int]) -> list[Result]:
    return [it for it in results if (it.cell.size, it.cell.clients) == case]


def _bars(axes: Axes, results: Sequence[Result], name: str, title: str) -> None:
    """Draw a bar per result, the best on top, with its interval and value."""
    figure = FIGURES[name]
    order = sorted(results, key=lambda it: it.figures[name].median, reverse=not figure.more_is_better)
    for row, result in enumerate(order):
        measure = result.figures[name]
        colour, hatch = _COLOURS[maker(result)]
        axes.barh(row, measure.median, 0.72, color=colour, hatch=hatch, edgecolor="white", linewidth=0, clip_on=False)
        if measure.low is not None and measure.high is not None:
            axes.plot([measure.low, measure.high], [row, row], color="black", linewidth=1, clip_on=False)
        end = max(measure.median, measure.high or 0)
        text = f"{measure.median:,.0f}" if measure.median >= 1000 else f"{measure.median:.3g}"  # noqa: PLR2004 - no powers of ten
        axes.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), [label(it) for it in order])
    axes.tick_params(axis="y", left=False)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=_GRID)
    axes.set_title(title, loc="left")
    axes.set_xlabel(figure.unit)


def _panels(results: Sequence[Result], name: str, of: Callable[[tuple[int, int]], str] | None = None) -> Figure | None:
    """Draw a panel of bars per file size, one below another."""
    cases = [case for case in _cases(results) if any(name in it.figures for it in _of(results, case))]
    if not cases:
        return None
    rows = [[it for it in _of(results, case) if name in it.figures] for case in cases]
    heights = [len(row) * _BAR_INCHES + 0.75 for row in rows]
    figure = Figure(figsize=(8.4, sum(heights)), layout="constrained")
    grid = figure.subplots(len(cases), 1, squeeze=False, height_ratios=heights)
    for axes, case, row in zip(grid[:, 0], cases, rows, strict=True):
        _bars(axes, row, name, of(case) if of else _case_name(case))
    return figure


def _case_name(case: tuple[int, int]) -> str:
    size, clients = case
    return f"files of {size_name(size)}, {_clients(clients)}"


def _clients(number: int) -> str:
    return "one client" if number == 1 else f"{number} clients"


_KEY = "Orange, striped: ours in Flask; blue: ours in Quart; black, crossed: the bare relay; grey: others."


def _throughput(closed: Sequence[Result]) -> Picture | None:
    figure = _panels(closed, "bytes_per_second")
    if figure is None:
        return None
    caption = f"Bytes of files stored per second, in MB/s: more is better. {_KEY}"
    return _drawn(figure, "throughput", "Throughput by file size", caption)


def _cpu(closed: Sequence[Result]) -> Picture | None:
    figure = _panels(closed, "cpu_per_gib")
    if figure is None:
        return None
    caption = f"CPU seconds of all of a server's processes per GiB of files: less is better. {_KEY}"
    return _drawn(figure, "cpu", "CPU per GiB", caption)


def _latency(plain: Sequence[Result]) -> Picture | None:
    """Draw latency percentiles at each load, for targets measured at all three loads."""
    names = ("p50", "p90", "p99")
    sizes = sorted({(it.cell.size, it.cell.clients) for it in plain if it.level != "closed"})
    if not sizes:
        return None
    case = (65536, 8) if (65536, 8) in sizes else sizes[0]
    here = [it for it in _of(plain, case) if all(name in it.figures for name in names)]
    targets = sorted({it.cell.target for it in here if it.level != "closed"})
    if not targets:
        return None
    figure = Figure(figsize=(8.4, len(targets) * 0.36 + 1.1), layout="constrained")
    grid = figure.subplots(1, len(LEVELS), sharey=True, squeeze=False)
    by_level = {level: {it.cell.target: it for it in here if it.level == level} for level in LEVELS}
    for axes, level in zip(grid[0], LEVELS, strict=True):
        for row, target in enumerate(targets):
            if target in by_level[level]:
                _percentiles(axes, row, by_level[level][target], names)
        axes.set_title(_LEVEL_NAMES[level], loc="left")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("ms")
        axes.grid(axis="x", color=_GRID)
    known = {it.cell.target: label(it) for it in here}
    grid[0][0].set_yticks(range(len(targets)), [known[target] for target in targets])
    grid[0][0].set_ylim(-0.6, len(targets) - 0.4)
    caption = (
        f"With {_case_name(case)}: the median (dot), 90% (bar) and 99% (triangle) of latencies, with their intervals. "
        "At 50% and 80% of each target's ceiling, uploads begin at fixed times, and latency counts from the scheduled "
        "start."
    )
    return _drawn(figure, "latency", "Latency by load", caption)


def _percentiles(axes: Axes, row: int, result: Result, names: Sequence[str]) -> None:
    colour = _COLOURS[maker(result)][0]
    medians = [result.figures[name].median for name in names]
    axes.plot(medians, [row] * len(names), color=colour, linewidth=1, alpha=0.5)
    for name, marker in zip(names, ("o", "|", "^"), strict=True):
        measure = result.figures[name]
        axes.plot(measure.median, row, marker=marker, color=colour, markersize=6, linestyle="")
        if measure.low is not None and measure.high is not None:
            axes.plot([measure.low, measure.high], [row, row], color="black", linewidth=0.8)


def _memory(closed: Sequence[Result]) -> Picture | None:
    """Draw memory by file size, and the limit of `stream` by its formula."""
    lines = list(_memory_lines(closed))
    if not lines:
        return None
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for results in lines:
        _memory_line(axes, results)
    sizes = sorted({it.cell.size for results in lines for it in results})
    clients = {it.cell.clients for results in lines for it in results}
    for number in sorted(clients):
        allowed = allowed_bytes(number) / MIB
        name = f"the formula of stream, {number} at once"
        axes.plot([sizes[0], sizes[-1]], [allowed, allowed], color="black", linestyle=":", linewidth=1, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(sizes, [size_name(size) for size in sizes])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("MiB above the idle process")
    axes.set_xlabel("file size")
    axes.grid(color=_GRID)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    caption = (
        f"With {_clients(max(clients))}: the most memory that a server's processes used, above their memory when "
        "idle. A rising line is a server that keeps the file; a level line is one that does "
        "not. The page cache of temporary files does not count."
    )
    return _drawn(figure, "memory", "Memory by file size", caption)


def _memory_lines(closed: Sequence[Result]) -> Iterator[list[Result]]:
    """Yield results by size per target, for the clients that sent the largest file."""
    by_line: dict[tuple[int, str], list[Result]] = {}
    for it in sorted(closed, key=lambda it: it.cell.size):
        if it.target["hook"] in {"", "bound"}:
            by_line.setdefault((it.cell.clients, it.cell.target), []).append(it)
    lines = {key: results for key, results in by_line.items() if len(results) > 1}
    reach = {clients: results[-1].cell.size for (clients, _), results in lines.items()}
    for (clients, _), results in lines.items():
        if clients == max(reach, key=lambda it: (reach[it], it)):
            yield results


_MARKERS = "osv^D<>Pp*Xhd8H"


def _memory_line(axes: Axes, results: Sequence[Result]) -> None:
    sizes = [it.cell.size for it in results]
    measures = [it.figures["peak"] for it in results]
    colour = _COLOURS[maker(results[0])][0]
    marker = _MARKERS[sum(map(ord, results[0].cell.target)) % len(_MARKERS)]
    floor = 0.25  # a logarithmic axis has no zero
    medians = [max(it.median, floor) for it in measures]
    axes.plot(sizes, medians, marker=marker, markersize=5, color=colour, linewidth=1.2, label=label(results[0]))
    for size, measure in zip(sizes, measures, strict=True):
        if measure.low is not None and measure.high is not None:
            axes.plot(
                [size, size],
                [max(measure.low, floor), max(measure.high, floor)],
                color=colour,
                linewidth=2.5,
                alpha=0.4,
            )


def _sync_and_async(closed: Sequence[Result]) -> Picture | None:
    """Draw Flask's and Quart's figures for the same hand-offs side by side."""
    chosen = [it for it in closed if it.target["is_ours"] and it.target["hook"] == "bound"]
    both = [case for case in _cases(chosen) if len({it.target["framework"] for it in _of(chosen, case)}) > 1]
    if not both:
        return None
    case = max(both, key=lambda it: len(_of(chosen, it)))
    rows = _of(chosen, case)
    names = ("rate", "cpu_per_request", "peak", "threads")
    figure = Figure(figsize=(8.4, 2 * (len(rows) * 0.25 + 0.8)), layout="constrained")
    grid = figure.subplots(2, 2, sharey=True)
    ways = sorted({(it.target["handoff"], it.target["framework"], it.target["server"]) for it in rows})
    for axes, name in zip(grid.flat, names, strict=True):
        for it in rows:
            way = (it.target["handoff"], it.target["framework"], it.target["server"])
            _dot(axes, ways.index(way), it.figures[name], _COLOURS[maker(it)][0])
        axes.set_title(f"{FIGURES[name].label}{f', {FIGURES[name].unit}' if FIGURES[name].unit else ''}", loc="left")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color=_GRID)
        axes.set_yticks(range(len(ways)), [f"{handoff}: {framework}, {server}" for handoff, framework, server in ways])
    caption = f"The same hand-offs in Flask (orange, threads) and in Quart (blue, one event loop), {_case_name(case)}."
    return _drawn(figure, "sync-async", "Sync against async", caption)


def _dot(axes: Axes, row: int, measure: Measure, colour: str) -> None:
    axes.plot(measure.median, row, marker="o", color=colour, markersize=6)
    if measure.low is not None and measure.high is not None:
        axes.plot([measure.low, measure.high], [row, row], color=colour, linewidth=2)
