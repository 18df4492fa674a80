"""Render the matrix as Markdown."""

from collections.abc import Iterable

from matrix.cells import CAUSES, MAIN, OTHER_CAUSES, Row

TITLES = {
    "copied_context": "A: a copied request context",
    "transfer_closes": "B: the transfer manager closes",
    "after_response": "C: the response is sent first",
    "background_task": "a background task reads",
    "streamed_response": "a streamed response reads",
}

_INTRODUCTION = (
    "`make matrix` makes this page. It runs [`matrix/reproduction.py`](../matrix/reproduction.py) in a throw-away "
    "environment for each row; the data with every error's text and every package's version is in "
    "[`matrix.json`](matrix.json). Flask runs with boto3, Quart with aioboto3, each on a file that the form "
    "parser keeps in memory and one that it writes to disk. The [README](../README.md#who-closed-the-file) explains "
    "the causes."
)


_OTHERS = (
    "[`matrix/others.py`](../matrix/others.py) runs these, with boto3. They copy no context of a request, so they lack "
    "cause A. In Starlette, the view takes the file from `async with request.form()`, as Starlette's documentation "
    "does; with `await request.form()` nothing closes the file. In FastAPI, the view has an `UploadFile`; in Django, "
    "it uses `request.FILES`, by WSGI."
)


def markdown(rows: list[Row]) -> str:
    """Render the whole page."""
    first = [row for row in rows if row.cell.causes == CAUSES]
    others = [row for row in rows if row.cell.causes == OTHER_CAUSES]
    parts = [
        "# Versions that close the file, and the fixes that help",
        _INTRODUCTION,
        "## Causes by version",
        _occurs(first, CAUSES),
        "## Errors by cause",
        *(_errors(first, cause) for cause in CAUSES),
        "## Fixes by version",
        _FIXES,
        _numbered(_changes(first)),
        *(_helps(first, cause) for cause in CAUSES),
        "## Starlette, FastAPI and Django",
        _OTHERS,
        _occurs(others, OTHER_CAUSES),
        _helped(others),
    ]
    return "\n\n".join(parts) + "\n"


_FIXES = "*yes*: the last user got the whole file, from memory and from disk; *no*: it did not. The fixes are:"


def _numbered(changes: list[str]) -> str:
    return "\n".join(f"{number}. {change}" for number, change in enumerate(changes, 1))


def _helped(rows: list[Row]) -> str:
    """Say whether each fix helps in each row whose cause occurs; the rows differ in no fix so far."""
    failed = [
        f"{row.cell}, {TITLES[cause]}: {change}"
        for row in rows
        for cause in row.cell.causes
        if row.occurs(cause) == "occurs"
        for change in _changes(rows)
        if not row.helps(cause, change)
    ]
    return (
        "These help wherever a cause occurs:\n\n"
        + _numbered(_changes(rows))
        + ("\n\nExcept:\n\n" + "\n".join(f"- {one}" for one in failed) if failed else "")
    )


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def _name(row: Row) -> list[str]:
    installed = f" ({row.ran['versions'][row.cell.framework]})" if row.ran and row.cell.version in {None, MAIN} else ""
    return [f"{row.cell.version_name}{installed}", row.ran["python"] if row.ran else row.cell.python]


def _occurs(rows: list[Row], causes: tuple[str, ...]) -> str:
    lines = [
        [*_name(row), *(row.occurs(cause) for cause in causes), (row.reason or "").replace("|", "/")] for row in rows
    ]
    return _table(["version", "Python", *(TITLES[cause] for cause in causes), "reason if not run"], lines)


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
    return [change for change in ran["outcomes"]["transfer_closes"] if change != "none"]


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
