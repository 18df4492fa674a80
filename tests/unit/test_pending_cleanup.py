"""Pending undos with the test's clock: order and end of retries, and log."""

import re
from concurrent.futures import Future
from functools import partial
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.s3.script import DENIED, Line, expect, play

from filehandoff import logs
from filehandoff.errors import StoreUnavailable
from filehandoff.s3 import calls, cleanup
from filehandoff.s3.calls import Flow
from filehandoff.s3.cleanup import FIRST_PAUSE, GIVE_UP_AFTER, LONGEST_PAUSE, MAX_PENDING, Cleanup, next_pause

SILENCE = StoreUnavailable("S3 is silent.")


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Make a clock that stands still."""
    return Clock()


@pytest.fixture
def pending(clock: Clock) -> Cleanup:
    """Make a cleanup with this clock."""
    return Cleanup(clock=clock)


def remove(key: str) -> Flow[None]:
    """Remove the object of this key."""
    return iter(calls.delete_object(key))


def add(pending: Cleanup, *keys: str) -> None:
    """Queue the removal of these keys."""
    for key in keys:
        pending.later(partial(remove, key), f"request-{key}", key)


def tried(key: str, answer: object = None) -> Line:
    """The call that removes the object of this key."""
    return expect("delete_object", answer, Key=key)


def given_up(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged keys, in order."""
    lines = [record.getMessage() for record in caplog.records]
    return [key for line in lines for key in re.findall("the upload of '(.+)' is given up", line)]


def test_a_new_cleanup_has_nothing_to_do(pending: Cleanup) -> None:
    """The cleanup is false, has no waiting undo, and makes no call."""
    assert not pending
    assert not pending.waits
    assert play(pending.try_all()) is False
    play(pending.try_last())


def test_uploads_are_removed_in_order(pending: Cleanup) -> None:
    """The result is whether an upload was removed."""
    add(pending, "a", "b")
    assert pending
    assert pending.waits
    assert play(pending.try_all(), tried("a"), tried("b")) is True
    assert not pending


def test_an_upload_wakes_the_driver(pending: Cleanup) -> None:
    """The driver sleeps until `wake` is called."""
    woken: list[bool] = []
    pending.wake = lambda: woken.append(pending.waits)
    add(pending, "a")
    call = Future[None]()
    pending.after(call, partial(remove, "b"), "request", "b")
    assert woken == [True]
    call.set_result(None)
    assert woken == [True, True]


@pytest.mark.parametrize("error", [SILENCE, DENIED, MemoryError()], ids=["silence", "denied", "memory"])
def test_the_first_failure_ends_the_round(pending: Cleanup, error: object) -> None:
    """The failed undo moves to the end of the queue."""
    add(pending, "a", "b", "c")
    assert play(pending.try_all(), tried("a"), tried("b", error)) is True
    assert play(pending.try_all(), tried("c"), tried("b", error)) is True
    assert play(pending.try_all(), tried("b", error)) is False
    assert play(pending.try_all(), tried("b")) is True
    assert not pending


def test_an_upload_is_retried_until_its_time_limit(
    pending: Cleanup, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After the limit, its key is logged with the cause of the failure."""
    add(pending, "a")
    clock.now += GIVE_UP_AFTER - 1
    play(pending.try_all(), tried("a", SILENCE))
    assert pending
    assert given_up(caplog) == []
    clock.now += 1
    play(pending.try_all(), tried("a", SILENCE))
    assert not pending
    assert given_up(caplog) == ["a"]
    assert "S3 is silent" in caplog.text


def test_the_oldest_upload_is_given_up_above_the_maximum(pending: Cleanup, caplog: pytest.LogCaptureFixture) -> None:
    """The queue is bounded during an outage of S3; the log has the key."""
    add(pending, *(str(number) for number in range(MAX_PENDING)))
    assert given_up(caplog) == []
    add(pending, str(MAX_PENDING))
    assert given_up(caplog) == ["0"]
    script = [tried(str(number)) for number in range(1, MAX_PENDING + 1)]
    assert play(pending.try_all(), *script) is True


def test_an_abandoned_call_must_end_before_its_upload_is_removed(pending: Cleanup) -> None:
    """The call might store the object after an early removal."""
    call = Future[None]()
    pending.after(call, partial(remove, "a"), "request", "a")
    assert pending
    assert not pending.waits
    assert play(pending.try_all()) is False
    call.set_result(None)
    assert play(pending.try_all(), tried("a")) is True
    assert not pending


def test_the_undo_of_an_ended_call_waits_at_once(pending: Cleanup, caplog: pytest.LogCaptureFixture) -> None:
    """The undo of a call that has ended before is not held."""
    call = Future[None]()
    call.set_exception(SILENCE)
    pending.after(call, partial(remove, "a"), "request", "a")
    pending.give_up_all()
    assert given_up(caplog) == ["a"]
    assert play(pending.try_all(), tried("a")) is True


def test_a_running_undo_is_pending(pending: Cleanup) -> None:
    """A running undo does not wait, and no second flow starts it."""
    add(pending, "a")
    flow = pending.try_all()
    next(flow)
    assert pending
    assert not pending.waits
    assert play(pending.try_all()) is False
    with pytest.raises(StopIteration):
        flow.send(None)
    assert not pending


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=["interrupted", "closed"])
@pytest.mark.parametrize("last", [False, True], ids=["ordinary", "last"])
def test_a_cancelled_retry_puts_its_upload_back(pending: Cleanup, error: BaseException, *, last: bool) -> None:
    """The upload waits for the next retry, and is no longer held."""
    add(pending, "a")
    flow: Flow[object] = pending.try_last() if last else pending.try_all()
    next(flow)
    with pytest.raises(type(error)):
        flow.throw(error)
    assert pending.waits
    play(pending.try_all(), tried("a"))
    assert not pending


def test_the_last_try_tries_each_upload_once(pending: Cleanup, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged with its key, and the next undo follows."""
    add(pending, "a", "b", "c", "d")
    play(pending.try_last(), tried("a", SILENCE), tried("b"), tried("c", MemoryError()), tried("d"))
    assert given_up(caplog) == ["a", "c"]
    assert not pending


def test_parallel_last_tries_share_the_uploads(pending: Cleanup) -> None:
    """Each upload is undone by one of the flows."""
    add(pending, "a", "b")
    flows = pending.try_last(), pending.try_last()
    assert [next(flow).parameters["Key"] for flow in flows] == ["a", "b"]  # type: ignore[attr-defined] # calls
    for flow in flows:
        with pytest.raises(StopIteration):
            flow.send(None)
    assert not pending


def test_the_end_logs_each_pending_upload(pending: Cleanup, caplog: pytest.LogCaptureFixture) -> None:
    """The log has waiting uploads, running undos and abandoned calls."""
    add(pending, "a", "b")
    flow = pending.try_all()
    next(flow)
    pending.after(Future[None](), partial(remove, "c"), "request", "c")
    pending.give_up_all()
    assert sorted(given_up(caplog)) == ["a", "b", "c"]
    assert "the process ends" in caplog.text
    flow.close()


def test_the_cause_of_a_failure_is_logged(caplog: pytest.LogCaptureFixture, pending: Cleanup) -> None:
    """The line has the message of S3 or the network."""
    error = StoreUnavailable("S3 is silent.")
    error.__cause__ = OSError("connection refused")
    add(pending, "a")
    play(pending.try_last(), tried("a", error))
    assert "connection refused" in caplog.text


def test_a_retry_logs_the_id_of_its_request(pending: Cleanup) -> None:
    """Afterwards the driver's own id is bound again."""
    seen: list[str] = []

    def undo() -> Flow[None]:
        seen.append(logs.bound_id())
        yield from remove("a")

    pending.later(undo, "a-request", "a")
    with logs.bound("another"):
        play(pending.try_all(), tried("a"))
        seen.append(logs.bound_id())
    assert seen == ["a-request", "another"]


def test_the_state_is_guarded_by_the_lock(clock: Clock) -> None:
    """A future may end in another thread; no call to S3 holds the lock."""
    lock = MagicMock()
    pending = Cleanup(lock, clock)
    for change in (partial(add, pending, "a"), partial(bool, pending), partial(next, pending.try_all())):
        lock.reset_mock()
        change()
        assert lock.__enter__.call_count == lock.__exit__.call_count == 1


def test_the_pause_doubles_up_to_the_longest() -> None:
    """A removal resets the pause to the first one."""
    assert next_pause(FIRST_PAUSE, removed=False) == 2 * FIRST_PAUSE
    assert next_pause(LONGEST_PAUSE - 1, removed=False) == LONGEST_PAUSE
    assert next_pause(LONGEST_PAUSE, removed=True) == FIRST_PAUSE


def test_the_end_takes_as_long_as_its_phases() -> None:
    """One second is added, because gunicorn polls once a second."""
    parts = cleanup.UNDO_SECONDS + cleanup.ANSWER_SECONDS + cleanup.LAST_TRY_SECONDS
    assert parts + 1 == cleanup.END_SECONDS


#: An upload that comes; a run in which so many calls succeed, and the next one fails; a call that ends; an hour.
steps = st.one_of(
    st.just("later"), st.just("after"), st.just("hour"), st.just("ends"), st.integers(0, 3), st.just("cut off")
)


@given(st.lists(steps, max_size=30))
def test_nothing_is_lost(taken: list[str | int]) -> None:
    """In any order of events, each upload is removed, pending, or logged as given up."""
    world = World()
    for number, step in enumerate(taken):
        world.step(step, str(number))
        assert world.removed | world.given_up | world.pending_keys() == world.keys
        assert not world.removed & world.pending_keys()


class World:
    """A cleanup, its clock, and the fate of each upload."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cleanup = Cleanup(clock=self.clock)
        self.calls: list[Future[None]] = []
        self.keys = set[str]()
        self.removed = set[str]()
        self.given_up = set[str]()

    def step(self, step: str | int, key: str) -> None:
        """Do one step; a new upload has this key."""
        match step:
            case "later":
                self.keys.add(key)
                self.cleanup.later(partial(remove, key), "request", key)
            case "after":
                self.keys.add(key)
                self.calls.append(Future())
                self.cleanup.after(self.calls[-1], partial(remove, key), "request", key)
            case "ends" if self.calls:
                self.calls.pop().set_result(None)
            case "hour":
                self.clock.now += GIVE_UP_AFTER
            case int():
                self._try(step, SILENCE)
            case "cut off":
                self._try(1, KeyboardInterrupt())

    def _try(self, successes: int, error: BaseException) -> None:
        flow = self.cleanup.try_all()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cleanup, "give_up", lambda pending, _reason: self.given_up.add(pending.key))
            try:
                call = next(flow)
                while successes:
                    self.removed.add(call.parameters["Key"])  # type: ignore[attr-defined] # a call
                    successes -= 1
                    call = flow.send(None)
                flow.throw(error)
            except (StopIteration, KeyboardInterrupt):
                return

    def pending_keys(self) -> set[str]:
        """Return the keys that the end of the process would log."""
        keys = set[str]()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cleanup, "give_up", lambda pending, _reason: keys.add(pending.key))
            self.cleanup.give_up_all()
        return keys
