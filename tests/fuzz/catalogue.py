"""The targets: each file in `targets/` is one, by its name."""

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py")))


class Target(Protocol):
    """A module that checks properties of a part of the core.

    Attributes:
        WORDS: byte strings that the fuzzer inserts.
    """

    WORDS: tuple[bytes, ...]

    def check(self, data: bytes) -> None:
        """Check an input; raise AssertionError if a property fails."""


def load(name: str) -> Target:
    """Import a target."""
    return cast("Target", import_module(f"fuzz.targets.{name}"))


def seeds(name: str) -> Path:
    """Return the folder of a target's inputs in the repository."""
    return HERE / "corpus" / name
