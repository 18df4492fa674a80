"""Find the code that handed a close over: it waits for the thread or task.

Python does not record which code started a thread or submitted a job. But waiting code holds the thread, future or
task: in a local variable of a call to `join` or `result`, or in a callback that wakes the waiting task.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FrameType
from typing import Any

from filehandoff.explain.closing import ObservedClose, Stack, installed, is_loop

#: Modules whose calls wait for a thread or a future, or start one.
_WAITS = ("threading", "concurrent.futures")
#: Modules that run a job and hold its future.
_RUNS = ("concurrent.futures", "anyio", "asgiref")
#: Innermost calls searched in each thread; a waiting thread waits in one of these.
_DEPTH = 8
#: Most futures and tasks searched in a chain that wait for each other.
_MOST = 50


def look_for_waiting_calls(closing: ObservedClose, frame: FrameType | None) -> None:
    """Record the calls that wait for this thread or task, for an unexplained close."""
    if closing.unexplained:
        with suppress(Exception):  # the app's own close must go on
            jobs = list(_jobs(frame))
            closing.waiting = _of_a_task(jobs) or _of_a_thread(jobs)


def _jobs(frame: FrameType | None) -> Iterator[Any]:
    """Yield the current thread, then the futures and tasks that this frame works for."""
    yield threading.current_thread()
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and (task := _current_task(asyncio)) is not None:
        yield task
    while frame is not None:
        if _module(frame).startswith(_RUNS):
            for value in list(frame.f_locals.values()):
                yield from (one for one in (value, getattr(value, "future", None)) if _is_future(one))
        frame = frame.f_back


def _current_task(asyncio: Any) -> Any:
    return asyncio.current_task() if asyncio._get_running_loop() is not None else None  # noqa: SLF001 - the documented function raises where no loop runs


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_future(value: Any) -> bool:
    return hasattr(type(value), "add_done_callback")


def _of_a_task(jobs: list[Any]) -> Stack:
    """Return the calls of a task that awaits one of these jobs, maybe indirectly."""
    todo, seen = list(jobs), set[int]()
    while todo and len(seen) < _MOST:
        job = todo.pop(0)
        if id(job) in seen:
            continue
        seen.add(id(job))
        for awaiting in _awaiting(job):
            stack = _stack_of(awaiting)
            if any(not installed(code.co_filename) for _, code, _ in stack):
                return stack
            todo.append(awaiting)
    return ()


def _awaiting(job: Any) -> Iterator[Any]:
    """Yield the tasks and futures among the callbacks of this job.

    A callback is a method of theirs, or a closure or a partial over them.
    """
    callbacks = getattr(job, "_done_callbacks", None) or getattr(job, "_callbacks", None) or ()
    for callback in list(callbacks):
        function = callback[0] if isinstance(callback, tuple) else callback
        owner = getattr(function, "__self__", None)
        held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        held += getattr(function, "args", ())
        yield from (one for one in (owner, getattr(owner, "_parent_task", None), *held) if _is_future(one))


def _stack_of(task: Any) -> Stack:
    """Return the calls of a suspended task, innermost first, from its chain of awaited coroutines."""
    awaits = task.get_coro() if hasattr(task, "get_coro") else None
    stack: list[Any] = []
    while (frame := getattr(awaits, "cr_frame", None) or getattr(awaits, "gi_frame", None)) is not None:
        stack.insert(0, (_module(frame), frame.f_code, frame.f_lasti))
        awaits = getattr(awaits, "cr_await", None) or getattr(awaits, "gi_yieldfrom", None)
    return tuple(stack)


def _of_a_thread(jobs: list[Any]) -> Stack:
    """Return the calls of another thread that waits for a job, or submits it."""
    known = {id(job) for job in jobs}
    for thread, top in sys._current_frames().items():  # noqa: SLF001 - documented
        if thread != threading.get_ident():
            for frame in islice(frames(top), _DEPTH):
                if _module(frame).startswith(_WAITS) and not known.isdisjoint(map(id, list(frame.f_locals.values()))):
                    return _stack(frame)
    return ()


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _stack(frame: FrameType | None) -> Stack:
    """Return the calls up to the app's innermost one; none for an event loop's."""
    stack: list[Any] = []
    while frame is not None and not is_loop(_module(frame)):
        stack.append((_module(frame), frame.f_code, frame.f_lasti))
        if not installed(frame.f_code.co_filename):
            return tuple(stack)
        frame = frame.f_back
    return ()
