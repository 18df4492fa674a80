"""Work that ends early: which reason counts, and where it holds."""

from contextlib import suppress
from contextvars import copy_context

import pytest

from filehandoff import cancellation
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.errors import Overloaded, RequestTimedOut


class Clock:
    """A clock that the test sets."""

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
    """A clock that stands still."""
    return Clock()


def test_work_goes_on_until_it_is_cancelled(clock: Clock) -> None:
    """From then on each check raises a new error."""
    one = Cancellation(clock=clock)
    one.check()
    one.cancel(inner)
    with pytest.raises(RequestTimedOut) as first:
        one.check()
    with pytest.raises(RequestTimedOut) as second:
        one.check()
    assert first.value is not second.value


def test_a_time_limit_holds_from_its_time_on(clock: Clock) -> None:
    """Not a moment before."""
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


def test_another_thread_sees_no_half_of_a_cancellation(clock: Clock) -> None:
    """At each moment a check raises the right error, or none."""
    one = Watched(clock=clock)
    one.cancel(inner)
    with pytest.raises(RequestTimedOut):
        one.check()


def test_the_outer_reason_comes_before_the_inner_one(clock: Clock) -> None:
    """Either of them ends the work."""
    outermost = Cancellation(clock=clock)
    innermost = Cancellation(outermost, clock)
    innermost.check()
    innermost.cancel(inner)
    with pytest.raises(RequestTimedOut):
        innermost.check()
    outermost.cancel(outer)
    with pytest.raises(Overloaded):
        innermost.check()


def test_an_inner_reason_does_not_hold_outside(clock: Clock) -> None:
    """The work around goes on."""
    outermost = Cancellation(clock=clock)
    Cancellation(outermost, clock).cancel(inner)
    outermost.check()


def test_the_seconds_since_the_end_are_those_of_the_earlier_reason(clock: Clock) -> None:
    """Below 0 the work may go on."""
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
    """There is no reason for it."""
    cancellation.check()
    assert cancellation.stopped_for() == float("-inf")


def test_a_cancellation_holds_for_its_block_alone(clock: Clock) -> None:
    """It ends with the block, even if the block fails."""
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
    """Both run in a copy of the context."""
    with cancelled_by(Cancellation(clock=clock)) as one:
        context = copy_context()
    one.cancel(inner)
    with pytest.raises(RequestTimedOut):
        context.run(cancellation.check)
    cancellation.check()
