"""The cells as data, each a framework's version and an interpreter, and their results."""

from dataclasses import dataclass
from typing import Any, Self

CAUSES = ("copied_context", "transfer_closes", "after_response")
RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Cell:
    """A framework's version on an interpreter; `version` None means the newest."""

    framework: str
    version: str | None
    python: str
    #: Other packages that must be old enough for this version.
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.version_name} on Python {self.python}"

    @property
    def version_name(self) -> str:
        """A name such as `flask 3.1.3` or `quart newest`."""
        return f"{self.framework} {self.version or 'newest'}"

    @property
    def requirements(self) -> list[str]:
        """The packages to install."""
        pinned = f"{self.framework}=={self.version}" if self.version else self.framework
        return [pinned, *self.also, "boto3" if self.framework == "flask" else "aioboto3"]


@dataclass(frozen=True, slots=True)
class Row:
    """The result of a cell: the reproduction's output, or a reason for its absence."""

    cell: Cell
    ran: dict[str, Any] | None = None
    reason: str | None = None

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> Self:
        """Make a row from the members that `dataclasses.asdict` gave."""
        cell = members["cell"]
        return cls(Cell(**{**cell, "also": tuple(cell["also"])}), members["ran"], members["reason"])

    @property
    def summary(self) -> str:
        """The verdict on each cause, in two words."""
        return ", ".join(f"{cause}: {self.occurs(cause)}" for cause in CAUSES)

    def outcome(self, cause: str, change: str) -> dict[str, str]:
        """The outcome by size."""
        assert self.ran is not None
        found: dict[str, str] = self.ran["outcomes"][cause][change]
        return found

    def occurs(self, cause: str) -> str:
        """`occurs`, `does not occur`, `not run`, or `fails otherwise` for an unrelated error."""
        if self.ran is None:
            return "not run"
        texts = [text for text in self.outcome(cause, "none").values() if text != RIGHT]
        if not texts:
            return "does not occur"
        return "occurs" if all("closed file" in text for text in texts) else "fails otherwise"

    def helps(self, cause: str, change: str) -> bool:
        """Whether the whole file arrived with this change, from memory and from disk."""
        return set(self.outcome(cause, change).values()) == {RIGHT}


def _cells(framework: str, version: str | None, pythons: str, *also: str) -> list[Cell]:
    return [Cell(framework, version, python, also) for python in pythons.split()]


#: Each version on the oldest and the newest interpreter that it and its dependencies support.
CELLS: list[Cell] = [
    *_cells("flask", "1.1.4", "3.8 3.9", "markupsafe<2.1"),
    *_cells("flask", "2.0.3", "3.8 3.11", "werkzeug<2.1"),
    *_cells("flask", "2.1.3", "3.8 3.11", "werkzeug<2.2"),
    *_cells("flask", "2.2.5", "3.8 3.13", "werkzeug<2.3"),
    *_cells("flask", "2.3.3", "3.8 3.13", "werkzeug<2.4"),
    *_cells("flask", "3.0.3", "3.8 3.13 3.14", "werkzeug<3.1"),
    *_cells("flask", "3.1.3", "3.9 3.13 3.14"),
    *_cells("flask", None, "3.13 3.14"),
    *_cells("quart", "0.18.4", "3.8 3.11", "werkzeug<2.4", "flask<3"),
    *_cells("quart", "0.19.4", "3.8 3.12", "werkzeug<3.1", "flask<3.1"),
    *_cells("quart", "0.19.5", "3.8 3.13", "werkzeug<3.1", "flask<3.1"),
    *_cells("quart", "0.20.0", "3.9 3.13 3.14"),
    *_cells("quart", "0.22.0", "3.13 3.14"),
    *_cells("quart", "0.23.1", "3.13 3.14"),
    *_cells("quart", None, "3.13 3.14"),
]
