"""Plays a flow against a script: the expected calls in order, each with its response."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pytest
from prometheus_client import Counter

from filehandoff.s3.calls import Call, Finish, Flow, Md5, Presign, ReadBack, Step
from filehandoff.stored import Handle

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response of S3: its HTTP status, code and message."""

    status: int
    code: str
    message: str = "no"


GONE = Refusal(404, "NoSuchUpload")
MISSING = Refusal(404, "404")
DENIED = Refusal(403, "AccessDenied")
BUSY = Refusal(503, "SlowDown")


@dataclass(frozen=True, slots=True)
class Line:
    """One expected call, and boto's response, S3's refusal, or the error that the call raises.

    `client` and `finished` are compared unless they are None; `finished` is whether a `Finish` protects the call.
    """

    operation: str
    parameters: Mapping[str, Any]
    answer: object
    client: str | None
    finished: bool | None


def expect(
    operation: str, answer: object = None, *, client: Any = None, finished: Any = None, **parameters: Any
) -> Line:
    """Make a line of a script; the default response is empty."""
    return Line(operation, parameters, {} if answer is None else answer, client, finished)


def play(flow: Flow[T], *script: Line) -> T:
    """Return the flow's result; fail the test at a different or missing call."""
    left = deque(script)
    try:
        result: T = _run(flow, left, finished=False)
    except pytest.fail.Exception:
        left.clear()  # report the first difference only
        raise
    else:
        return result
    finally:
        if left:
            pytest.fail(f"the flow ended without {left[0]}")


def count(counter: Counter) -> float:
    """Return the value of a counter without labels."""
    return next(iter(counter.collect())).samples[0].value


def _run(flow: Flow[Any], left: deque[Line], *, finished: bool) -> Any:
    step: Callable[[], Step[Any]] = partial(next, flow)
    while True:
        try:
            performed = step()
        except StopIteration as end:
            return end.value
        try:
            step = partial(flow.send, _perform(performed, left, finished=finished))
        except pytest.fail.Exception:
            raise
        except BaseException as error:  # noqa: BLE001 - as the shells do
            step = partial(flow.throw, error)


def _perform(step: Step[Any], left: deque[Line], *, finished: bool) -> Any:
    if isinstance(step, Finish):
        return _run(step.flow, left, finished=True)
    if isinstance(step, Handle):
        with step.failing():
            step.call()
        step.keep()
        return None
    answer = _check(step, left, finished=finished)
    match answer:
        case BaseException():
            raise answer
        case Refusal(status, code, message):
            assert isinstance(step, Call)
            raise step.refused(status, code, message)
    return step.read(answer) if isinstance(step, Call) else answer


def _check(step: Step[Any], left: deque[Line], *, finished: bool) -> Any:
    operation, parameters, client = _shown(step)
    if not left:
        pytest.fail(f"the flow makes a call beyond the script: {operation} {parameters}")
    line = left.popleft()
    expected = (
        line.operation,
        line.parameters,
        client if line.client is None else line.client,
        finished if line.finished is None else line.finished,
    )
    made = (operation, parameters, client, finished)
    if expected != made:
        pytest.fail(f"the flow's call differs from the script's:\n{made}\n{expected}")
    return line.answer


def _shown(step: Step[Any]) -> tuple[str, Mapping[str, Any], str]:
    match step:
        case Call():
            return step.operation, step.parameters, step.client
        case Presign():
            return f"presign_{step.operation}", {**step.parameters, "Seconds": step.seconds}, ""
        case Md5(body):
            return "md5", {"Body": body}, ""
        case ReadBack(body, head):
            head.receive(body.getvalue())
            return "read_back", {"Body": body}, ""
    raise TypeError(step)
