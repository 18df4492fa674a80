"""Write runs with invented measurements, so that the report's figures are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plans import Cell
from benchmarks.runs import Run, RunFolder, described
from benchmarks.selection import parse_cell
from benchmarks.targets import TARGETS
from filehandoff.settings import GIB

KIND = "null plain 64KiB x8"


@dataclass(frozen=True)
class Seen:
    """The measurements of one round: milliseconds per upload, CPU seconds per GiB, and so on."""

    milliseconds: float
    cpu_per_gib: float = 10
    peak_bytes: int = 50 * 2**20
    disk_per_byte: float = 0
    load_cpu_share: float = 0.1
    errors: int = 0
    others_share: float = 0


REQUESTS, CORES = 200, 2


def level(cell: Cell, seen: Seen) -> dict[str, Any]:
    """Make the record of a level from these measurements."""
    seconds = seen.milliseconds / 1000 * REQUESTS / cell.clients
    sent = REQUESTS * cell.size
    cpu, load = seen.cpu_per_gib * sent / GIB, seen.load_cpu_share * seconds
    return {
        "requests": REQUESTS,
        "errors": seen.errors,
        "seconds": seconds,
        "rate": REQUESTS / seconds,
        "offered_rate": None,
        "bytes_per_second": sent / seconds,
        "cpu_seconds": cpu,
        "store_cpu_seconds": 0.0,
        "load_cpu_seconds": load,
        "machine_cpu_seconds": cpu + load + seen.others_share * CORES * seconds,
        "machine_seconds": seconds,
        "peak_bytes": seen.peak_bytes,
        "disk_bytes": seen.disk_per_byte * sent,
        "threads": 5,
        "loop_lag_median": None,
        "loop_lag_p99": None,
        "loop_lag_most": None,
        "first_error": None,
    }


def lines(cell: Cell, seen: Seen) -> list[dict[str, Any]]:
    """Make a record per request; one in a hundred takes ten times as long."""
    made = []
    for number in range(REQUESTS):
        latency = int(seen.milliseconds * 1000 * (10 if number % 100 == 0 else 1))
        line = {"level": "closed", "group": "measured", "name": f"closed-{number:07d}.bin", "size": cell.size}
        times = {"intended_us": 0, "began_us": 0, "ended_us": latency}
        made.append(line | times | {"status": 201, "error": None})
    return made


def invent(folder: Path, cells: Mapping[str, Sequence[Seen]], *, sink_rate: float = 1e6, **environment: Any) -> Path:
    """Write a run from each round's measurements, by target or cell id."""
    known = {parse_cell(name if " " in name else f"{name} {KIND}", TARGETS): rounds for name, rounds in cells.items()}
    kinds = {(cell.size, cell.clients, TARGETS[cell.target].as_form) for cell in known}
    run = Run(
        plan="invented",
        rounds=max(len(rounds) for rounds in known.values()),
        seconds=1,
        seed=1,
        own_peers=[],
        cells=[vars(cell) for cell in known],
        targets={cell.target: described(TARGETS[cell.target]) for cell in known},
        environment={
            "processor": "invented",
            "cores": CORES,
            "memory_bytes": GIB,
            "kernel": "Linux",
            "machine": "x86_64",
            "python": "CPython 3.13",
            "packages": {"boto3": "1"},
            "settings": {},
            "commit": "0" * 40,
            "uncommitted_changes": False,
            "temporary_files_on": "ext4",
            "load_average_before": 0.0,
        }
        | environment,
        began="2026-11-23T00:00:00+00:00",
        sink=[
            {
                "size": size,
                "clients": n,
                "as_form": form,
                "rate": sink_rate,
                "cpu_seconds_per_request": 1e-5,
                "cpu_share": 0.5,
            }
            for size, n, form in sorted(kinds)
        ],
        complete=True,
    )
    made = RunFolder.create(folder, run)
    for number in range(run.rounds):
        for cell, rounds in known.items():
            trial = {"cell": cell.id, "round": number, "status": "measured", "reason": None, "seconds": 1.0}
            made.add(trial | {"levels": {"closed": level(cell, rounds[number])}}, lines(cell, rounds[number]))
    made.save()
    return folder


def around(milliseconds: float, spread: float = 0.02, **values: Any) -> list[Seen]:
    """Make five rounds, spread evenly around the median by at most this share."""
    return [Seen(milliseconds * (1 + spread * step), **values) for step in (-1, 0.5, 0, -0.5, 1)]
