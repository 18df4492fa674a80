"""For how long what could not be undone is tried again, and what becomes of it at the end of the process."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

import pytest
from patience import PATIENCE

import flask_app.undoing
import quart_app.undoing
from filehandoff.errors import StoreUnavailable
from filehandoff.undoing import (
    ANSWER_SECONDS,
    END_SECONDS,
    FIRST_PAUSE,
    GIVE_UP_AFTER,
    LAST_TRY_AT_ONCE,
    LAST_TRY_SECONDS,
    LONGEST_PAUSE,
    UNDO_SECONDS,
    until,
)


def test_what_is_to_be_undone_is_given_up_after_an_hour() -> None:
    """It is tried until then, and at least once a minute."""
    assert until(100.0) == 100.0 + GIVE_UP_AFTER
    assert FIRST_PAUSE < LONGEST_PAUSE < 60 < GIVE_UP_AFTER


@pytest.fixture(autouse=True)
def no_ordinary_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried before the end of the process."""
    for module in (flask_app.undoing, quart_app.undoing):
        monkeypatch.setattr(module, "FIRST_PAUSE", PATIENCE)


def in_flask(undos: list[Callable[[], None]], seconds: float) -> None:
    """Have them undone by Flask's `Undoing` at the end of the process, which gives it so many seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_app.undoing, "LAST_TRY_SECONDS", seconds)
        undoing = flask_app.undoing.Undoing()
        for number, undo in enumerate(undos):
            undoing.later(undo, f"request-{number}", f"key-{number}")
        undoing.close()


def in_quart(undos: list[Callable[[], None]], seconds: float) -> None:
    """Likewise by Quart's, where what takes too long is awaited."""

    async def awaited(undo: Callable[[], None]) -> None:
        if isinstance(undo, Hang):
            await asyncio.Event().wait()
        undo()

    async def run() -> None:
        undoing = quart_app.undoing.Undoing()
        for number, undo in enumerate(undos):
            undoing.later(partial(awaited, undo), f"request-{number}", f"key-{number}")
        await undoing.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quart_app.undoing, "LAST_TRY_SECONDS", seconds)
        asyncio.run(run())


def fail() -> None:
    """An undo that S3 says no to."""
    raise StoreUnavailable("S3 did not answer.")


def run_out() -> None:
    """An undo for which the memory does not suffice."""
    raise MemoryError


class Hang:
    """An undo that S3 does not answer before the test is over."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.has_ended = False

    def __call__(self) -> None:
        """Hang."""
        self.may_end.wait(PATIENCE)
        self.has_ended = True


@pytest.fixture
def hang() -> Iterator[Hang]:
    """An undo that hangs until the test is over."""
    hang = Hang()
    yield hang
    hang.may_end.set()


def given_up(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The keys that the log tells as given up."""
    return {key for record in caplog.records for key in re.findall("'(key-.+)' is given up", record.getMessage())}


apps = pytest.mark.parametrize("in_app", [in_flask, in_quart])


@apps
def test_the_end_undoes_what_waits(
    in_app: Callable[[list[Callable[[], None]], float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """All of it, at once, also behind one that fails again: that is told by its key."""
    undone: list[int] = []
    before = [partial(undone.append, number) for number in range(10)]
    in_app([*before, fail, run_out, partial(undone.append, 10)], PATIENCE)
    assert sorted(undone) == list(range(11))
    assert given_up(caplog) == {"key-10", "key-11"}


@apps
def test_the_end_waits_so_long_and_no_longer(
    in_app: Callable[[list[Callable[[], None]], float], None], hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    """What S3 does not answer in the time is told by its key as well, and so is what was never begun for it."""
    in_app([hang] * (LAST_TRY_AT_ONCE + 1), 0.2)
    assert not hang.has_ended
    assert given_up(caplog) == {f"key-{number}" for number in range(LAST_TRY_AT_ONCE + 1)}


@apps
def test_an_end_with_nothing_to_undo_takes_no_time(
    in_app: Callable[[list[Callable[[], None]], float], None],
) -> None:
    """A process that has undone everything ends at once."""
    began = time.monotonic()
    in_app([], PATIENCE)
    assert time.monotonic() - began < PATIENCE


def test_a_process_ends_in_the_time_that_is_told() -> None:
    """The parts of its end are no longer than the whole, of which supervisors are told."""
    assert UNDO_SECONDS + ANSWER_SECONDS + LAST_TRY_SECONDS < END_SECONDS == 15


def test_the_end_waits_in_flask_for_calls_that_were_left() -> None:
    """What such a call has done is undone when it ends, also when nothing else is to be undone."""
    undoing, call, undone = flask_app.undoing.Undoing(), Future[None](), list[bool]()
    undoing.after(call, lambda: undone.append(call.done()), "request", "key")
    threading.Timer(0.2, call.set_result, [None]).start()
    undoing.close()
    assert undone == [True]


async def test_the_end_waits_in_quart_for_calls_that_were_left() -> None:
    """Likewise."""
    undoing, undone = quart_app.undoing.Undoing(), list[bool]()
    call = asyncio.create_task(asyncio.sleep(0.2))

    async def undo() -> None:
        undone.append(call.done())

    undoing.after(call, undo, "request", "key")
    await undoing.close()
    assert undone == [True]


async def test_a_call_that_was_left_and_does_not_end_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the key of its object, in both apps, when the time is over."""
    for module in (flask_app.undoing, quart_app.undoing):
        monkeypatch.setattr(module, "LAST_TRY_SECONDS", 0.2)
    in_flask, in_quart = flask_app.undoing.Undoing(), quart_app.undoing.Undoing()
    in_flask.after(Future[None](), fail, "request", "key-flask")
    call = asyncio.create_task(asyncio.Event().wait())
    in_quart.after(call, partial(asyncio.sleep, 0), "request", "key-quart")
    await asyncio.to_thread(in_flask.close)
    await in_quart.close()
    assert given_up(caplog) == {"key-flask", "key-quart"}
    call.cancel()


@pytest.mark.parametrize("error", [StoreUnavailable("S3 did not answer."), MemoryError()], ids=["S3", "memory"])
async def test_a_failed_undo_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both apps keep an undo that fails for the next try, also if memory is short."""
    for module in (flask_app.undoing, quart_app.undoing):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    tries: list[str] = []
    undone = threading.Event(), asyncio.Event()

    def undo() -> None:
        tries.append("flask")
        if tries.count("flask") == 1:
            raise error
        undone[0].set()

    async def undo_async() -> None:
        tries.append("quart")
        if tries.count("quart") == 1:
            raise error
        undone[1].set()

    in_flask, in_quart = flask_app.undoing.Undoing(), quart_app.undoing.Undoing()
    in_flask.later(undo, "request", "key")
    in_quart.later(undo_async, "request", "key")
    assert await asyncio.to_thread(undone[0].wait, PATIENCE)
    await asyncio.wait_for(undone[1].wait(), PATIENCE)
    await asyncio.to_thread(in_flask.close)
    await in_quart.close()
    assert sorted(tries) == ["flask", "flask", "quart", "quart"]
