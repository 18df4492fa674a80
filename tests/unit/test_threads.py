"""Calls that Flask's app has made by other threads: waited for, or left."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import pytest
from patience import PATIENCE, wait_until

from filehandoff import logs
from filehandoff.admission import ending
from filehandoff.errors import Overloaded
from flask_app.threads import THREADS, Calls, Threads, start
from flask_app.undoing import Undoing

value: ContextVar[str] = ContextVar("value")


@pytest.fixture(autouse=True)
def no_request() -> None:
    """No request has left its id on this thread's lines."""
    logs.unbind()


class Left:
    """Stands for `Undoing`: remembers which calls it is to undo when they have ended."""

    def __init__(self) -> None:
        self.calls: list[Future[Any]] = []

    def after(self, call: Future[Any], undo: Callable[[], object], request_id: str, key: str) -> None:
        """Remember one."""
        assert (undo, request_id, key) == (Left, "", "key")
        self.calls.append(call)


def calls(left: Left, go_on: Callable[[], None]) -> Calls:
    """The calls for one object."""
    return Calls(cast("Undoing", left), Left, "key", go_on)


def stop() -> None:
    """What `go_on` does when the process is to end."""
    raise ending()


def test_a_call_is_made_in_the_callers_context() -> None:
    """By another thread, which knows the caller's context variables; its answer and its error are passed on."""
    value.set("mine")
    assert calls(Left(), stop).make(lambda: (value.get(), threading.current_thread().name)) == ("mine", "s3-call")
    with pytest.raises(ZeroDivisionError):
        calls(Left(), stop).make(lambda: 1 // 0)


def test_a_thread_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other need one thread, two at once need two."""
    monkeypatch.setattr("flask_app.threads.KEEP_SECONDS", PATIENCE)
    threads = Threads()
    first = threads.submit(threading.current_thread).result()
    wait_until(lambda: threads._idle, lambda: "the thread waits for no other call")  # noqa: SLF001 - nothing else tells
    assert threads.submit(threading.current_thread).result() is first
    at_once = threading.Barrier(2, timeout=PATIENCE)
    assert {call.result(PATIENCE) for call in [threads.submit(at_once.wait) for _ in range(2)]} == {0, 1}


def test_a_thread_ends_when_it_has_had_nothing_to_do_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call after that gets another thread."""
    monkeypatch.setattr("flask_app.threads.KEEP_SECONDS", 0.1)
    threads = Threads()
    first = threads.submit(threading.current_thread).result()
    first.join(PATIENCE)
    assert not first.is_alive()
    assert threads.submit(threading.current_thread).result() is not first


def test_a_call_is_left_when_it_is_to_be() -> None:
    """Soon, with the error of whoever said so; what it does is undone when it has ended."""
    left, may_end = Left(), threading.Event()
    with pytest.raises(Overloaded):
        calls(left, stop).make(partial(may_end.wait, PATIENCE))
    (call,) = left.calls
    assert not call.done()
    may_end.set()
    assert call.result(PATIENCE) is True


def test_the_end_of_all_is_waited_for_or_left() -> None:
    """With calls that end nothing is left; of those that do not, each is."""
    left, may_end = Left(), threading.Event()
    ended: Future[bool] = THREADS.submit(bool)
    running: set[Future[bool]] = {THREADS.submit(partial(may_end.wait, PATIENCE)) for _ in range(2)}
    done, others = calls(left, stop).first_of({ended, *running})
    assert (done, others) == ({ended}, running)
    calls(left, stop).end(running)
    assert set(left.calls) == running
    may_end.set()
    calls(left, stop).end({ended})
    calls(left, lambda: None).end(running)
    assert len(left.calls) == 2


@pytest.fixture(params=[RuntimeError("can't start new thread"), MemoryError()], ids=["no thread", "no memory"])
def no_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system starts no thread."""

    def fail(_thread: threading.Thread) -> None:
        raise request.param

    monkeypatch.setattr(threading.Thread, "start", fail)


@pytest.mark.usefixtures("no_thread")
def test_a_call_without_a_thread_is_made_by_the_caller() -> None:
    """The answer and the error of a call are the same where no thread can be started for it."""
    value.set("mine")
    here = threading.current_thread()
    assert Threads().submit(lambda: (value.get(), threading.current_thread())).result(0) == ("mine", here)
    with pytest.raises(ZeroDivisionError):
        Threads().submit(lambda: 1 // 0).result(0)


@pytest.mark.usefixtures("no_thread")
def test_a_start_without_a_thread_is_false() -> None:
    """The caller learns that nothing runs; no other error is taken for this one."""
    assert not start(print, "a name")


def test_another_error_of_a_start_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads can be started only once: an error such as that is a fault of the code."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("threads can only be started once")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="only be started once"):
        start(print, "a name")


@pytest.mark.usefixtures("no_thread")
def test_the_end_of_a_process_without_threads_undoes_the_rest_itself() -> None:
    """Pending cleanup is tried once more by the thread that ends the process."""
    undoing, undone = Undoing(), list[str]()
    for key in ("first", "second"):
        undoing.later(partial(undone.append, key), "request", key)
    assert undone == []
    undoing.close()
    assert undone == ["first", "second"]
