"""Where a `close` was taken from its file: the place to name when another thread or task calls it.

`pool.submit(file.close)` leaves no call of the app's in the thread that closes the file; but the app's line reads
`file.close`, and that is seen here. Calls are kept as `closing` keeps them, as code and position.
"""

import sys
from collections.abc import Callable
from types import FrameType, MethodType
from typing import Any

from filehandoff.explain.closing import PASSES_ON, RequestRecord, Stack, installed

#: Calls that are kept at most, of those that led to the place.
_MOST_CALLS = 40


class Taken:
    """A file's `close` as a function, and the calls that led to the place where it was taken."""

    __slots__ = ("__weakref__", "_awaited", "_function", "stack")

    def __init__(self, function: Callable[..., Any], stack: Stack, *, awaited: bool) -> None:
        self._function = function
        self._awaited = awaited
        self.stack = stack

    def __call__(self, file: Any, *args: Any, **kwargs: Any) -> Any:
        """Close the file. `RequestRecord.see` finds this call and by it the place; a coroutine runs later, and is given it."""
        return self._function(file, *args, **kwargs, **({"taken": self} if self._awaited else {}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Taken) and self._function == other._function

    def __hash__(self) -> int:
        return hash(self._function)


class Close:
    """The descriptor of a `close` that notes where it is taken."""

    def __init__(
        self, function: Callable[..., Any], record: Callable[[Any], RequestRecord], *, awaited: bool = False
    ) -> None:
        self._function = function
        self._record = record
        self._awaited = awaited
        self.__doc__ = function.__doc__

    def __get__(self, file: Any, _owner: Any = None) -> Any:
        if file is None:
            return self._function
        frame = sys._getframe(1)  # noqa: SLF001 - the frame that takes it
        if frame.f_globals.get("__name__") in PASSES_ON:
            return MethodType(self._function, file)
        try:
            return MethodType(self._taken(self._record(file), frame), file)
        except Exception:  # noqa: BLE001 - a class of the app's own, or the interpreter ends
            return MethodType(self._function, file)

    def _taken(self, record: RequestRecord, frame: FrameType) -> Callable[..., Any]:
        """One function for each place, so that a WeakMethod of it lives as long as the request."""
        if record.closings:  # the request closes it, here or elsewhere
            return self._function
        stack = _calls(frame)
        taken: Taken = record.taken.setdefault((self, stack), Taken(self._function, stack, awaited=self._awaited))
        return taken


def _calls(start: FrameType) -> Stack:
    """The calls from here to the app's own code, innermost first."""
    stack: list[Any] = []
    frame: FrameType | None = start
    while frame is not None and len(stack) < _MOST_CALLS:
        stack.append((str(frame.f_globals.get("__name__")), frame.f_code, frame.f_lasti))
        if not installed(frame.f_code.co_filename):
            break
        frame = frame.f_back
    return tuple(stack)
