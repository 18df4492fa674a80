"""The call of the handler in both shells: its time limit, its errors, and an interrupted wait."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import pytest
from patience import PATIENCE

import flask_app.stored
import quart_app.stored
from filehandoff.admission import ending
from filehandoff.cancellation import Cancellation, cancelled_by
from filehandoff.drain import Drain
from filehandoff.errors import HandlerFailed, Overloaded
from filehandoff.s3.calls import Step
from filehandoff.settings import Settings
from filehandoff.stored import Handle, handle
from filehandoff.webhook import WebhookFailed
from flask_app.stored import handle as handle_in_flask
from quart_app.shutdown import Shutdown
from quart_app.stored import handle as handle_in_quart

RECEIPTS = [{"key": "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a"}]

Handler: TypeAlias = Callable[[Any], Any]
Call: TypeAlias = Callable[[Handle], Awaitable[None]]


async def in_flask(step: Handle) -> None:
    """Handle as a thread of Flask's."""
    await asyncio.to_thread(handle_in_flask, step)


each_shell = pytest.mark.parametrize(
    "call", [pytest.param(in_flask, id="Flask"), pytest.param(handle_in_quart, id="Quart")]
)


def make(handler: Handler, seconds: float = PATIENCE) -> tuple[Handle, list[str]]:
    """Make a step, and the list that its `keep` appends to."""
    kept: list[str] = []
    [step] = handle(handler, RECEIPTS, seconds, partial(kept.append, "kept"))
    assert isinstance(step, Handle)
    return step, kept


def test_without_a_handler_the_files_are_kept_at_once() -> None:
    """The flow has no step."""
    kept: list[str] = []
    steps: list[Step[Any]] = list(handle(None, RECEIPTS, 1, partial(kept.append, "kept")))
    assert (steps, kept) == ([], ["kept"])


async def coroutine(receipts: list[Any]) -> None:
    """Read the receipts in a coroutine."""
    await asyncio.sleep(0)
    assert receipts == RECEIPTS


def function(receipts: list[Any]) -> None:
    """Read the receipts in another thread than the main one, where the event loop runs."""
    assert receipts == RECEIPTS
    assert threading.current_thread() is not threading.main_thread()


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        pytest.param(in_flask, function, id="Flask"),
        pytest.param(handle_in_quart, function, id="Quart, a function"),
        pytest.param(handle_in_quart, coroutine, id="Quart, a coroutine function"),
        pytest.param(handle_in_quart, lambda receipts: coroutine(receipts), id="Quart, a function of a coroutine"),  # noqa: PLW0108 - it is no coroutine function
    ],
)
async def test_a_handler_that_returns_keeps_the_files(call: Call, handler: Handler) -> None:
    """The handler gets the receipts, and a plain function does not run on the event loop."""
    step, kept = make(handler)
    await call(step)
    assert kept == ["kept"]


def fail(_receipts: object) -> None:
    """Fail as a function."""
    raise ZeroDivisionError


def stop(_receipts: object) -> None:
    """Fail by the error that no future of asyncio's can raise."""
    next(iter(()))


async def fail_in_a_task(_receipts: object) -> None:
    """Fail as a coroutine."""
    await asyncio.sleep(0)
    raise ZeroDivisionError


async def cancel(_receipts: object) -> None:
    """Cancel its own task."""
    raise asyncio.CancelledError


class Promised:
    """An awaitable."""

    def __await__(self) -> Iterator[None]:
        """Return at once."""
        yield from ()


def awaitable(_receipts: object) -> Promised:
    """Return an awaitable, which Flask cannot await."""
    return Promised()


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        *(pytest.param(in_flask, one, id=f"Flask, {one.__name__}") for one in (fail, stop, awaitable)),
        *(pytest.param(handle_in_quart, one, id=f"Quart, {one.__name__}") for one in (fail, stop)),
        *(pytest.param(handle_in_quart, one, id=f"Quart, {one.__name__}") for one in (fail_in_a_task, cancel)),
    ],
)
async def test_a_handler_that_raises_keeps_nothing(call: Call, handler: Handler) -> None:
    """Each error becomes HandlerFailed, and is its cause."""
    step, kept = make(handler)
    with pytest.raises(HandlerFailed) as caught:
        await call(step)
    assert isinstance(caught.value.__cause__, Exception)
    assert kept == []


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event on which a handler waits; set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def waiting(gate: threading.Event, begun: threading.Event | None = None) -> Handler:
    """Make a handler that waits for the gate."""

    def wait(_receipts: object) -> None:
        if begun is not None:
            begun.set()
        gate.wait(PATIENCE)

    return wait


@each_shell
async def test_a_handler_that_takes_too_long_has_failed(call: Call, gate: threading.Event) -> None:
    """The wait ends at the time limit, although the thread runs on."""
    step, kept = make(waiting(gate), seconds=0.01)
    with pytest.raises(HandlerFailed) as caught:
        await call(step)
    assert isinstance(caught.value.__cause__, TimeoutError)
    gate.set()
    assert kept == []


async def test_a_coroutine_that_ignores_its_cancellation_has_failed_too() -> None:
    """The time limit does not wait for the coroutine's end."""
    may_end = asyncio.Event()

    async def stubborn(_receipts: object) -> None:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    step, kept = make(stubborn, seconds=0.01)
    with pytest.raises(HandlerFailed):
        await handle_in_quart(step)
    may_end.set()
    assert kept == []


async def test_a_disconnected_client_does_not_interrupt_a_handler() -> None:
    """The cancellation is raised after the handler has returned and the files are kept."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work(_receipts: object) -> None:
        begun.set()
        await may_end.wait()

    step, kept = make(work)
    request = asyncio.create_task(handle_in_quart(step))
    await begun.wait()
    request.cancel()
    await asyncio.sleep(0)
    assert not request.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert kept == ["kept"]


async def test_the_end_of_the_process_interrupts_a_handler_of_quart() -> None:
    """The coroutine is cancelled, nothing is kept, and the client gets Overloaded."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work(_receipts: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    step, kept = make(work)
    shutdown = Shutdown(Drain(), 0.01, lambda: None)

    async def request() -> None:
        async with shutdown.upload():
            await handle_in_quart(step)

    task = asyncio.create_task(request())
    await begun.wait()
    shutdown.stop()
    with pytest.raises(Overloaded):
        await task
    await cancelled.wait()
    assert kept == []


def test_the_end_of_the_process_interrupts_a_handler_of_flask(gate: threading.Event) -> None:
    """The request does not wait for the thread, and nothing is kept."""
    begun = threading.Event()
    step, kept = make(waiting(gate, begun))
    end = Cancellation()

    def stop() -> None:
        begun.wait(PATIENCE)
        end.cancel(ending)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with cancelled_by(end), pytest.raises(HandlerFailed) as caught:
        handle_in_flask(step)
    stopping.join()
    assert isinstance(caught.value.__cause__, Overloaded)  # `Drain.upload` raises its own
    assert kept == []


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda settings: flask_app.stored.Webhook(settings).send(RECEIPTS), id="Flask"),
        pytest.param(lambda settings: asyncio.run(quart_app.stored.Webhook(settings).send(RECEIPTS)), id="Quart"),
    ],
)
def test_a_receiver_that_is_down_has_not_accepted(
    send: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt is logged with the library's reason."""
    monkeypatch.setattr("filehandoff.webhook.PAUSES", (0.0, 0.0))
    with socket.socket() as bound:  # and not listening, so that connections are refused
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with pytest.raises(WebhookFailed):
            send(Settings(webhook_url=url, webhook_secret=f"whsec_{'A' * 32}"))
    lines = [record.getMessage() for record in caplog.records if record.name == "filehandoff.webhook"]
    assert len(lines) == 2
    assert "127.0.0.1" in lines[0]
