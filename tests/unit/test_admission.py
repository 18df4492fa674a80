"""Requests queue for a place in both shells: threads in Flask, tasks in Quart."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from patience import PATIENCE, wait_until

import flask_app.admission
import quart_app.admission
from filehandoff.admission import SPARE_THREADS, busy, busy_reading, ending, reads_at_once, threads, upload_places
from filehandoff.errors import Overloaded


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait in the queue."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extend the wait in the queue until the other upload ends."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", PATIENCE)


def test_a_busy_process_names_its_limit() -> None:
    """The error for an upload above the limit names the limit."""
    assert "takes 7 uploads at once" in busy(7).detail


def test_the_error_of_an_ending_process_has_its_own_detail() -> None:
    """The code is the same as that of a busy process."""
    assert "shutting down" in ending().detail
    assert ending().code == busy(1).code == busy_reading(1).code == "overloaded"


def test_slow_requests_cannot_occupy_all_threads() -> None:
    """Running and queued uploads and requests for objects leave threads for /healthz."""
    assert threads(32) == 32 + 32 + reads_at_once(32) + SPARE_THREADS


@pytest.mark.usefixtures("impatient")
def test_a_thread_is_rejected_after_its_wait() -> None:
    """Flask rejects an upload without a place in time; afterwards all places are free again."""
    places = upload_places(2, threading.Lock())
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(flask_app.admission.place(places))
        with pytest.raises(Overloaded, match="2 uploads at once"), flask_app.admission.place(places):
            pass
    with flask_app.admission.place(places):
        pass


@pytest.mark.usefixtures("patient")
def test_a_thread_gets_the_place_of_an_ended_upload() -> None:
    """Flask admits a queued upload when another fails; a full queue rejects more."""
    places = upload_places(1, threading.Lock())
    let_in = threading.Event()

    def upload() -> None:
        with flask_app.admission.place(places):
            let_in.set()

    with ThreadPoolExecutor(1) as pool:
        with suppress(ZeroDivisionError), flask_app.admission.place(places):
            waiting = pool.submit(upload)
            wait_until(lambda: places.queued, lambda: "the upload does not wait")
            assert not let_in.is_set()
            with pytest.raises(Overloaded), flask_app.admission.place(places):
                pass
            raise ZeroDivisionError
        waiting.result(timeout=PATIENCE)


@pytest.mark.usefixtures("impatient")
async def test_a_task_is_rejected_after_its_wait() -> None:
    """Quart rejects an upload without a place in time; afterwards all places are free again."""
    places = upload_places(2)
    async with quart_app.admission.place(places), quart_app.admission.place(places):
        with pytest.raises(Overloaded, match="2 uploads at once"):
            async with quart_app.admission.place(places):
                pass
    async with quart_app.admission.place(places):
        pass


@pytest.mark.usefixtures("patient")
async def test_a_task_gets_the_place_of_an_ended_upload() -> None:
    """Quart admits a queued upload behind a cancelled one; a full queue rejects more."""
    places = upload_places(1)

    async def upload() -> str:
        async with quart_app.admission.place(places):
            return "let in"

    with suppress(ZeroDivisionError):
        async with quart_app.admission.place(places):
            cancelled = asyncio.create_task(upload())
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            waiting = asyncio.create_task(upload())
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await upload()
            raise ZeroDivisionError
    assert await waiting == "let in"
