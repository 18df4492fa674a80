"""Render the matrix as Markdown."""

from collections.abc import Iterable

from matrix.cells import CAUSES, Row

TITLES = {
    "copied_context": "A: a copied request context",
    "transfer_closes": "B: the transfer manager closes",
    "after_response": "C: the response is sent first",
}

_INTRODUCTION = (
    "`make matrix` makes this page. It runs [`matrix/reproduction.py`](../matrix/reproduction.py) in a throw-away "
    "environment for each row; the data with every error's text and every package's version is in "
    "[`matrix.json`](matrix.json). Flask runs with boto3, Quart with aioboto3, each on a file that the form "
    "parser keeps in memory and one that it writes to disk. The [README](../README.md#who-closed-the-file) explains "
    "the causes."
)


def markdown(rows: list[Row]) -> str:
    """Render the whole page."""
    parts = [
        "# Versions that close the file, and the fixes that help",
        _INTRODUCTION,
        "## Causes by version",
        _occurs(rows),
        "## Errors by cause",
        *(_errors(rows, cause) for cause in CAUSES),
        "## Fixes by version",
        "*yes*: the last user got the whole file, from memory and from disk; *no*: it did not. The fixes are:",
        "\n".join(f"{number}. {change}" for number, change in enumerate(_changes(rows), 1)),
        *(_helps(rows, cause) for cause in CAUSES),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def _name(row: Row) -> list[str]:
    installed = f" ({row.ran['versions'][row.cell.framework]})" if row.ran and row.cell.version is None else ""
    return [f"{row.cell.version_name}{installed}", row.ran["python"] if row.ran else row.cell.python]


def _occurs(rows: list[Row]) -> str:
    lines = [
        [*_name(row), *(row.occurs(cause) for cause in CAUSES), (row.reason or "").replace("|", "/")] for row in rows
    ]
    return _table(["version", "Python", *(TITLES[cause] for cause in CAUSES), "reason if not run"], lines)


def _errors(rows: list[Row], cause: str) -> str:
    seen: dict[str, set[str]] = {}
    for row in rows:
        if row.ran:
            for size, text in row.outcome(cause, "none").items():
                if text != "right":
                    seen.setdefault(f"{text} ({'on ' if size == 'disk' else 'in '}{size})", set()).add(
                        row.cell.framework
                    )
    lines = [
        [f"`{text.rpartition(' (')[0]}`", text.rpartition(" (")[2][:-1], ", ".join(sorted(frameworks))]
        for text, frameworks in sorted(seen.items())
    ]
    return f"### {TITLES[cause]}: errors\n\n" + _table(["error", "the file is", "in"], lines)


def _changes(rows: list[Row]) -> list[str]:
    ran = next(row.ran for row in rows if row.ran)
    return [change for change in ran["outcomes"][CAUSES[0]] if change != "none"]


def _helps(rows: list[Row], cause: str) -> str:
    changes = _changes(rows)
    lines = []
    for row in rows:
        occurs = row.occurs(cause)
        if occurs in {"not run", "does not occur"}:
            cells = [occurs, *[""] * (len(changes) - 1)]
        else:
            cells = ["yes" if row.helps(cause, change) else "no" for change in changes]
        lines.append([*_name(row), *cells])
    head = ["version", "Python", *(str(number) for number in range(1, len(changes) + 1))]
    return f"### {TITLES[cause]}: fixes\n\n" + _table(head, lines)
