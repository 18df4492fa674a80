"""Errors that a wrapper written in C raises about a closed upload: seen where they are raised, by `sys.monitoring`.

A TextIOWrapper or a BufferedReader asks its file whether it is closed and then raises, without touching the file. The
error leaves the instruction of the caller's code that the question came from, and is the next one of its thread. So the
interpreter reports raised errors from such a question until its thread raises one, and at no other time.
"""

import dis
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import CodeType, FrameType
from typing import TypeIs

#: Seconds until a question without an error is forgotten; its thread may be gone.
_FORGET_AFTER = 30.0
#: Instructions that read `closed` as an attribute: Python code asks, and raises nothing by that.
_READS = frozenset({dis.opmap["LOAD_ATTR"]})
_RAISE = sys.monitoring.events.RAISE

#: For each thread, its question: code, instruction, the function for the error, and the time to forget it.
_questions: dict[int, tuple[CodeType, int, Callable[[Exception], None], float]] = {}
#: Guards the questions and whether errors are reported; reentrant, as a collected file may ask while it is held.
_lock = threading.RLock()
_tool: int | None = None


def explain_next_error(frame: FrameType | None, explain: Callable[[Exception], None]) -> None:
    """Have `explain` called with the error that this frame's current instruction raises, if it raises one next."""
    if frame is None:
        return
    code, instruction = frame.f_code, frame.f_lasti
    if code.co_code[instruction] in _READS:
        return
    with _lock:
        tool = _own_tool()
        if tool is None:
            return
        _questions[threading.get_ident()] = code, instruction, explain, monotonic() + _FORGET_AFTER
        sys.monitoring.set_events(tool, _RAISE)


def _own_tool() -> int | None:
    """Our id among the interpreter's tools; None while debuggers and profilers have taken all."""
    global _tool  # noqa: PLW0603 - one for the process
    if _tool is None:
        for number in (4, 3, 5, 2, 1, 0):  # the last ones are those that debuggers and the like ask for
            with suppress(ValueError):
                sys.monitoring.use_tool_id(number, "filehandoff.explain")
                sys.monitoring.register_callback(number, _RAISE, _raised)
                _tool = number
                break
    return _tool


def _raised(code: CodeType, instruction: int, error: BaseException) -> None:
    """An error was raised, in whichever thread: the first one after a question answers it."""
    with _lock:
        question = _questions.pop(threading.get_ident(), None)
        now = monotonic()
        for thread in [thread for thread, (*_, end) in _questions.items() if end < now]:
            del _questions[thread]
        if not _questions and _tool is not None:
            sys.monitoring.set_events(_tool, 0)
    if question is None:
        return
    asked, at, explain, _ = question
    if asked is code and _is_within(code, at, instruction) and _is_closed_file(error):
        with suppress(Exception):  # it would take the error's place
            explain(error)


def _is_within(code: CodeType, instruction: int, offset: int) -> bool:
    """Whether an offset is that of an instruction or of its inline caches, which are zeros behind it."""
    return instruction <= offset and not any(code.co_code[instruction + 2 : offset + 2 : 2])


def _is_closed_file(error: BaseException) -> TypeIs[ValueError]:
    return type(error) is ValueError and "closed file" in str(error)
