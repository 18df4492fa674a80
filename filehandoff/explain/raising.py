"""Catch a C wrapper's errors about a closed upload, by `sys.monitoring`, or by a trace on Python 3.11.

A TextIOWrapper or a BufferedReader reads its file's `closed` and then raises, without another call to the file. The
error leaves the instruction of the caller's code that made the wrapper read `closed`, and is the thread's next error.
So the interpreter reports raised errors only from such a read until the thread raises one. Python 3.11 reports them
only with each event of the thread, to a trace function; there, the reports end with the instruction.
"""

import dis
import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import CodeType, FrameType
from typing import Any

#: Seconds until a read of `closed` without an error is forgotten; its thread may have ended.
_FORGET_AFTER = 30.0
#: Instructions by which Python code itself reads `closed`, which raises nothing.
_ATTRIBUTE_READS = frozenset({dis.opmap["LOAD_ATTR"]})
#: None on Python 3.11.
_monitoring: Any = getattr(sys, "monitoring", None)

#: The last read of `closed` by each thread: code, instruction, the function for the error, the time to forget it.
_pending_reads: dict[int, tuple[CodeType, int, Callable[[Exception], None], float]] = {}
#: Guards `_pending_reads` and the reporting of errors. Reentrant: a file collected under the lock may read `closed`.
_lock = threading.RLock()
_tool: int | None = None
#: The thread in which the garbage collector runs. It reads `closed` of the wrappers that it finds, in any call.
_collecting: int | None = None


def explain_next_error(frame: FrameType | None, explain: Callable[[Exception], None]) -> None:
    """Call `explain` with the thread's next error, if this frame's current instruction raises it."""
    if frame is None or _collecting == threading.get_ident():
        return
    code, instruction = frame.f_code, frame.f_lasti
    if code.co_code[instruction] in _ATTRIBUTE_READS:
        return
    if _monitoring is None:  # pragma: no cover - Python 3.11
        _trace(frame, explain)
        return
    with _lock:
        tool = _own_tool()
        if tool is None:
            return
        _pending_reads[threading.get_ident()] = code, instruction, explain, monotonic() + _FORGET_AFTER
        _monitoring.set_events(tool, _monitoring.events.RAISE)


def _watch_collections(phase: str, _info: object) -> None:
    global _collecting  # noqa: PLW0603 - one per process
    _collecting = threading.get_ident() if phase == "start" else None


gc.callbacks.append(_watch_collections)


def _trace(frame: FrameType, explain: Callable[[Exception], None]) -> None:  # pragma: no cover - Python 3.11
    """Explain the error of the frame's current instruction, and pass each event on to a debugger or to coverage."""
    instruction, traces, traces_frame = frame.f_lasti, sys.gettrace(), frame.f_trace

    def trace(where: FrameType, event: Any, argument: Any) -> Any:
        if where is not frame:  # the wrapper calls a function
            return traces and traces(where, event, argument)
        sys.settrace(traces)
        frame.f_trace = traces_frame
        if event == "exception" and frame.f_lasti == instruction:
            _explain_closed_file(argument[1], explain)
        return traces_frame and traces_frame(frame, event, argument)

    frame.f_trace = trace
    sys.settrace(trace)


def _own_tool() -> int | None:
    """Return this package's tool id in the interpreter; None if all are in use."""
    global _tool  # noqa: PLW0603 - one per process
    if _tool is None:
        for number in (4, 3, 5, 2, 1, 0):  # the last ids are those that debuggers, profilers and coverage use
            with suppress(ValueError):
                _monitoring.use_tool_id(number, "filehandoff.explain")
                _monitoring.register_callback(number, _monitoring.events.RAISE, _raised)
                _tool = number
                break
    return _tool


def _raised(code: CodeType, instruction: int, error: BaseException) -> None:
    """Match an error, raised in any thread, with the thread's last read of `closed`."""
    with _lock:
        read = _pending_reads.pop(threading.get_ident(), None)
        now = monotonic()
        for thread in [thread for thread, (*_, end) in _pending_reads.items() if end < now]:
            del _pending_reads[thread]
        if not _pending_reads and _tool is not None:
            _monitoring.set_events(_tool, 0)
    if read is None:
        return
    reader, at, explain, _ = read
    if reader is code and _is_within(code, at, instruction):
        _explain_closed_file(error, explain)


def _is_within(code: CodeType, instruction: int, offset: int) -> bool:
    """Whether an offset lies in this instruction or in its inline caches (zeros)."""
    return instruction <= offset and not any(code.co_code[instruction + 2 : offset + 2 : 2])


def _explain_closed_file(error: BaseException, explain: Callable[[Exception], None]) -> None:
    if type(error) is ValueError and "closed file" in str(error):
        with suppress(Exception):  # an error here would replace the app's error
            explain(error)
