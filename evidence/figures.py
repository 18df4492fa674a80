"""Figures that a program prints as a line of its log, and that the documentation's tables are made of."""

import json
import re
from typing import Any

#: A line of figures. A log may have several measurements, each with a name.
_LINE = re.compile(r"^figures ([\w-]+) (\{.*\})$", re.MULTILINE)
#: A colour or another control sequence of a terminal.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def line(name: str, **figures: Any) -> str:
    """Return the line that `of` reads."""
    return f"figures {name} {json.dumps(figures)}"


def of(log: str, name: str) -> list[dict[str, Any]]:
    """Return the figures of this name, in the order of the log."""
    return [json.loads(found[2]) for found in _LINE.finditer(log) if found[1] == name]


def plain(log: str) -> str:
    """Return a log without control sequences; of a line that was overwritten, its last text."""
    return "\n".join(text.rstrip("\r").rpartition("\r")[2] for text in _CONTROL.sub("", log).split("\n"))
