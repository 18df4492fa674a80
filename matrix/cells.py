"""The cells as data, each a framework's version and an interpreter, and their results."""

import os
from dataclasses import dataclass
from typing import Any, Self

CAUSES = ("copied_context", "transfer_closes", "after_response")
#: The causes in frameworks that copy no context of a request.
OTHER_CAUSES = ("transfer_closes", "background_task", "streamed_response", "after_response")
RIGHT = "right"
#: The outcome of a cause in a framework that lacks it.
LACKS = "there is none"
#: The version of a framework's main branch, and the environment variable that names a checkout of it.
MAIN, MAIN_SOURCE = "main", "FLASK_SOURCE"
#: A framework's packages beside itself.
_BESIDE = {
    "flask": ("boto3",),
    "quart": ("aioboto3",),
    "starlette": ("python-multipart", "boto3"),
    "fastapi": ("python-multipart", "boto3"),
    "django": ("boto3",),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A framework's version on an interpreter; `version` None means the newest release."""

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
    def is_at_hand(self) -> bool:
        """Whether this version can be installed: that of a main branch needs a checkout."""
        return self.version != MAIN or MAIN_SOURCE in os.environ

    @property
    def requirements(self) -> list[str]:
        """The packages to install."""
        if self.version == MAIN:
            return [os.environ[MAIN_SOURCE], *self.also, *_BESIDE[self.framework]]
        pinned = f"{self.framework}=={self.version}" if self.version else self.framework
        return [pinned, *self.also, *_BESIDE[self.framework]]

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes that run on this framework."""
        return CAUSES if self.framework in {"flask", "quart"} else OTHER_CAUSES


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
        return ", ".join(f"{cause}: {self.occurs(cause)}" for cause in self.cell.causes)

    def outcome(self, cause: str, change: str) -> dict[str, str]:
        """The outcome by size."""
        assert self.ran is not None
        found: dict[str, str] = self.ran["outcomes"][cause][change]
        return found

    def occurs(self, cause: str) -> str:
        """`occurs`, `does not occur`, `not run`, `there is none`, or `fails otherwise` for an unrelated error."""
        if self.ran is None:
            return "not run"
        if LACKS in self.outcome(cause, "none").values():
            return LACKS
        texts = [text for text in self.outcome(cause, "none").values() if text != RIGHT]
        if not texts:
            return "does not occur"
        return "occurs" if all("closed file" in text for text in texts) else "fails otherwise"

    def helps(self, cause: str, change: str) -> bool:
        """Whether the whole file arrived with this change, from memory and from disk."""
        return set(self.outcome(cause, change).values()) == {RIGHT}


def _cells(framework: str, version: str | None, pythons: str, *also: str) -> list[Cell]:
    return [Cell(framework, version, python, also) for python in pythons.split()]


#: The interpreters that this package supports; pip takes a framework's newest release for each.
SUPPORTED = "3.11 3.12 3.13 3.14"

#: Each version on the oldest and the newest interpreter that it and its dependencies support.
CELLS: list[Cell] = [
    *_cells("flask", "1.1.4", "3.8 3.9", "markupsafe<2.1"),
    *_cells("flask", "2.0.3", "3.8 3.11", "werkzeug<2.1"),
    *_cells("flask", "2.1.3", "3.8 3.11", "werkzeug<2.2"),
    *_cells("flask", "2.2.5", "3.8 3.13", "werkzeug<2.3"),
    *_cells("flask", "2.3.3", "3.8 3.13", "werkzeug<2.4"),
    *_cells("flask", "3.0.3", "3.8 3.13 3.14", "werkzeug<3.1"),
    *_cells("flask", "3.1.3", "3.9 3.13 3.14"),
    *_cells("flask", None, SUPPORTED),
    *_cells("flask", MAIN, "3.11 3.13"),
    *_cells("quart", "0.18.4", "3.8 3.11", "werkzeug<2.4", "flask<3"),
    *_cells("quart", "0.19.4", "3.8 3.12", "werkzeug<3.1", "flask<3.1"),
    *_cells("quart", "0.19.5", "3.8 3.13", "werkzeug<3.1", "flask<3.1"),
    *_cells("quart", "0.20.0", "3.9 3.13 3.14"),
    *_cells("quart", "0.22.0", "3.12 3.13 3.14"),
    *_cells("quart", "0.23.1", "3.13 3.14"),
    *_cells("quart", None, SUPPORTED),
    *_cells("starlette", "0.27.0", "3.8 3.13"),
    *_cells("starlette", None, SUPPORTED),
    *_cells("fastapi", "0.105.0", "3.8 3.13"),
    *_cells("fastapi", "0.106.0", "3.8 3.13"),
    *_cells("fastapi", "0.117.1", "3.8 3.13"),
    *_cells("fastapi", "0.118.0", "3.8 3.13"),
    *_cells("fastapi", None, SUPPORTED),
    *_cells("django", "4.2.16", "3.8 3.12"),
    *_cells("django", "5.2", "3.10 3.13"),
    *_cells("django", None, SUPPORTED),
]
