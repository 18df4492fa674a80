"""Who is admitted, in both shells: so many at once, as many again wait for their turn, and the rest is refused."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from types import ModuleType

import pytest
from patience import PATIENCE, wait_until

import flask_app.admission
import quart_app.admission
from filehandoff.admission import SPARE_THREADS, busy, busy_reading, ending, reads_at_once, threads
from filehandoff.errors import Overloaded


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gives up soon."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits does so until the other upload ends."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", PATIENCE)


def test_a_busy_process_says_how_many_it_takes() -> None:
    """The error for one upload too many names the limit."""
    assert "takes 7 uploads at once" in busy(7).detail


def test_an_ending_process_says_so() -> None:
    """The error at the end of a process is another one of the same code."""
    assert "shutting down" in ending().detail
    assert ending().code == busy(1).code == busy_reading(1).code == "overloaded"


def test_there_are_more_threads_than_anything_slow_can_hold() -> None:
    """Uploads, those that wait, and requests for objects leave some threads for /healthz."""
    assert threads(32) == 32 + 32 + reads_at_once(32) + SPARE_THREADS


@pytest.mark.parametrize("shell", [flask_app.admission, quart_app.admission])
def test_nobody_waits_to_read(shell: ModuleType) -> None:
    """One request for an object too many is refused at once; the next finds the place that another gave back."""
    reading = shell.Reading(2)
    with suppress(ZeroDivisionError), reading.place(), reading.place():
        with pytest.raises(Overloaded, match="answers 2 requests for objects at once"), reading.place():
            pass
        raise ZeroDivisionError
    with reading.place(), reading.place():
        pass


@pytest.mark.usefixtures("impatient")
def test_a_thread_waits_in_vain_where_all_places_are_taken() -> None:
    """Flask: who finds no place for as long as it may wait is refused."""
    admission = flask_app.admission.Admission(2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(admission.place())
        with pytest.raises(Overloaded, match="2 uploads at once"), admission.place():
            pass
    with admission.place():
        pass


@pytest.mark.usefixtures("patient")
def test_a_thread_gets_the_place_that_another_gives_back() -> None:
    """Flask: who waits is let in when a place is free, also after an upload that failed; nobody else waits so long."""
    admission = flask_app.admission.Admission(1)
    let_in = threading.Event()

    def upload() -> None:
        with admission.place():
            let_in.set()

    with ThreadPoolExecutor(1) as pool:
        with suppress(ZeroDivisionError), admission.place():
            waiting = pool.submit(upload)
            wait_until(lambda: not admission._waiting_places._value, lambda: "the upload does not wait")  # noqa: SLF001 - nothing else tells
            assert not let_in.is_set()
            with pytest.raises(Overloaded), admission.place():  # the one place to wait in is taken
                pass
            raise ZeroDivisionError
        waiting.result(timeout=PATIENCE)


@pytest.mark.usefixtures("impatient")
async def test_a_task_waits_in_vain_where_all_places_are_taken() -> None:
    """Quart: who finds no place for as long as it may wait is refused."""
    admission = quart_app.admission.Admission(2)
    async with admission.place(), admission.place():
        with pytest.raises(Overloaded, match="2 uploads at once"):
            async with admission.place():
                pass
    async with admission.place():
        pass


@pytest.mark.usefixtures("patient")
async def test_a_task_gets_the_place_that_another_gives_back() -> None:
    """Quart: who waits is let in when a place is free, also after one who waited was cancelled; nobody else waits."""
    admission = quart_app.admission.Admission(1)

    async def upload() -> str:
        async with admission.place():
            return "let in"

    with suppress(ZeroDivisionError):
        async with admission.place():
            cancelled = asyncio.create_task(upload())
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            waiting = asyncio.create_task(upload())
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):  # the one place to wait in is taken
                await upload()
            raise ZeroDivisionError
    assert await waiting == "let in"
