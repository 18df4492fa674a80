"""Record where code reads a file's `close` for another thread or task.

`pool.submit(file.close)` leaves no call of the app in the thread that closes the file. The app's line reads the
attribute `file.close`, and the descriptor here records that line. Calls are kept as code and position, as in `closing`.
"""

import sys
from collections.abc import Callable
from types import FrameType, MethodType
from typing import Any

from filehandoff.explain.closing import PASSES_ON, RequestRecord, Stack, is_apps_own, is_loop

#: Most calls kept of a stack.
_MOST_CALLS = 40


class TakenClose:
    """A file's `close` as a function, with the calls that read the attribute."""

    __slots__ = ("__weakref__", "_awaited", "_function", "stack")

    def __init__(self, function: Callable[..., Any], stack: Stack, *, awaited: bool) -> None:
        self._function = function
        self._awaited = awaited
        self.stack = stack

    def __call__(self, file: Any, *args: Any, **kwargs: Any) -> Any:
        """Close the file.

        `RequestRecord.observe` finds this call on the stack. A coroutine runs after this call has returned, so it gets
        this object as an argument.
        """
        return self._function(file, *args, **kwargs, **({"taken": self} if self._awaited else {}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TakenClose) and self._function == other._function

    def __hash__(self) -> int:
        return hash(self._function)


class CloseDescriptor:
    """A descriptor for `close` that records each place that reads it."""

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
        frame = sys._getframe(1)  # noqa: SLF001 - the frame that reads `close`
        if frame.f_globals.get("__name__") in PASSES_ON:
            return MethodType(self._function, file)
        try:
            return MethodType(self._taken(self._record(file), frame), file)
        except Exception:  # noqa: BLE001 - the app's own class may raise anything, as may an interpreter that is shutting down
            return MethodType(self._function, file)

    def _taken(self, record: RequestRecord, frame: FrameType) -> Callable[..., Any]:
        """Return one function per place.

        A WeakMethod of it then lives as long as the request.
        """
        if record.closings:  # the request itself is closing the file
            return self._function
        stack = _calls(frame)
        taken: TakenClose = record.taken.setdefault(
            (self, stack), TakenClose(self._function, stack, awaited=self._awaited)
        )
        return taken


def _calls(start: FrameType) -> Stack:
    """Return the calls from this frame to the app's own code, or to the event loop, innermost first."""
    stack: list[Any] = []
    frame: FrameType | None = start
    while frame is not None and len(stack) < _MOST_CALLS:
        module = str(frame.f_globals.get("__name__"))
        stack.append((module, frame.f_code, frame.f_lasti))
        if is_apps_own(module, frame.f_code.co_filename) or is_loop(module):
            break
        frame = frame.f_back
    return tuple(stack)
