"""The shutdown with the test's clock: late uploads, the stop, and the errors after it."""

import pytest

from filehandoff import cancellation
from filehandoff.admission import LATE_SECONDS
from filehandoff.drain import Drain
from filehandoff.errors import Overloaded, StoreRejected


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
def drain(clock: Clock) -> Drain:
    """Make a drain with this clock."""
    return Drain(clock)


def nothing() -> None:
    """Stop nothing."""


def test_a_process_is_ready_until_its_shutdown(drain: Drain) -> None:
    """Uploads in progress continue."""
    drain.check_ready()
    assert (drain.ends, drain.stopped) == (False, False)
    drain.refuse()
    assert (drain.ends, drain.stopped) == (True, False)
    with pytest.raises(Overloaded, match="shutting down"):
        drain.check_ready()
    drain.check()


def test_a_late_upload_runs_and_a_later_one_is_rejected(drain: Drain, clock: Clock) -> None:
    """The late upload's client chose a ready process."""
    drain.refuse()
    clock.now += LATE_SECONDS
    with drain.upload(nothing):
        pass
    clock.now += 0.1
    with pytest.raises(Overloaded, match="shutting down"), drain.upload(nothing):
        pytest.fail("a late upload was taken")


def test_a_second_refuse_does_not_extend_the_time(drain: Drain, clock: Clock) -> None:
    """The time counts from the first call of `refuse`."""
    drain.refuse()
    clock.now += LATE_SECONDS + 0.1
    drain.refuse()
    with pytest.raises(Overloaded), drain.upload(nothing):
        pytest.fail("a late upload was taken")


def test_the_stop_ends_each_upload_and_download_once(drain: Drain) -> None:
    """Ended uploads are not stopped, and a second stop does nothing."""
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


def test_an_upload_checks_the_stop_by_its_context(drain: Drain) -> None:
    """Work without the drain checks the current cancellation, which applies in the block."""
    with drain.upload(nothing):
        assert cancellation.current() is drain.cancellation
        drain.stop()
        with pytest.raises(Overloaded):
            cancellation.check()
    cancellation.check()


def test_an_error_after_the_stop_becomes_overloaded(drain: Drain) -> None:
    """The stop caused the upload's error."""
    with pytest.raises(Overloaded, match="shutting down"), drain.upload(nothing):
        fail(drain, StoreRejected("the connection was cut"))


def test_an_error_before_the_stop_is_raised_unchanged(drain: Drain) -> None:
    """Only an UploadError after the stop changes; earlier and other errors stay."""
    with pytest.raises(StoreRejected), drain.upload(nothing):
        raise StoreRejected("no")
    with pytest.raises(ZeroDivisionError), drain.upload(nothing):
        fail(drain, ZeroDivisionError())


def fail(drain: Drain, error: Exception) -> None:
    """Stop the drain, then raise the error."""
    drain.stop()
    raise error


def test_an_upload_after_the_stop_is_rejected(drain: Drain) -> None:
    """The upload is not registered."""
    drain.stop()
    with pytest.raises(Overloaded), drain.upload(nothing):
        pytest.fail("an upload was taken after the stop")


def test_a_download_that_fails_is_forgotten(drain: Drain) -> None:
    """The stop does not call its `hang_up`."""
    with pytest.raises(ZeroDivisionError), drain.download(lambda: pytest.fail("ended twice")):
        raise ZeroDivisionError
    drain.stop()


def test_the_default_clock_is_the_systems() -> None:
    """With the default clock, late uploads have `LATE_SECONDS` after `refuse`."""
    drain = Drain()
    drain.refuse()
    with drain.upload(nothing):
        drain.check()
