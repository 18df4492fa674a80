"""Print the figures of a run of the plan `resumable`: `python -m benchmarks.resumable FOLDER`."""

import sys
from pathlib import Path

from benchmarks.results import Results, read
from benchmarks.runs import NoRun
from evidence import figures
from filehandoff.settings import MIB


def lines(results: Results) -> list[str]:
    """A line of figures for each measured target."""
    return [
        figures.line(
            "resumable",
            target=f"{it.target['label']}, {it.target['server']}",
            mib=it.cell.size // MIB,
            rounds=len(it.trials),
            seconds=round(it.cell.clients / it.figures["rate"].median, 1),
            cpu=round(it.figures["cpu_per_request"].median / 1000, 3),
            peak=round(it.figures["peak"].median),
            disk=round(it.figures["disk"].median * it.cell.size / MIB) if "disk" in it.figures else None,
            quiet=it.is_quiet,
        )
        for it in results.results
    ]


def main() -> None:
    """Print the lines of the run in a folder."""
    try:
        print("\n".join(lines(read(Path(sys.argv[1])))))
    except NoRun as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
