"""Who is admitted, in both shells: so many at once, as many again wait for their turn, and the rest is refused."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

import flask_app.admission
import quart_app.admission
from handoff.admission import busy, ending
from handoff.errors import Overloaded


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gives up soon."""
    for shell in (flask_app.admission, quart_app.admission):
        monkeypatch.setattr(shell, "WAIT_SECONDS", 0.05)


def test_a_busy_process_says_how_many_it_takes() -> None:
    """The error for one upload too many names the limit."""
    assert "takes 7 uploads at once" in busy(7).detail


def test_an_ending_process_says_so() -> None:
    """The error at the end of a process is another one of the same code."""
    assert "shutting down" in ending().detail
    assert ending().code == busy(1).code == "overloaded"


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
            assert not let_in.wait(0.05)
            with pytest.raises(Overloaded), admission.place():  # the one place to wait in is taken
                pass
            raise ZeroDivisionError
        waiting.result(timeout=5)


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
