"""Cells and plans.

A cell is one thing to measure: a target, a store, a scenario, a file size and a number of clients. A plan is a list
of cells with the number of rounds and the duration.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.targets import TARGETS, Target
from filehandoff.settings import GIB, KIB, MIB
from filehandoff.strategies import DEFAULT_HOOK, HOOKS

SIZES = {"4KiB": 4 * KIB, "64KiB": 64 * KIB, "1MiB": MIB, "16MiB": 16 * MIB, "256MiB": 256 * MIB, "1GiB": GIB}
CLIENTS = (1, 8, 32)
#: The null store and those of `demo.stores`; a URL is a store as well.
STORES = ("null", "rclone", "moto", "swift")
#: Stores that keep objects in memory; rclone gets a memory disk.
KEEPING = ("rclone", "moto", "swift")

#: Share of the ceiling that each level offers; `closed` is the closed loop that finds the ceiling.
LEVELS: Mapping[str, float | None] = {"closed": None, "open50": 0.5, "open80": 0.8}

#: Rate of both hops in the scenario `both-hops`.
HOP_BYTES_PER_SECOND = 40_000_000
SLOW_STORE_BYTES_PER_SECOND = 20_000_000
SLOW_STORE_LATENCY_MS = 30
#: Number, file size and rate of the slow clients beside the measured ones.
SLOW_CLIENTS = 64
SLOW_CLIENT_BYTES = 64 * KIB
SLOW_CLIENT_BYTES_PER_SECOND = 32 * KIB
STALL_SECONDS = 3.0
FAR_STORE_LATENCY_MS = 20


@dataclass(frozen=True)
class Scenario:
    """The circumstances of a measurement.

    Args:
        name: its name in cell ids and options.
        sentence: its description.
        store_bytes_per_second: total rate at which the store reads bodies; None for no limit.
        store_latency_ms: delay of each of the store's answers.
        client_bytes_per_second: rate at which each client sends; None for no limit.
        slow_clients: number of slow clients beside the measured ones.
        stall_seconds: time during which the store stops in the middle of the load.
        tls: whether the store speaks TLS.
        workers: number of the server's processes.
        only: the stores that support it; empty for all.
        environ: the app's settings for it.
        seconds: shortest duration of a load.
    """

    name: str
    sentence: str
    store_bytes_per_second: int | None = None
    store_latency_ms: float = 0
    client_bytes_per_second: int | None = None
    slow_clients: int = 0
    stall_seconds: float = 0
    tls: bool = False
    workers: int = 1
    only: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "clients and store without limits"),
        Scenario("tls", "a store that is reached over TLS", tls=True, only=("null",)),
        Scenario("two-workers", "two processes of the server", workers=2),
        Scenario(
            "far-store",
            f"a store {FAR_STORE_LATENCY_MS} ms away: each answer comes so much later",
            store_latency_ms=FAR_STORE_LATENCY_MS,
            only=("null",),
        ),
        Scenario(
            "slow-clients",
            f"{SLOW_CLIENTS} more clients that send {SLOW_CLIENT_BYTES_PER_SECOND // KIB} KiB/s each",
            slow_clients=SLOW_CLIENTS,
            environ={"UPLOAD_MAX_CONCURRENT": "128"},
            seconds=3,
        ),
        Scenario(
            "slow-store",
            f"a store that reads {SLOW_STORE_BYTES_PER_SECOND // 10**6} MB/s, answers {SLOW_STORE_LATENCY_MS} ms late",
            store_bytes_per_second=SLOW_STORE_BYTES_PER_SECOND,
            store_latency_ms=SLOW_STORE_LATENCY_MS,
            only=("null",),
        ),
        Scenario(
            "both-hops",
            f"each client sends {HOP_BYTES_PER_SECOND // 10**6} MB/s, and the store reads as fast",
            store_bytes_per_second=HOP_BYTES_PER_SECOND,
            client_bytes_per_second=HOP_BYTES_PER_SECOND,
            only=("null",),
        ),
        Scenario(
            "stalled-store",
            f"a store that stops for {STALL_SECONDS:g} s in the middle",
            stall_seconds=STALL_SECONDS,
            only=STORES,
            seconds=2,
        ),
    )
}


@dataclass(frozen=True)
class Cell:
    """One thing to measure; `size` in bytes, `levels` from `LEVELS`."""

    target: str
    store: str
    scenario: str
    size: int
    clients: int
    levels: tuple[str, ...] = ("closed",)

    @property
    def id(self) -> str:
        """Its name, the same in every run."""
        return f"{self.target} {self.store} {self.scenario} {size_name(self.size)} x{self.clients}"


def size_name(size: int) -> str:
    """Format a size, such as `64KiB`."""
    unit, name = next((it for it in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size % it[0] == 0), (1, "B"))
    return f"{size // unit}{name}"


@dataclass(frozen=True)
class Block:
    """All combinations of some targets, sizes, clients, stores and scenarios."""

    targets: Sequence[str]
    sizes: Sequence[int]
    clients: Sequence[int]
    stores: Sequence[str] = ("null",)
    scenarios: Sequence[str] = ("plain",)
    levels: tuple[str, ...] = ("closed",)

    def cells(self) -> Iterator[Cell]:
        """Yield its cells; their order does not matter."""
        product = itertools.product(self.targets, self.stores, self.scenarios, self.sizes, self.clients)
        for target, store, scenario, size, clients in product:
            yield Cell(target, store, scenario, size, clients, self.levels)


@dataclass(frozen=True)
class Plan:
    """Blocks of cells, with the number and duration of their measurements.

    Args:
        name: its name in options.
        sentence: its purpose.
        blocks: the cells to measure.
        rounds: measurements of each cell, each in a new process.
        seconds: shortest duration of a load.
    """

    name: str
    sentence: str
    blocks: Sequence[Block]
    rounds: int
    seconds: float

    def cells(self, targets: Mapping[str, Target]) -> list[Cell]:
        """The plan's possible cells, each once, with the levels of all blocks."""
        return merged(cell for block in self.blocks for cell in block.cells() if is_possible(cell, targets))


#: Estimates: seconds to start, check and stop a cell, and the bytes per second of an upload.
_OVERHEAD_SECONDS, _GUESSED_BYTES_PER_SECOND = 2.5, 200 * MIB


def guessed_seconds(cell: Cell, seconds: float) -> float:
    """Estimate the seconds of a cell's trial if each level lasts at least `seconds`."""
    scenario = SCENARIOS[cell.scenario]
    rate = scenario.store_bytes_per_second or _GUESSED_BYTES_PER_SECOND
    once = max(seconds, scenario.seconds + scenario.stall_seconds, cell.size * cell.clients / rate)
    return _OVERHEAD_SECONDS + once * len(cell.levels)


def is_possible(cell: Cell, targets: Mapping[str, Target]) -> bool:
    """Whether the target stores files of this size, and store and server fit target and scenario."""
    target, scenario = targets[cell.target], SCENARIOS[cell.scenario]
    fits = cell.store in scenario.only if scenario.only else True
    has_workers = scenario.workers == 1 or target.server.has_workers
    return target.works_with(cell.size) and fits and has_workers and target.works_on(cell.store)


def merged(cells: Iterable[Cell]) -> list[Cell]:
    """Merge equal cells into one with all their levels."""
    levels: dict[Cell, dict[str, None]] = {}
    for cell in cells:
        key = Cell(cell.target, cell.store, cell.scenario, cell.size, cell.clients, ())
        levels.setdefault(key, {}).update(dict.fromkeys(cell.levels))
    return [
        Cell(it.target, it.store, it.scenario, it.size, it.clients, tuple(name for name in LEVELS if name in wanted))
        for it, wanted in levels.items()
    ]


_STREAMS = ["flask/stream@gunicorn", "quart/stream@hypercorn-uvloop", "quart/stream@uvicorn"]
_HOME_STREAMS = ["flask/stream@gunicorn", "quart/stream@uvicorn"]
_PEERS = [name for name, target in TARGETS.items() if not target.is_ours]
_ASKED = ["fastapi@uvicorn", "flask-plain@gunicorn-gthread", "relay@uvicorn"]
_HASHING = ["relay-sha256@uvicorn"]
_COMPARED = [*_STREAMS, *_ASKED[:2]]
#: Each app on one server: Flask on its own, Quart on the one that most peers use.
_HANDOFFS = [
    name
    for name, it in TARGETS.items()
    if it.is_ours and it.server.name in {"gunicorn", "uvicorn"} and it.hook == DEFAULT_HOOK
]
_PRESIGNED = ["flask/presigned@gunicorn", "quart/presigned@uvicorn"]
_IN_MEMORY = [name for name in _HANDOFFS if name.partition("@")[0].endswith(("/file", "/read_early"))]
_WITH_REQUEST = ["flask/stream+snapshot@gunicorn", "quart/stream+snapshot@uvicorn"]
_BY_TUS = ["flask/tus@gunicorn", "quart/tus@uvicorn", "tusd-way@node"]
_GRID = [name for name, it in TARGETS.items() if it.hook in HOOKS and it.server.name in {"gunicorn", "hypercorn"}]
_OTHER_SERVERS = [
    "quart/stream@hypercorn",
    "quart/stream@granian",
    "flask/stream@granian-wsgi",
    "flask/stream@waitress",
]
_ALL_LEVELS = tuple(LEVELS)

PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            "smoke",
            "a check that everything works; its figures mean nothing",
            [
                Block(
                    ["flask/stream@gunicorn", "quart/stream@hypercorn", "fastapi@uvicorn", "relay@uvicorn"],
                    [64 * KIB, 9 * MIB],
                    [2],
                )
            ],
            rounds=1,
            seconds=0.2,
        ),
        Plan(
            "goals",
            "the cells that the table of goals compares",
            [
                Block(_COMPARED, [64 * KIB], [8]),
                Block([*_STREAMS[1:], *_ASKED[:1]], [64 * KIB], [1], scenarios=["far-store"]),
                Block([*_STREAMS[1:], *_ASKED[:1], *_HASHING], [GIB], [1]),
                Block([_STREAMS[2], *_ASKED[:1]], [GIB], [1], scenarios=["tls"]),
            ],
            rounds=3,
            seconds=3,
        ),
        Plan(
            "default",
            "the streams, the hand-offs and the peers at the most instructive sizes",
            [
                Block([*_HOME_STREAMS, *_ASKED], [64 * KIB], [8], levels=_ALL_LEVELS),
                Block([*_IN_MEMORY, *_WITH_REQUEST, *_PEERS], [64 * KIB], [8]),
                Block([*_HANDOFFS, *_WITH_REQUEST, *_ASKED], [16 * MIB], [8]),
                Block([*_STREAMS, *_ASKED], [GIB], [1]),
                Block(_HOME_STREAMS, [64 * MIB], [1], scenarios=["both-hops"]),
            ],
            rounds=5,
            seconds=0.6,
        ),
        Plan(
            "resumable",
            "resumable uploads by tus against one form, and against a tus server with parts on disk",
            [Block([*_BY_TUS, *_HOME_STREAMS], [GIB], [1], stores=KEEPING[:1])],
            rounds=3,
            seconds=0.1,
        ),
        Plan(
            "published",
            "the run behind docs/benchmark.md: most sizes, loads and scenarios, for the usual hand-offs",
            [
                Block([*_HOME_STREAMS, *_ASKED], [64 * KIB], [8], levels=_ALL_LEVELS),
                Block([*_HOME_STREAMS, *_ASKED], [4 * KIB, MIB], [8]),
                Block([*_HOME_STREAMS, *_ASKED], [64 * KIB], [1, 32]),
                Block([*_STREAMS, *_OTHER_SERVERS, *_HANDOFFS, *_WITH_REQUEST, *_PEERS], [64 * KIB], [8]),
                Block([*_HANDOFFS, *_WITH_REQUEST, *_ASKED], [16 * MIB], [8]),
                Block([*_STREAMS, *_ASKED, *_HASHING], [256 * MIB, GIB], [1]),
                Block([*_COMPARED, *_ASKED[2:]], [64 * KIB], [8], scenarios=["tls", "two-workers"]),
                Block(_COMPARED, [64 * KIB], [1], scenarios=["far-store"]),
                Block([*_COMPARED, *_ASKED[2:]], [GIB], [1], scenarios=["tls"]),
                Block(_HOME_STREAMS, [256 * MIB], [8]),
                Block([*_HOME_STREAMS, *_PRESIGNED, *_ASKED[:2]], [64 * KIB, 16 * MIB], [8], stores=KEEPING[:1]),
                Block([*_HOME_STREAMS, *_ASKED[:2]], [64 * KIB], [8], scenarios=["slow-clients", "slow-store"]),
                Block(_HOME_STREAMS, [64 * KIB], [8], scenarios=["stalled-store"]),
                Block(_HOME_STREAMS, [256 * MIB], [1], scenarios=["both-hops"]),
            ],
            rounds=5,
            seconds=0.6,
        ),
        Plan(
            "full",
            "every size, number of clients, hand-off, server, store and scenario",
            [
                Block(
                    [*_STREAMS, *_OTHER_SERVERS, *_PEERS],
                    [4 * KIB, 64 * KIB, MIB, 16 * MIB],
                    CLIENTS,
                    levels=_ALL_LEVELS,
                ),
                Block([*_STREAMS, *_HANDOFFS, *_PEERS], [256 * MIB, GIB], [1, 8]),
                Block(_HOME_STREAMS, [4 * GIB], [8]),
                Block([*_HANDOFFS, *_WITH_REQUEST], [4 * KIB, 64 * KIB, MIB, 16 * MIB], [1, 8]),
                Block(_GRID, [64 * KIB, 16 * MIB], [8]),
                Block(
                    [
                        *_STREAMS,
                        *_PRESIGNED,
                        "fastapi@uvicorn",
                        "flask-plain@gunicorn-gthread",
                        "quart-plain@hypercorn",
                    ],
                    [64 * KIB, 16 * MIB],
                    [8],
                    stores=KEEPING,
                ),
                Block(
                    [*_STREAMS, "fastapi@uvicorn", "flask-plain@gunicorn-gthread", "quart-plain@hypercorn"],
                    [64 * KIB, 16 * MIB],
                    [8],
                    scenarios=["slow-clients", "slow-store", "stalled-store", "tls", "two-workers"],
                ),
                Block([*_STREAMS, *_PEERS], [64 * KIB], [1], scenarios=["far-store"]),
                Block([*_STREAMS, *_PEERS], [GIB], [1], scenarios=["tls"]),
                Block([*_STREAMS, *_ASKED[:2]], [GIB], [1], scenarios=["both-hops"]),
            ],
            rounds=5,
            seconds=2,
        ),
    )
}
