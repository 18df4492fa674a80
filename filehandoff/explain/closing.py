"""A file being closed, as it is seen from the close itself: by which calls, in which thread or task, and when.

Calls are kept as code and position. Frames would keep their variables alive, and finding a line number takes time that
only an error is worth: every upload is closed once, most of them as they should.
"""

import os
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

#: Where `copy_current_request_context` is, with its inner function `wrapper`.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx"})
#: The modules of the request classes, whose `close` closes the files, and which can be a context manager that does.
REQUESTS = frozenset({"werkzeug.wrappers.request", "quart.wrappers.request", "quart.wrappers.base"})
#: What lies between a request's close and the caller that popped its context or closed it.
ON_THE_WAY = _CONTEXTS | REQUESTS | {"contextlib", "werkzeug.local"}
#: What calls an app, and what an app calls to be one.
FRAMEWORKS = frozenset(
    {"flask", "quart", "quart_trio", "werkzeug", "asgiref", "gunicorn", "hypercorn", "uvicorn", "granian", "waitress"}
)
TRANSFER = frozenset({"s3transfer"})
#: Where an event loop calls tasks and callbacks: the code behind it started the loop, and mostly nothing else.
_LOOPS = frozenset({"asyncio.events", "asyncio.base_events", "asyncio.runners", "trio._core._run"})
#: Functions of the frameworks' that handle one request.
_HANDLES = frozenset({"wsgi_app", "asgi_app", "handle_request"})
#: Modules whose files pass on what they are asked and told, which explains nothing.
FILES = ("tempfile", "werkzeug.datastructures", "quart.datastructures")
#: The same by their whole names.
FILE_MODULES = frozenset(
    {"tempfile", "werkzeug.datastructures", "werkzeug.datastructures.file_storage", "quart.datastructures"}
)
#: Modules that call a `close` where they take it, and hand it to no thread or task.
PASSES_ON = (
    FILE_MODULES
    | (ON_THE_WAY - {"werkzeug.local"})
    | {f"filehandoff.explain.{name}" for name in ("files", "watching", "taking", "_flask", "_quart")}
)
#: Methods of an app, its own or of a library's kind of app, that begin and end a request.
_REQUEST_METHODS = frozenset({"wsgi_app", "handle_request"})
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as the interpreter writes it in co_filename

type Stack = tuple[tuple[str, CodeType, int], ...]  #: module, code, instruction; the innermost call first
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
class ObservedClose:
    """One close, as it was seen; `milliseconds` since the view began, or since the request did if there was no view."""

    stack: Stack
    taken: Stack  #: the calls that took the `close` from the file, where it was noted
    ended: bool  #: the request's own end closed the file, as the last of the calls
    copied: Function | None
    copier: str | None  #: `copy_current_request_context`, or one of its kind
    event: str | None
    by_request: bool
    collected: bool  #: a wrapper around the file closed it when it was collected
    where: str
    milliseconds: float
    in_view: bool
    waiting: Stack = ()  #: the calls that wait for the thread or task of the close, where nothing else explains it

    @property
    def unexplained(self) -> bool:
        """Whether a thread or task closed the file with no line of the app's among its calls."""
        if self.ended or self.collected or self.copier or self.takers:
            return False
        return not any(explains(call) for call in inside(self.calls))

    @property
    def waiters(self) -> list[Call]:
        """The calls that wait for the thread or task of the close, innermost first; often none."""
        return _calls(self.waiting)

    @property
    def calls(self) -> list[Call]:
        """The calls, innermost first, without our own."""
        return _calls(self.stack)

    @property
    def takers(self) -> list[Call]:
        """The calls that took the `close` and handed it to another thread or task, innermost first; often none."""
        if not self.taken or any(code is self.taken[0][1] for _, code, _ in self.stack):
            return []  # the code that took it is running: it called it itself
        return _calls(self.taken)


def _calls(stack: Stack) -> list[Call]:
    return [Call(*one) for one in stack if not one[0].startswith("filehandoff.explain")]


def explains(call: Call) -> bool:
    """Whether a call is the app's own, or one by which a framework or boto explains the close without the app's."""
    package = package_of(call.module)
    named = package in (FRAMEWORKS | TRANSFER) - {"asgiref"} and not call.module.startswith(FILES)
    return named or not installed(call.code.co_filename)


def inside(calls: list[Call]) -> list[Call]:
    """The calls up to the start of the request, the task or the callback; the calls behind it run the whole server."""
    for index, call in enumerate(calls):
        if _handles_a_request(call):
            return calls[: index + 1]
        # An app may run a loop of its own in a view; then its line is behind the loop.
        if is_loop(call.module) and not any(map(_handles_a_request, calls[index:])):
            return calls[: index + 1]
    return calls


def is_loop(module: str) -> bool:
    """Whether a module is an event loop's, which calls tasks and callbacks."""
    return module in _LOOPS


def _handles_a_request(call: Call) -> bool:
    return package_of(call.module) in FRAMEWORKS and call.code.co_name in _HANDLES


class RequestRecord:
    """One request, as far as its files need to know: when its view began, and who is closing it.

    Several can be closing it at once: each copy of its context does when it is left, in whichever thread.
    """

    __slots__ = ("began", "closings", "taken", "view_began")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.view_began: float | None = None
        self.closings: list[ObservedClose] = []
        self.taken: dict[Any, Any] = {}  #: each `close` of the request and its files that was taken, see `taking`

    def see(self, frame: FrameType | None, *, by_request: bool = False, collected: bool = False) -> ObservedClose:
        """What is to be seen from this frame, which is closing a file."""
        milliseconds = (perf_counter() - (self.view_began or self.began)) * 1000
        stack: list[tuple[str, CodeType, int]] = []
        copied = copier = event = None
        taken: Stack = ()
        ended = False
        while frame is not None and not ended:
            code, module = frame.f_code, str(frame.f_globals.get("__name__"))
            stack.append((module, code, frame.f_lasti))
            if by_request and copier is None and module not in ON_THE_WAY:
                # What lies behind the end of a request explains no more, and each request passes here.
                ended = package_of(module) in FRAMEWORKS or _begins_requests(frame)
            if code.co_name == "wrapper" and copier is None and module in _CONTEXTS:
                found, copier = frame.f_locals, code.co_qualname.partition(".")[0]
                copied = Function.of(found.get("f") or found.get("func"))
            elif code.co_name == "_emit" and event is None and module in _HOOKS:
                event = frame.f_locals.get("event_name")
            elif module == "filehandoff.explain.taking" and code.co_name == "__call__":
                taken = frame.f_locals["self"].stack
            frame = frame.f_back
        in_view = self.view_began is not None
        return ObservedClose(
            tuple(stack),
            taken,
            ended,
            copied,
            copier,
            event,
            by_request,
            collected,
            _whereabouts(),
            milliseconds,
            in_view,
        )


def _begins_requests(frame: FrameType) -> bool:
    """Whether this is an app's method that begins and ends a request, whichever library's kind of app it is."""
    code = frame.f_code
    if code.co_name not in _REQUEST_METHODS or not code.co_argcount:
        return False
    return is_app(frame.f_locals.get(code.co_varnames[0]))


def is_app(value: Any, *names: tuple[str, str]) -> bool:
    """Whether this is a Flask or a Quart app, found without importing either."""
    kinds = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(value).__mro__}
    return not kinds.isdisjoint(names or (("flask", "Flask"), ("quart", "Quart")))


def caller_of_a_file(frame: FrameType | None) -> FrameType | None:
    """The first frame that is of no file, ours included."""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith((*FILES, "filehandoff.explain")):
        frame = frame.f_back
    return frame


@lru_cache(512)
def installed(file: str) -> bool:
    """Whether a source file is of the standard library or of an installed package, and not the app's own."""
    return (
        file.startswith((_STANDARD_LIBRARY, "<frozen"))
        or f"{os.sep}site-packages{os.sep}" in file
        or f"{os.sep}dist-packages{os.sep}" in file
    )


def package_of(module: str) -> str:
    """The package that a module is in, by its first name."""
    return module.partition(".")[0]


def _whereabouts() -> str:
    thread = f"thread '{threading.current_thread().name}'"
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return f"task '{trio.lowlevel.current_task().name}' of {thread}"
    # An app that has not imported asyncio has no task, and is not to pay for the import.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - the documented one raises where there is none
        return thread
    task = asyncio.current_task()
    return f"task '{task.get_name()}' of {thread}" if task is not None else thread
