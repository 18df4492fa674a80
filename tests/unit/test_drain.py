"""The end of a process by a clock of the test: late uploads, the stop, and the errors after it."""

import pytest

from filehandoff import cancellation
from filehandoff.admission import LATE_SECONDS
from filehandoff.drain import Drain
from filehandoff.errors import Overloaded, StoreRejected


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def drain(clock: Clock) -> Drain:
    """A process by this clock."""
    return Drain(clock)


def nothing() -> None:
    """Stop nothing."""


def test_a_process_is_ready_until_it_refuses(drain: Drain) -> None:
    """Running uploads go on."""
    drain.check_ready()
    assert (drain.ends, drain.stopped) == (False, False)
    drain.refuse()
    assert (drain.ends, drain.stopped) == (True, False)
    with pytest.raises(Overloaded, match="shutting down"):
        drain.check_ready()
    drain.check()


def test_a_late_upload_runs_and_a_later_one_is_refused(drain: Drain, clock: Clock) -> None:
    """The client of the first one sent it to a process that was ready."""
    drain.refuse()
    clock.now += LATE_SECONDS
    with drain.upload(nothing):
        pass
    clock.now += 0.1
    with pytest.raises(Overloaded, match="shutting down"), drain.upload(nothing):
        pytest.fail("a late upload was taken")


def test_a_second_refusal_lets_no_later_upload_begin(drain: Drain, clock: Clock) -> None:
    """The time counts from the first one."""
    drain.refuse()
    clock.now += LATE_SECONDS + 0.1
    drain.refuse()
    with pytest.raises(Overloaded), drain.upload(nothing):
        pytest.fail("a late upload was taken")


def test_the_stop_ends_each_upload_and_download_once(drain: Drain) -> None:
    """Those that ended before are left alone, and a second stop does nothing."""
    ended: list[str] = []
    with drain.upload(lambda: ended.append("over")), drain.download(lambda: ended.append("over")):
        pass
    with drain.download(lambda: ended.append("download")), drain.upload(lambda: ended.append("upload")):
        drain.stop()
        drain.stop()
    assert drain.stopped
    assert sorted(ended) == ["download", "upload"]
    with pytest.raises(Overloaded):
        drain.check()


def test_an_upload_sees_the_stop_by_its_context(drain: Drain) -> None:
    """Work that knows no drain asks for its cancellation; outside the block there is none."""
    with drain.upload(nothing):
        assert cancellation.current() is drain.cancellation
        drain.stop()
        with pytest.raises(Overloaded):
            cancellation.check()
    cancellation.check()


def test_an_error_after_the_stop_is_the_stops(drain: Drain) -> None:
    """The upload failed because it was stopped."""
    with pytest.raises(Overloaded, match="shutting down"), drain.upload(nothing):
        fail(drain, StoreRejected("the connection was cut"))


def test_an_error_before_the_stop_stays(drain: Drain) -> None:
    """It has a reason of its own; so have errors that are none of ours, after the stop too."""
    with pytest.raises(StoreRejected), drain.upload(nothing):
        raise StoreRejected("no")
    with pytest.raises(ZeroDivisionError), drain.upload(nothing):
        fail(drain, ZeroDivisionError())


def fail(drain: Drain, error: Exception) -> None:
    """Fail in a process that was stopped."""
    drain.stop()
    raise error


def test_an_upload_after_the_stop_is_refused(drain: Drain) -> None:
    """It is not among those that a later stop would end."""
    drain.stop()
    with pytest.raises(Overloaded), drain.upload(nothing):
        pytest.fail("an upload was taken after the stop")


def test_a_download_that_fails_is_forgotten(drain: Drain) -> None:
    """The stop does not end it."""
    with pytest.raises(ZeroDivisionError), drain.download(lambda: pytest.fail("ended twice")):
        raise ZeroDivisionError
    drain.stop()


def test_the_clock_of_a_process_is_the_systems() -> None:
    """Without a clock of the test, a refusal leaves late uploads their second."""
    drain = Drain()
    drain.refuse()
    with drain.upload(nothing):
        drain.check()
