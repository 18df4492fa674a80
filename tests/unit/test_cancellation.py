"""Cancellation of work: the precedence of reasons, and the scope."""

from contextlib import suppress
from contextvars import copy_context

import pytest

from filehandoff import cancellation
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import Overloaded, RequestTimedOut


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def inner() -> RequestTimedOut:
    """Make the error of the inner reason."""
    return RequestTimedOut("inner")


def outer() -> Overloaded:
    """Make the error of the outer reason."""
    return Overloaded("outer")


@pytest.fixture
def clock() -> Clock:
    """Make a clock that stands still."""
    return Clock()


def test_work_goes_on_until_it_is_cancelled(clock: Clock) -> None:
    """After the cancellation, each check raises a new error."""
    one = Cancellation(clock=clock)
    one.check()
    one.cancel(inner)
    with pytest.raises(RequestTimedOut) as first:
        one.check()
    with pytest.raises(RequestTimedOut) as second:
        one.check()
    assert first.value is not second.value


def test_a_time_limit_applies_at_its_time(clock: Clock) -> None:
    """No check before the time raises an error."""
    one = Cancellation(clock=clock)
    one.cancel(inner, at=110.0)
    clock.now = 109.9
    one.check()
    clock.now = 110.0
    with pytest.raises(RequestTimedOut):
        one.check()


def test_the_first_reason_counts(clock: Clock) -> None:
    """A second call changes neither the error nor the time."""
    one = Cancellation(clock=clock)
    one.cancel(inner, at=110.0)
    one.cancel(outer)
    one.check()
    clock.now = 110.0
    with pytest.raises(RequestTimedOut):
        one.check()


class Watched(Cancellation):
    """A cancellation that another thread checks after each change of its state."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if hasattr(self, "_error"):
            with suppress(RequestTimedOut):
                self.check()


def test_another_thread_sees_no_half_made_cancellation(clock: Clock) -> None:
    """A check after each change of the state raises the right error or none."""
    one = Watched(clock=clock)
    one.cancel(inner)
    with pytest.raises(RequestTimedOut):
        one.check()


def test_the_outer_reason_precedes_the_inner_one(clock: Clock) -> None:
    """Either reason cancels the work."""
    outermost = Cancellation(clock=clock)
    innermost = Cancellation(outermost, clock)
    innermost.check()
    innermost.cancel(inner)
    with pytest.raises(RequestTimedOut):
        innermost.check()
    outermost.cancel(outer)
    with pytest.raises(Overloaded):
        innermost.check()


def test_an_inner_reason_does_not_apply_outside(clock: Clock) -> None:
    """The surrounding work continues."""
    outermost = Cancellation(clock=clock)
    Cancellation(outermost, clock).cancel(inner)
    outermost.check()


def test_the_seconds_count_from_the_earlier_reason(clock: Clock) -> None:
    """Negative seconds mean that the work may continue."""
    outermost = Cancellation(clock=clock)
    innermost = Cancellation(outermost, clock)
    assert innermost.stopped_for() == float("-inf")
    innermost.cancel(inner, at=110.0)
    assert innermost.stopped_for() == -10.0
    outermost.cancel(outer)
    clock.now = 103.0
    assert innermost.stopped_for() == 3.0
    assert outermost.stopped_for() == 3.0


def test_work_outside_any_block_is_never_cancelled() -> None:
    """The default cancellation never applies."""
    cancellation.check()
    assert cancellation.stopped_for() == float("-inf")


def test_a_cancellation_applies_to_its_block_only(clock: Clock) -> None:
    """The scope ends with the block, even if the block fails."""
    before = cancellation.current()
    one = Cancellation(before, clock)
    one.cancel(inner)
    with cancelled_by(one) as given:
        assert given is cancellation.current() is one
        assert cancellation.stopped_for() == 0.0
    with pytest.raises(RequestTimedOut), cancelled_by(one):
        cancellation.check()
    assert cancellation.current() is before


def test_a_cancellation_follows_the_work_into_its_threads_and_tasks(clock: Clock) -> None:
    """Threads and tasks run in a copy of the context."""
    with cancelled_by(Cancellation(clock=clock)) as one:
        context = copy_context()
    one.cancel(inner)
    with pytest.raises(RequestTimedOut):
        context.run(cancellation.check)
    cancellation.check()
