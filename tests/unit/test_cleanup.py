"""Both shells retry pending undos, the last time at the process's end."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias

import pytest
from patience import PATIENCE

import flask_app.cleanup
import quart_app.cleanup
from filehandoff.errors import StoreUnavailable
from filehandoff.s3.calls import Call, Flow
from filehandoff.s3.cleanup import (
    ANSWER_SECONDS,
    END_SECONDS,
    LAST_TRY_AT_ONCE,
    LAST_TRY_SECONDS,
    UNDO_SECONDS,
    Cleanup,
)

Work: TypeAlias = Callable[[], object]


@pytest.fixture(autouse=True)
def no_ordinary_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay all retries until the end of the process."""
    for module in (flask_app.cleanup, quart_app.cleanup):
        monkeypatch.setattr(module, "FIRST_PAUSE", PATIENCE)


def undo_by(work: Work) -> Callable[[], Flow[None]]:
    """Make an undo of one call, for which the drivers below do this work."""

    def undo() -> Flow[None]:
        yield Call(operation="delete_object", parameters={"work": work}, read=lambda _: None)

    return undo


def run(flow: Flow[Any]) -> Any:
    """Run a flow as Flask's store does, with the undos' work in place of S3."""
    steps: Callable[[], Any] = lambda: next(flow)  # noqa: E731 - replaced below
    while True:
        try:
            call = steps()
        except StopIteration as end:
            return end.value
        try:
            call.parameters["work"]()
        except BaseException as error:  # noqa: BLE001 - as the store
            steps = lambda failure=error: flow.throw(failure)  # type: ignore[misc] # noqa: E731
        else:
            steps = lambda: flow.send(None)  # noqa: E731


async def run_async(flow: Flow[Any]) -> Any:
    """Run a flow as Quart's store does, with the undos' work in place of S3."""
    steps: Callable[[], Any] = lambda: next(flow)  # noqa: E731 - replaced below
    while True:
        try:
            call = steps()
        except StopIteration as end:
            return end.value
        try:
            work = call.parameters["work"]
            if isinstance(work, Hang):
                await asyncio.Event().wait()
            work()
        except BaseException as error:  # noqa: BLE001 - as the store
            steps = lambda failure=error: flow.throw(failure)  # type: ignore[misc] # noqa: E731
        else:
            steps = lambda: flow.send(None)  # noqa: E731


def in_flask(works: list[Work], seconds: float) -> None:
    """Run these undos at the end of Flask's process, within so many seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_app.cleanup, "LAST_TRY_SECONDS", seconds)
        cleanup = Cleanup(threading.Lock())
        cleaner = flask_app.cleanup.Cleaner(cleanup, run)
        for number, work in enumerate(works):
            cleanup.later(undo_by(work), f"request-{number}", f"key-{number}")
        cleaner.close()


def in_quart(works: list[Work], seconds: float) -> None:
    """Run these undos at the end of Quart's process, within so many seconds."""

    async def close() -> None:
        cleanup = Cleanup()
        cleaner = quart_app.cleanup.Cleaner(cleanup, run_async)
        for number, work in enumerate(works):
            cleanup.later(undo_by(work), f"request-{number}", f"key-{number}")
        await cleaner.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quart_app.cleanup, "LAST_TRY_SECONDS", seconds)
        asyncio.run(close())


def fail() -> None:
    """Fail as an undo without a response from S3."""
    raise StoreUnavailable("S3 did not respond.")


def run_out() -> None:
    """Fail as an undo without enough memory."""
    raise MemoryError


class Hang:
    """An undo to which S3 does not respond before the end of the test."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.has_ended = False

    def __call__(self) -> None:
        """Hang."""
        self.may_end.wait(PATIENCE)
        self.has_ended = True


@pytest.fixture
def hang() -> Iterator[Hang]:
    """Make an undo that hangs until the end of the test."""
    hang = Hang()
    yield hang
    hang.may_end.set()


def given_up(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the keys that the log names as given up."""
    return {key for record in caplog.records for key in re.findall("'(key-.+)' is given up", record.getMessage())}


apps = pytest.mark.parametrize("in_app", [in_flask, in_quart])


@apps
def test_the_end_removes_pending_uploads(
    in_app: Callable[[list[Work], float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A failed undo does not stop the others, and its key is logged."""
    removed: list[int] = []
    before = [lambda number=number: removed.append(number) for number in range(10)]
    in_app([*before, fail, run_out, lambda: removed.append(10)], PATIENCE)
    assert sorted(removed) == list(range(11))
    assert given_up(caplog) == {"key-10", "key-11"}


@apps
def test_the_end_waits_for_a_bounded_time(
    in_app: Callable[[list[Work], float], None], hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    """The key of each unfinished undo is logged, started or not."""
    in_app([hang] * (LAST_TRY_AT_ONCE + 1), 0.2)
    assert not hang.has_ended
    assert given_up(caplog) == {f"key-{number}" for number in range(LAST_TRY_AT_ONCE + 1)}


@apps
def test_an_end_with_nothing_to_remove_takes_no_time(in_app: Callable[[list[Work], float], None]) -> None:
    """A process without pending undos ends at once."""
    began = time.monotonic()
    in_app([], PATIENCE)
    assert time.monotonic() - began < PATIENCE


def test_a_process_ends_in_the_documented_time() -> None:
    """The phases of the end fit into the documented total, to which supervisors are set."""
    assert UNDO_SECONDS + ANSWER_SECONDS + LAST_TRY_SECONDS < END_SECONDS == 15


def test_the_end_waits_in_flask_for_abandoned_calls() -> None:
    """An abandoned call is undone after its end, even if no other undo is pending."""
    cleanup, call, removed = Cleanup(threading.Lock()), Future[None](), list[bool]()
    cleaner = flask_app.cleanup.Cleaner(cleanup, run)
    cleanup.after(call, undo_by(lambda: removed.append(call.done())), "request", "key")
    threading.Timer(0.2, call.set_result, [None]).start()
    cleaner.close()
    assert removed == [True]


async def test_the_end_waits_in_quart_for_abandoned_calls() -> None:
    """An abandoned call is undone after its end, even if no other undo is pending."""
    cleanup, removed = Cleanup(), list[bool]()
    cleaner = quart_app.cleanup.Cleaner(cleanup, run_async)
    call = asyncio.create_task(asyncio.sleep(0.2))
    cleanup.after(call, undo_by(lambda: removed.append(call.done())), "request", "key")
    await cleaner.close()
    assert removed == [True]


async def test_an_abandoned_call_that_does_not_end_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both apps log the call's key after the time limit."""
    for module in (flask_app.cleanup, quart_app.cleanup):
        monkeypatch.setattr(module, "LAST_TRY_SECONDS", 0.2)
    flasks, quarts = Cleanup(threading.Lock()), Cleanup()
    flask, quart = flask_app.cleanup.Cleaner(flasks, run), quart_app.cleanup.Cleaner(quarts, run_async)
    flasks.after(Future[None](), undo_by(fail), "request", "key-flask")
    call = asyncio.create_task(asyncio.Event().wait())
    quarts.after(call, undo_by(fail), "request", "key-quart")
    await asyncio.to_thread(flask.close)
    await quart.close()
    assert given_up(caplog) == {"key-flask", "key-quart"}
    call.cancel()


@pytest.mark.parametrize("error", [StoreUnavailable("S3 did not respond."), MemoryError()], ids=["S3", "memory"])
async def test_a_failed_undo_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both apps retry a failed undo, also after a MemoryError."""
    for module in (flask_app.cleanup, quart_app.cleanup):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    tries: list[str] = []
    in_flask, in_quart = threading.Event(), asyncio.Event()

    def undo(app: str, removed: threading.Event | asyncio.Event) -> None:
        tries.append(app)
        if tries.count(app) == 1:
            raise error
        removed.set()

    flasks, quarts = Cleanup(threading.Lock()), Cleanup()
    flask, quart = flask_app.cleanup.Cleaner(flasks, run), quart_app.cleanup.Cleaner(quarts, run_async)
    flasks.later(undo_by(lambda: undo("flask", in_flask)), "request", "key")
    quarts.later(undo_by(lambda: undo("quart", in_quart)), "request", "key")
    assert await asyncio.to_thread(in_flask.wait, PATIENCE)
    await asyncio.wait_for(in_quart.wait(), PATIENCE)
    await asyncio.to_thread(flask.close)
    await quart.close()
    assert sorted(tries) == ["flask", "flask", "quart", "quart"]
