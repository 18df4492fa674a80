"""Places without a shell: a limit on concurrent requests, and a FIFO queue."""

from contextlib import AbstractContextManager, nullcontext
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.admission import (
    SPARE_THREADS,
    Place,
    Places,
    busy,
    busy_reading,
    ending,
    read_places,
    reads_at_once,
    threads,
    upload_places,
)
from filehandoff.errors import Overloaded


def test_a_free_place_is_taken_at_once() -> None:
    """The next request waits, and the one after it is rejected."""
    places = Places(2, 1, busy)
    assert places.ask().admitted
    assert places.ask().admitted
    assert not places.ask().admitted
    assert places.queued == 1
    with pytest.raises(Overloaded, match="takes 2 uploads at once"):
        places.ask()


def test_a_place_goes_to_the_oldest_queued_request() -> None:
    """Only the admitted request is woken."""
    places, woken = Places(1, 3, busy), list[tuple[str, bool]]()
    running = places.ask()
    waiting: dict[str, Place] = {}
    for name in "abc":
        waiting[name] = places.ask(lambda name=name: woken.append((name, waiting[name].admitted)))  # type: ignore[misc] # mypy does not infer the default's type
    places.leave(running)
    assert woken == [("a", True)]
    places.leave(waiting["a"])
    assert woken == [("a", True), ("b", True)]
    assert places.queued == 1


def test_a_request_may_leave_the_queue() -> None:
    """The requests behind it move up."""
    places, woken = Places(1, 2, busy), list[str]()
    running = places.ask()
    first = places.ask(lambda: woken.append("first"))
    places.ask(lambda: woken.append("second"))
    places.leave(first)
    assert places.queued == 1
    places.leave(running)
    assert woken == ["second"]


def test_a_returned_place_is_free() -> None:
    """With an empty queue, the next request takes the place."""
    places = Places(1, 0, busy)
    places.leave(places.ask())
    assert places.ask().admitted


def test_a_request_is_rejected_after_its_longest_wait() -> None:
    """The rejected request must still leave the queue."""
    places = Places(1, 1, busy)
    places.ask()
    waiting = places.ask()
    with pytest.raises(Overloaded, match="takes 1 uploads"):
        places.end_wait(waiting)
    assert places.queued == 1
    places.leave(waiting)
    assert places.queued == 0


def test_a_request_that_was_admitted_at_the_last_moment_runs() -> None:
    """The end of its wait raises no error."""
    places = Places(1, 1, busy)
    running, waiting = places.ask(), places.ask()
    places.leave(running)
    places.end_wait(waiting)
    with pytest.raises(Overloaded):
        Places(0, 0, busy).ask()


def test_a_place_is_held_for_a_block() -> None:
    """A failed block returns its place; a request above the limit is rejected at once."""
    places = read_places(1)
    with pytest.raises(ZeroDivisionError), places.held(), places.held():
        raise ZeroDivisionError
    with places.held(), places.held():
        with pytest.raises(Overloaded, match="serves 2 requests for objects"), places.held():
            pytest.fail("a third request was admitted")
        assert places.queued == 0


def test_uploads_have_a_queue_and_reads_have_none() -> None:
    """Uploads have a queue as long as their limit, reads twice the places."""
    uploads, reads = upload_places(3), read_places(3)
    assert [uploads.ask().admitted for _ in range(6)] == [True] * 3 + [False] * 3
    assert [reads.ask().admitted for _ in range(reads_at_once(3))] == [True] * 6
    for places in (uploads, reads):
        with pytest.raises(Overloaded):
            places.ask()


def test_slow_requests_leave_threads_free() -> None:
    """Uploads, the queue and reads cannot occupy all threads."""
    assert threads(32) == 32 + 32 + reads_at_once(32) + SPARE_THREADS


def test_each_rejection_has_the_same_code() -> None:
    """Only the details differ."""
    errors = busy(1), busy_reading(1), ending()
    assert {error.code for error in errors} == {"overloaded"}
    assert len({error.detail for error in errors}) == 3


def test_the_state_is_guarded_by_the_lock() -> None:
    """Each change takes the lock once, so it need not be reentrant."""
    lock = MagicMock()
    places = Places(1, 1, busy, lock)
    running, waiting = places.ask(), places.ask()
    places.leave(running)
    places.end_wait(waiting)
    places.leave(waiting)
    assert lock.__enter__.call_count == lock.__exit__.call_count == 5


@pytest.mark.parametrize("lock", [None, nullcontext()])
@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.integers(-1, 5), max_size=40))
def test_never_more_than_at_once_are_admitted(
    lock: AbstractContextManager[object] | None, at_once: int, waiting: int, steps: list[int]
) -> None:
    """No place is free while a request waits; the queue wakes each once, in order."""
    places, present, woken = Places(at_once, waiting, busy, lock), list[Place](), list[Place]()
    for step in steps:
        if step < 0 or step >= len(present):
            ask(places, present, woken, full=len(present) == at_once + waiting)
        else:
            places.leave(present.pop(step))
        admitted = [place for place in present if place.admitted]
        assert len(admitted) == min(at_once, len(present))
        assert places.queued == len(present) - len(admitted)
        assert present[: len(admitted)] == admitted  # present is in the order of arrival
        assert len(set(map(id, woken))) == len(woken)


def ask(places: Places, present: list[Place], woken: list[Place], *, full: bool) -> None:
    """Request a place, which fails exactly if all places and the queue are full."""
    if full:
        with pytest.raises(Overloaded):
            places.ask()
        return
    place = places.ask(lambda: woken.append(place))
    present.append(place)
