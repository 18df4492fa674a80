"""A file being closed, as it is seen from the close itself: by which calls, in which thread or task, and when.

Calls are kept as code and position. Frames would keep their variables alive, and finding a line number takes time that
only an error is worth: every upload is closed once, most of them as they should.
"""

import sys
import threading
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

#: Where `copy_current_request_context` is, with its inner function `wrapper`.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx"})
#: What lies between a request's close and who popped its context.
_ON_THE_WAY = _CONTEXTS | {"contextlib"}
#: What calls an app, and what an app calls to be one.
FRAMEWORKS = frozenset(
    {"flask", "quart", "werkzeug", "asgiref", "gunicorn", "hypercorn", "uvicorn", "granian", "waitress"}
)
#: Modules whose files pass on what they are asked and told, which explains nothing.
FILES = ("tempfile", "werkzeug.datastructures")
#: Where boto calls the handlers of an event.
_HOOKS = frozenset({"botocore.hooks", "aiobotocore.hooks"})


@dataclass(frozen=True, slots=True)
class Function:
    """A function by its name and the place it is defined in."""

    name: str
    file: str
    line: int

    @classmethod
    def of(cls, function: Any) -> "Function | None":
        """What a callable runs; None if that is not written in Python, or does not let itself be looked at."""
        try:
            for _ in range(20):  # enough for any pile of decorators, and an end for what has an attribute of every name
                function = (
                    function.func if isinstance(function, partial) else getattr(function, "__wrapped__", function)
                )
            if isinstance(function, type):
                file = str(sys.modules[function.__module__].__file__)
                return cls(function.__qualname__, file, vars(function)["__firstlineno__"])
            if not hasattr(function, "__code__"):
                function = type(function).__call__
            code = function.__code__
            return cls(function.__qualname__, code.co_filename, code.co_firstlineno)
        except Exception:  # noqa: BLE001 - it is somebody else's object, in the middle of somebody else's close
            return None


@dataclass(frozen=True, slots=True)
class Call:
    """One call on the way to the close."""

    module: str
    code: CodeType
    instruction: int

    @property
    def line(self) -> int:
        """The line that was being run."""
        lines = [line for begin, end, line in self.code.co_lines() if begin <= self.instruction < end and line]
        return lines[0] if lines else self.code.co_firstlineno


@dataclass(slots=True, eq=False)
class Closing:
    """One close, as it was seen; `milliseconds` since the view began, or since the request did if there was no view."""

    stack: list[tuple[str, CodeType, int]]  #: module, code, instruction; the innermost call first
    copied: Function | None
    copier: str | None  #: `copy_current_request_context`, or one of its kind
    event: str | None
    by_request: bool
    collected: bool  #: a wrapper around the file closed it when it was collected
    where: str
    milliseconds: float
    in_view: bool
    _calls: list[Call] | None = None

    @property
    def calls(self) -> list[Call]:
        """The calls, innermost first, without our own."""
        if self._calls is None:
            self._calls = [Call(*one) for one in self.stack if not one[0].startswith("handoff.explain")]
        return self._calls


class Moment:
    """One request, as far as its files need to know: when its view began, and who is closing it.

    Several can be closing it at once: each copy of its context does when it is left, in whichever thread.

    A wrapper that is written in C, such as a TextIOWrapper, asks its file whether it is closed, and raises by itself.
    The error then leaves the same instruction of the same code that the question came from, so these are kept, with
    whose file was asked.
    """

    __slots__ = ("asked", "began", "closings", "view_began")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.view_began: float | None = None
        self.closings: list[Closing] = []
        self.asked: dict[tuple[CodeType, int], Any] = {}

    def see_question(self, frame: FrameType, upload: Any) -> None:
        """Somebody in this frame was told that the file of an upload is closed.

        A file that goes asks too, and each upload's file goes: nobody is told, and nothing is to be kept.
        """
        while str(frame.f_globals.get("__name__")).startswith(FILES) and frame.f_back is not None:
            if frame.f_code.co_name == "__del__":
                return
            frame = frame.f_back
        self.asked[frame.f_code, frame.f_lasti] = upload

    def see(self, frame: FrameType | None, *, by_request: bool = False, collected: bool = False) -> Closing:
        """What is to be seen from this frame, which is closing a file."""
        milliseconds = (perf_counter() - (self.view_began or self.began)) * 1000
        stack: list[tuple[str, CodeType, int]] = []
        copied = copier = event = None
        while frame is not None:
            code, module = frame.f_code, str(frame.f_globals.get("__name__"))
            stack.append((module, code, frame.f_lasti))
            if by_request and copier is None and module not in _ON_THE_WAY and package_of(module) in FRAMEWORKS:
                break  # it popped the context: what lies behind that explains no more, and each request passes here
            if code.co_name == "wrapper" and copier is None and module in _CONTEXTS:
                found, copier = frame.f_locals, code.co_qualname.partition(".")[0]
                copied = Function.of(found.get("f") or found.get("func"))
            elif code.co_name == "_emit" and event is None and module in _HOOKS:
                event = frame.f_locals.get("event_name")
            frame = frame.f_back
        in_view = self.view_began is not None
        return Closing(stack, copied, copier, event, by_request, collected, _whereabouts(), milliseconds, in_view)


def package_of(module: str) -> str:
    """The package that a module is in, by its first name."""
    return module.partition(".")[0]


def _whereabouts() -> str:
    thread = f"thread '{threading.current_thread().name}'"
    # An app that has not imported asyncio has no task, and is not to pay for the import.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - the documented one raises where there is none
        return thread
    task = asyncio.current_task()
    return f"task '{task.get_name()}' of {thread}" if task is not None else thread
