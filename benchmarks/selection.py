"""Select cells by command line options.

An unknown name raises an error that lists the known ones.
"""

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import backends
from benchmarks.plans import CLIENTS, LEVELS, PLANS, SCENARIOS, SIZES, Block, Cell, Plan, is_possible, merged
from benchmarks.targets import Target


@dataclass(frozen=True)
class Filters:
    """The values of the options as typed; each option may repeat."""

    cells: Sequence[str] = ()
    targets: Sequence[str] = ()
    peers: Sequence[str] = ()
    stores: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    sizes: Sequence[str] = ()
    clients: Sequence[int] = ()
    levels: Sequence[str] = ()


def plan_named(name: str | None) -> Plan | None:
    """Find a plan by name; None for None.

    Raises:
        ValueError: there is no such plan; a one-line message with the choices.
    """
    return None if name is None else PLANS[one_of(name, PLANS, "plan")]


def one_of(name: str, choices: Iterable[str], kind: str) -> str:
    """Return the name if it is one of the choices.

    Raises:
        ValueError: it is not; a one-line message with the choices.
    """
    names = list(choices)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    suggestion = f"; did you mean '{near[0]}'?" if near else "."
    raise ValueError(f"unknown {kind} '{name}'{suggestion} Known: {', '.join(names)}")


def select_cells(plan: Plan | None, targets: Mapping[str, Target], filters: Filters) -> list[Cell]:
    """Select the cells of a plan, or of all combinations, that pass the filters.

    Raises:
        ValueError: a filter names something unknown, or no cell is left; a one-line message.
    """
    names = _matching(filters.targets or [f"{peer.partition('=')[0]}@*" for peer in filters.peers], targets)
    for store in filters.stores:
        backends.check(store)
    for name in filters.scenarios:
        one_of(name, SCENARIOS, "scenario")
    sizes = [parse_size(text) for text in filters.sizes]
    if any(number < 1 for number in filters.clients):
        raise ValueError("the number of clients must be 1 or more")
    levels = tuple(one_of(name, LEVELS, "level") for name in filters.levels)
    if filters.cells:
        return merged(parse_cell(text, targets, levels) for text in filters.cells)
    if plan is None and not (names or filters.scenarios or sizes or filters.clients or filters.stores):
        plan = PLANS["default"]
    if plan is None:
        block = Block(
            names or [name for name, it in targets.items() if it.hook in {"", "bound"}],
            sizes or [SIZES["64KiB"], SIZES["16MiB"]],
            filters.clients or [8],
            filters.stores or ["null"],
            filters.scenarios or ["plain"],
            _with_ceiling(levels),
        )
        cells = [cell for cell in block.cells() if is_possible(cell, targets)]
    else:
        wanted = (names, filters.stores, filters.scenarios, sizes, filters.clients)
        cells = [cell for cell in plan.cells(targets) if _has(cell, wanted)]
    if not cells:
        raise ValueError("no cell is left: none passes all filters, or those that do are known to lose the file")
    return cells


def _has(cell: Cell, wanted: tuple[Sequence[object], ...]) -> bool:
    """Whether each property of a cell is among the wanted values.

    No wanted values admit all.
    """
    values = (cell.target, cell.store, cell.scenario, cell.size, cell.clients)
    return all(not some or value in some for value, some in zip(values, wanted, strict=True))


def _with_ceiling(levels: tuple[str, ...]) -> tuple[str, ...]:
    """Add the closed level, of whose rate the other levels are shares."""
    return tuple(name for name in LEVELS if name in {"closed", *levels})


def _matching(patterns: Sequence[str], targets: Mapping[str, Target]) -> list[str]:
    names: dict[str, None] = {}
    for pattern in patterns:
        matched = fnmatch.filter(targets, pattern) or [one_of(pattern, targets, "target")]
        names.update(dict.fromkeys(matched))
    return list(names)


def parse_size(text: str) -> int:
    """Parse a size such as `64KiB` into bytes.

    Raises:
        ValueError: the text is not a size.
    """
    units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "B": 1}
    number, unit = next(((text.removesuffix(unit), unit) for unit in units if text.endswith(unit)), (text, "B"))
    if not (number.isascii() and number.isdecimal()) or not int(number):
        raise ValueError(f"'{text}' is not a size; write it like {', '.join(SIZES)}")
    return int(number) * units[unit]


def parse_cell(text: str, targets: Mapping[str, Target], levels: tuple[str, ...] = ()) -> Cell:
    """Parse a cell from its id.

    Raises:
        ValueError: there is no such cell, or it cannot be measured.
    """
    try:
        target, store, scenario, size, clients = text.split(" ")
        number = int(clients.removeprefix("x"))
    except ValueError:
        example = Cell("quart/stream@uvicorn", "null", "plain", SIZES["64KiB"], CLIENTS[1]).id
        raise ValueError(f"unknown cell '{text}'; write it like '{example}'; `list cells` lists more") from None
    backends.check(store)
    one_of(target, targets, "target")
    one_of(scenario, SCENARIOS, "scenario")
    cell = Cell(target, store, scenario, parse_size(size), number, _with_ceiling(levels))
    if number < 1 or not is_possible(cell, targets):
        raise ValueError(f"cannot measure '{text}': it is known to lose the file, or its parts do not fit together")
    return cell
