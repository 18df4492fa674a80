"""Requests wait for a place in both shells, by a thread and by a task."""

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
    """Each wait ends soon."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait lasts until the other upload ends."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", PATIENCE)


def test_a_busy_process_names_its_limit() -> None:
    """The error for one upload too many names the limit."""
    assert "takes 7 uploads at once" in busy(7).detail


def test_an_ending_process_has_an_error_of_its_own() -> None:
    """The error at the end of a process has another detail and the same code."""
    assert "shutting down" in ending().detail
    assert ending().code == busy(1).code == busy_reading(1).code == "overloaded"


def test_there_are_more_threads_than_anything_slow_can_hold() -> None:
    """Uploads, those that wait, and requests for objects leave some threads for /healthz."""
    assert threads(32) == 32 + 32 + reads_at_once(32) + SPARE_THREADS


@pytest.mark.usefixtures("impatient")
def test_a_thread_is_refused_after_its_wait() -> None:
    """Flask refuses an upload that finds no place in its time; the places are free again afterwards."""
    places = upload_places(2, threading.Lock())
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(flask_app.admission.place(places))
        with pytest.raises(Overloaded, match="2 uploads at once"), flask_app.admission.place(places):
            pass
    with flask_app.admission.place(places):
        pass


@pytest.mark.usefixtures("patient")
def test_a_thread_gets_the_place_that_another_gives_back() -> None:
    """Flask admits an upload that waits when another fails; a third one finds the queue full."""
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
async def test_a_task_is_refused_after_its_wait() -> None:
    """Quart refuses an upload that finds no place in its time; the places are free again afterwards."""
    places = upload_places(2)
    async with quart_app.admission.place(places), quart_app.admission.place(places):
        with pytest.raises(Overloaded, match="2 uploads at once"):
            async with quart_app.admission.place(places):
                pass
    async with quart_app.admission.place(places):
        pass


@pytest.mark.usefixtures("patient")
async def test_a_task_gets_the_place_that_another_gives_back() -> None:
    """Quart admits an upload that waits, also after one in the queue was cancelled; a third finds the queue full."""
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
