"""The record of a file's close: its calls, its thread or task, its time.

Calls are kept as code and position. Frames would keep their variables alive, and finding a line number takes time that
only an error is worth: every upload is closed once, and most closes are correct.
"""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import getsourcelines
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeAlias

#: The modules of `copy_current_request_context`, with its inner function `wrapper`.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx"})
#: The modules of the request classes. A request's `close` and the end of its `with` block close the files.
REQUESTS = frozenset({"werkzeug.wrappers.request", "quart.wrappers.request", "quart.wrappers.base"})
#: Modules between a request's close and the caller that popped its context or closed it. Starlette's two close a form.
ON_THE_WAY = _CONTEXTS | REQUESTS | {"contextlib", "werkzeug.local", "starlette._utils", "starlette.requests"}
#: Packages of the servers that call an app, and of the frameworks that an app is written in.
FRAMEWORKS = frozenset(
    {
        *("flask", "quart", "quart_trio", "werkzeug", "starlette", "fastapi", "django"),
        *("asgiref", "gunicorn", "hypercorn", "uvicorn", "granian", "waitress"),
    }
)
TRANSFER = frozenset({"s3transfer"})
#: Packages whose calls explain a close; asgiref only runs a job for another thread.
_EXPLAINING = (FRAMEWORKS | TRANSFER) - {"asgiref"}
#: Modules in which an event loop calls tasks and callbacks. The calls outside these only started the loop.
_LOOPS = frozenset({"asyncio.events", "asyncio.base_events", "asyncio.runners", "trio._core._run"})
#: The frameworks' functions that handle one request.
_HANDLES = frozenset({"wsgi_app", "asgi_app", "handle_request", "get_response"})
#: Modules whose files only pass calls on to another file, so they explain no close.
FILES = ("tempfile", "werkzeug.datastructures", "quart.datastructures", "starlette.datastructures", "django.core.files")
#: The full names of these modules.
FILE_MODULES = frozenset(
    {
        *("tempfile", "werkzeug.datastructures", "werkzeug.datastructures.file_storage", "quart.datastructures"),
        *("django.core.files.base", "django.core.files.uploadedfile"),
    }
)
#: Modules that call a `close` at once where they read it, and pass it to no other thread or task.
PASSES_ON = (
    FILE_MODULES
    | (ON_THE_WAY - {"werkzeug.local"})
    | {"s3transfer.utils", "s3transfer.upload"}
    | {
        f"filehandoff.explain.{name}"
        for name in ("files", "stand_ins", "watching", "taking", "_flask", "_quart", "_starlette", "_django")
    }
)
#: Methods that begin and end a request, of Flask, Quart and their subclasses.
_REQUEST_METHODS = frozenset({"wsgi_app", "handle_request"})
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as the interpreter writes it in co_filename

Stack: TypeAlias = tuple[tuple[str, CodeType, int], ...]  #: module, code, instruction; the innermost call first
#: The modules in which boto calls the handlers of an event.
_HOOKS = frozenset({"botocore.hooks", "aiobotocore.hooks"})
#: The names of the functions that `observe` looks at.
_TELLING = frozenset({"wrapper", "_emit", "__call__", "_worker"})


@dataclass(frozen=True, slots=True)
class Function:
    """A function's name, with the file and line of its definition."""

    name: str
    file: str
    line: int

    @classmethod
    def of(cls, function: Any) -> "Function | None":
        """Return the function that a callable runs; None if it cannot be inspected."""
        try:
            for _ in range(20):  # more than any stack of decorators; stops at objects that have every attribute
                function = (
                    function.func if isinstance(function, partial) else getattr(function, "__wrapped__", function)
                )
            if isinstance(function, type):
                file = str(sys.modules[function.__module__].__file__)
                line = vars(function).get("__firstlineno__") or getsourcelines(function)[1]  # since Python 3.13
                return cls(function.__qualname__, file, line)
            if not hasattr(function, "__code__"):
                function = type(function).__call__
            code = function.__code__
            return cls(function.__qualname__, code.co_filename, code.co_firstlineno)
        except Exception:  # noqa: BLE001 - the app's object may raise anything, and the app's close must go on
            return None


class Call(NamedTuple):
    """One call of the stack that led to a close."""

    module: str
    code: CodeType
    instruction: int

    @property
    def line(self) -> int:
        """The line of the call."""
        lines = [line for begin, end, line in self.code.co_lines() if begin <= self.instruction < end and line]
        return lines[0] if lines else self.code.co_firstlineno


@dataclass(slots=True, eq=False)
class ObservedClose:
    """One observed close; `began`, `view_began` and `at` are times by `time.perf_counter`."""

    stack: Stack
    taken: Stack  #: the calls that read the file's `close`, if recorded
    ended: bool  #: the end of the request closed the file, as the last of the calls
    copied: Function | None
    copier: str | None  #: the function that copied the context, such as `copy_current_request_context`
    copied_app: bool  #: the copy is of an app context as well, as in Flask 3.2 and Quart 0.23
    event: str | None
    by_request: bool
    collected: bool  #: the garbage collector took a wrapper around the file, which closed it
    where: str
    began: float
    view_began: float | None
    at: float
    of_form: bool = False  #: the close of Starlette's form closed the file
    waiting: Stack = ()  #: the calls that wait for the closing thread or task, if nothing else explains the close

    @property
    def in_view(self) -> bool:
        """Whether the view had begun."""
        return self.view_began is not None

    @property
    def milliseconds(self) -> float:
        """The time since the view's start, or else since the request's."""
        return (self.at - (self.view_began or self.began)) * 1000

    @property
    def unexplained(self) -> bool:
        """Whether a thread or task closed the file without a line of the app."""
        if self.ended or self.collected or self.copier or self.takers:
            return False
        for index, (module, code, _) in enumerate(self.stack):
            if explains(module, code.co_filename):
                return False
            if _is_outermost(self.stack, index):
                break
        return True

    @property
    def waiters(self) -> list[Call]:
        """The calls that wait for the closing thread or task, innermost first; often none."""
        return _calls(self.waiting)

    @property
    def calls(self) -> list[Call]:
        """The calls, innermost first, without those of this package."""
        return _calls(self.stack)

    @property
    def takers(self) -> list[Call]:
        """The calls that passed the `close` to another thread or task, innermost first."""
        if not self.taken or any(code is self.taken[0][1] for _, code, _ in self.stack):
            return []  # the code that read the `close` is on the stack: it called the `close` itself
        return _calls(self.taken)


def _calls(stack: Stack) -> list[Call]:
    return [Call._make(one) for one in stack if not one[0].startswith("filehandoff.explain")]


@lru_cache(512)
def explains(module: str, file: str) -> bool:
    """Whether a call from this source file explains the close: the app's, a framework's or the transfer manager's."""
    named = package_of(module) in _EXPLAINING and not module.startswith(FILES)
    return named or is_apps_own(module, file)


def inside(calls: list[Call]) -> list[Call]:
    """Return the calls up to the start of the request, task or callback.

    The outer ones run the whole server.
    """
    return next((calls[: index + 1] for index in range(len(calls)) if _is_outermost(calls, index)), calls)


def _is_outermost(calls: Sequence[tuple[str, CodeType, int]], index: int) -> bool:
    """Whether the calls after this one run the whole server."""
    module, code, _ = calls[index]
    if module not in _LOOPS:
        return _handles_a_request(module, code)
    # A view may run an event loop of its own; then the app's line is outside the loop.
    return not any(_handles_a_request(module, code) for module, code, _ in calls[index:])


def is_loop(module: str) -> bool:
    """Whether this module is part of an event loop, which calls tasks and callbacks."""
    return module in _LOOPS


def _handles_a_request(module: str, code: CodeType) -> bool:
    return code.co_name in _HANDLES and package_of(module) in FRAMEWORKS


class RequestRecord:
    """One request's times, and its closes in progress.

    Several closes can run at once: each copy of the request's context closes the request when it is popped, in any
    thread.
    """

    __slots__ = ("began", "closings", "taken", "view_began")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.view_began: float | None = None
        self.closings: list[ObservedClose] = []
        self.taken: dict[Any, Any] = {}  #: each `close` that code read from the request and its files, see `taking`

    def observe(self, frame: FrameType | None, *, by_request: bool = False, collected: bool = False) -> ObservedClose:
        """Record a close from this frame, which is closing a file."""
        at = perf_counter()
        stack: list[tuple[str, CodeType, int]] = []
        copied = copier = event = None
        copied_app = False
        taken: Stack = ()
        ended = False
        while frame is not None and not ended:
            code, module = frame.f_code, str(frame.f_globals.get("__name__"))
            stack.append((module, code, frame.f_lasti))
            if by_request and copier is None and module not in ON_THE_WAY:
                # Calls outside the end of a request explain nothing more, and each request runs this loop.
                ended = package_of(module) in FRAMEWORKS or _begins_requests(frame)
            if code.co_name in _TELLING:
                if module in _CONTEXTS and code.co_name == "wrapper" and copier is None:
                    found, copier = frame.f_locals, code.co_qualname.partition(".")[0]
                    copied = Function.of(found.get("f") or found.get("func"))
                    copied_app = type(found.get("ctx")).__name__ == "AppContext"
                elif module in _HOOKS and code.co_name == "_emit" and event is None:
                    event = frame.f_locals.get("event_name")
                elif module == "filehandoff.explain.taking" and code.co_name == "__call__":
                    taken = frame.f_locals["self"].stack
                elif module == "concurrent.futures.thread" and code.co_name == "_worker":
                    break  # the outer calls only start the thread
            frame = frame.f_back
        return ObservedClose(
            tuple(stack),
            taken,
            ended,
            copied,
            copier,
            copied_app,
            event,
            by_request,
            collected,
            _whereabouts(),
            self.began,
            self.view_began,
            at,
        )


def _begins_requests(frame: FrameType) -> bool:
    """Whether this frame runs a method that begins and ends an app's request."""
    code = frame.f_code
    if code.co_name not in _REQUEST_METHODS or not code.co_argcount:
        return False
    return is_app(frame.f_locals.get(code.co_varnames[0]))


def is_app(value: Any, *names: tuple[str, str]) -> bool:
    """Whether the value is a Flask or Quart app, without importing either."""
    kinds = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(value).__mro__}
    return not kinds.isdisjoint(names or (("flask", "Flask"), ("quart", "Quart")))


def caller_of_a_file(frame: FrameType | None) -> FrameType | None:
    """Return the first frame outside the modules of files, which include this package."""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith((*FILES, "filehandoff.explain")):
        frame = frame.f_back
    return frame


@lru_cache(512)
def installed(file: str) -> bool:
    """Whether a source file belongs to the standard library or an installed package."""
    return (
        file.startswith((_STANDARD_LIBRARY, "<frozen"))
        or f"{os.sep}site-packages{os.sep}" in file
        or f"{os.sep}dist-packages{os.sep}" in file
    )


def is_apps_own(module: str, file: str) -> bool:
    """Whether a call from this source file is of the app, not of an installed package or of this one."""
    return not installed(file) and not module.startswith("filehandoff.explain")


def package_of(module: str) -> str:
    """Return the top-level package of a module."""
    return module.partition(".")[0]


def _whereabouts() -> str:
    thread = f"thread '{threading.current_thread().name}'"
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return f"task '{trio.lowlevel.current_task().name}' of {thread}"
    # An app that has not imported asyncio has no task; importing it here would cost time for nothing.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - the documented function raises where no loop runs
        return thread
    task = asyncio.current_task()
    return f"task '{task.get_name()}' of {thread}" if task is not None else thread
