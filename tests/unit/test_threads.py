"""Calls that Flask's app makes in other threads: it waits for them, or abandons them."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from patience import PATIENCE, wait_until

from filehandoff import logs
from filehandoff.admission import ending
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import Overloaded
from filehandoff.s3.calls import Flow
from filehandoff.s3.cleanup import Cleanup
from flask_app.cleanup import Cleaner
from flask_app.threads import THREADS, Threads, finish, start, wait_for_all, wait_for_first

value: ContextVar[str] = ContextVar("value")


@pytest.fixture(autouse=True)
def no_request() -> None:
    """Remove the request id that an earlier test has bound to this thread."""
    logs.unbind()


@pytest.fixture
def cancelled() -> Iterator[None]:
    """Cancel the current work, as the end of the process does."""
    with cancelled_by(Cancellation()) as cancellation:
        cancellation.cancel(ending)
        yield


@pytest.mark.usefixtures("cancelled")
def test_a_call_is_made_in_the_callers_context() -> None:
    """Another thread makes the call with the caller's context variables, and returns its outcome."""
    left: list[Future[Any]] = []
    value.set("mine")
    assert finish(lambda: (value.get(), threading.current_thread().name), left.append) == ("mine", "s3-call")
    with pytest.raises(ZeroDivisionError):
        finish(lambda: 1 // 0, left.append)
    assert left == []


def test_a_thread_is_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive calls share one thread, two parallel calls use two."""
    monkeypatch.setattr("flask_app.threads.KEEP_SECONDS", PATIENCE)
    threads = Threads()
    first = threads.submit(threading.current_thread).result()
    wait_until(lambda: threads._idle, lambda: "the thread waits for no other call")  # noqa: SLF001 - the only sign of an idle thread
    assert threads.submit(threading.current_thread).result() is first
    at_once = threading.Barrier(2, timeout=PATIENCE)
    assert {call.result(PATIENCE) for call in [threads.submit(at_once.wait) for _ in range(2)]} == {0, 1}


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call gets another thread."""
    monkeypatch.setattr("flask_app.threads.KEEP_SECONDS", 0.1)
    threads = Threads()
    first = threads.submit(threading.current_thread).result()
    first.join(PATIENCE)
    assert not first.is_alive()
    assert threads.submit(threading.current_thread).result() is not first


@pytest.mark.usefixtures("cancelled")
def test_a_cancelled_call_is_abandoned() -> None:
    """The caller gets the cancellation's error soon, and the call continues."""
    left, may_end = list[Future[Any]](), threading.Event()
    with pytest.raises(Overloaded):
        finish(partial(may_end.wait, PATIENCE), left.append)
    (call,) = left
    assert not call.done()
    may_end.set()
    assert call.result(PATIENCE) is True


@pytest.mark.usefixtures("cancelled")
def test_several_calls_are_waited_for_or_abandoned() -> None:
    """Ended calls are returned; running calls are abandoned after the cancellation."""
    left, may_end = list[Future[Any]](), threading.Event()
    ended: Future[bool] = THREADS.submit(bool)
    running: set[Future[bool]] = {THREADS.submit(partial(may_end.wait, PATIENCE)) for _ in range(2)}
    ended.result(PATIENCE)
    assert wait_for_first({ended, *running}) == ({ended}, running)
    wait_for_all(running, left.append)
    assert set(left) == running
    may_end.set()
    wait_for_all({ended}, left.append)
    with cancelled_by(Cancellation()):
        wait_for_all(running, left.append)
    assert len(left) == 2


@pytest.fixture(params=[RuntimeError("can't start new thread"), MemoryError()], ids=["no thread", "no memory"])
def no_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each start of a thread fail."""

    def fail(_thread: threading.Thread) -> None:
        raise request.param

    monkeypatch.setattr(threading.Thread, "start", fail)


@pytest.mark.usefixtures("no_thread")
def test_a_call_without_a_thread_is_made_by_the_caller() -> None:
    """Without a new thread, the caller makes the call, with the same outcome."""
    value.set("mine")
    here = threading.current_thread()
    assert Threads().submit(lambda: (value.get(), threading.current_thread())).result(0) == ("mine", here)
    with pytest.raises(ZeroDivisionError):
        Threads().submit(lambda: 1 // 0).result(0)


@pytest.mark.usefixtures("no_thread")
def test_a_start_without_a_thread_returns_false() -> None:
    """The result False means that nothing runs."""
    assert not start(print, "a name")


def test_another_error_of_a_start_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the system's is a fault of the code."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("threads can only be started once")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="only be started once"):
        start(print, "a name")


@pytest.mark.usefixtures("no_thread")
def test_the_end_of_a_process_without_new_threads_still_cleans_up() -> None:
    """The thread that ends the process retries the pending undos itself."""
    removed: list[str] = []

    def undo(key: str) -> Flow[None]:
        yield from ()
        removed.append(key)

    def run(flow: Flow[Any]) -> None:
        assert list(flow) == []

    cleanup = Cleanup(threading.Lock())
    cleaner = Cleaner(cleanup, run)
    for key in ("first", "second"):
        cleanup.later(partial(undo, key), "request", key)
    assert removed == []
    cleaner.close()
    assert removed == ["first", "second"]
