"""The note names the closer of an `UploadFile`, in apps of Starlette and FastAPI."""

import asyncio
import copy
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest
from unit.explain.apps import notes
from unit.explain.conftest import Store

from filehandoff.explain import explain_closed_files, explanation

fastapi: Any = pytest.importorskip("fastapi", reason="the benchmark's environment has it")
httpx: Any = pytest.importorskip("httpx", reason="the benchmark's environment has it")

from starlette.applications import Starlette  # noqa: E402 - installed with FastAPI
from starlette.background import BackgroundTask  # noqa: E402
from starlette.datastructures import FormData, UploadFile  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402

#: Bytes of a file that stays in memory, and of one that the form parser writes to disk.
SIZES = {"in memory": 100, "rolled over": 2_000_000}
END = (
    "the end of the request (fastapi.middleware.asyncexitstack:__call__), which closes every file of the request; this "
    "reader came too late"
)


def fastapi_app(view: Callable[..., Any], *, explained: bool = True) -> Any:
    """Return an explained FastAPI app with one view."""
    app = fastapi.FastAPI()
    if explained:
        explain_closed_files(app)
    app.post("/")(view)
    return app


def starlette_app(view: Callable[..., Any]) -> Starlette:
    """Return an explained Starlette app with one view."""
    app = Starlette(routes=[Route("/", view, methods=["POST"])])
    explain_closed_files(app)
    return app


async def post(app: Any, size: int = 100, **request: Any) -> Any:
    """Send one file to an app; raise the view's error."""
    request = request or {"files": {"photo": ("hello.txt", bytes(size))}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return await client.post("/", **request)


async def note_of(app: Any, kept: list[UploadFile], size: int = 100) -> str:
    """Return the note on the view's error, or on a read after the request."""

    async def post_and_read() -> None:
        await post(app, size)
        await kept[0].read()

    with pytest.raises(ValueError, match="closed file") as caught:
        await post_and_read()
    [note] = notes(caught.value)
    return note


def closer(note: str) -> str:
    """Return the note's text about the closer."""
    assert note.startswith("The upload 'hello.txt' of the form field 'photo' was closed by ")
    return note.partition(" was closed by ")[2].partition(". That was in ")[0]


@pytest.mark.parametrize("size", SIZES)
async def test_the_end_of_a_fastapi_request_is_named(size: str) -> None:
    """A task that outlives the request reads too late (fastapi/fastapi#10857): the note has closer, fix and page."""
    kept: list[UploadFile] = []

    async def view(photo: fastapi.UploadFile) -> None:
        kept.append(photo)

    note = await note_of(fastapi_app(view), kept, SIZES[size])
    assert closer(note) == END
    assert " of thread 'MainThread', " in note
    assert " ms after the request began. To fix it, read all bytes while the view runs and give " in note
    assert note.endswith(
        "or respond when everything is stored. To read more, run `python -m filehandoff.explain after-response`."
    )


@pytest.mark.parametrize("size", SIZES)
async def test_a_task_that_reads_an_upload_after_the_response_is_explained(size: str) -> None:
    """A background ingestion fails on the closed upload (topoteretes/cognee#3034)."""
    over, tasks = asyncio.Event(), list[asyncio.Task[bytes]]()

    async def ingest(photo: Any) -> bytes:
        await over.wait()
        return bytes(await photo.read())

    async def view(photo: fastapi.UploadFile) -> None:
        tasks.append(asyncio.create_task(ingest(photo)))

    await post(fastapi_app(view), SIZES[size])
    over.set()
    with pytest.raises(ValueError, match="closed file") as caught:
        await tasks[0]
    assert closer(notes(caught.value)[0]) == END


#: The place where FastAPI 0.106 to 0.117 close the form: in the function that calls the view.
OLD_ROUTING = """
from contextlib import AsyncExitStack

async def app(form):
    async with AsyncExitStack() as file_stack:
        file_stack.push_async_callback(form.close)
"""


async def test_an_old_fastapi_that_closes_before_the_background_tasks_is_named() -> None:
    """FastAPI 0.106 to 0.117 close before BackgroundTasks and streamed responses (fastapi/fastapi#10857).

    The form is closed as these versions do it, since only one version of FastAPI is installed.
    """
    routing: dict[str, Any] = {"__name__": "fastapi.routing"}
    exec(OLD_ROUTING, routing)  # noqa: S102 - ours

    async def view(request: Request) -> Response:
        form = await request.form()
        await routing["app"](form)
        return Response(background=BackgroundTask(form["photo"].read))  # type: ignore[union-attr] # a file

    note = await note_of(starlette_app(view), [])
    assert closer(note) == (
        "the end of the view (fastapi.routing:app): FastAPI 0.106 to 0.117 close every file of the request before they "
        "send the response and run its BackgroundTasks (fastapi/fastapi#10857); this reader came too late"
    )
    assert "To fix it, update FastAPI to 0.118 or newer, or read all bytes while the view runs" in note
    assert note.endswith("run `python -m filehandoff.explain after-response`.")


@pytest.mark.parametrize("size", SIZES)
async def test_a_background_task_of_this_fastapi_reads_the_file(size: str) -> None:
    """Since 0.118 the files are open until the BackgroundTasks have run; explaining does not change that."""
    read: list[bytes] = []

    async def task(photo: Any) -> None:
        read.append(await photo.read())

    async def view(photo: fastapi.UploadFile, tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(task, photo)

    await post(fastapi_app(view), SIZES[size])
    assert read == [bytes(SIZES[size])]


async def read_later(photo: Any) -> AsyncIterator[bytes]:
    """Stream the file."""
    yield await photo.read()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed response", "background task"])
async def test_a_form_that_the_view_leaves_is_named_by_its_line(size: str, streamed: bool) -> None:  # noqa: FBT001 - parametrised
    """The end of `async with request.form()` closes the file that the response or its task still needs."""

    async def view(request: Request) -> Response:
        async with request.form() as form:  # on a line of its own
            photo: Any = form["photo"]
        return StreamingResponse(read_later(photo)) if streamed else Response(background=BackgroundTask(photo.read))

    note = await note_of(starlette_app(view), [], SIZES[size])
    assert closer(note).startswith(f"the app's own code at {__file__}:")
    assert closer(note).endswith(
        f" in {view.__qualname__} (`async with request.form() as form:  # on a line of its own`), which closed the "
        "form (`async with request.form()`, `request.close()` or `form.close()`) and so every file of it"
    )
    assert ". To fix it, use the files inside the `async with` block, or read all bytes while the view runs" in note
    assert note.endswith("run `python -m filehandoff.explain own-close`.")


async def close_upload(photo: Any) -> None:
    """Close the file."""
    await photo.close()


async def close_in_a_task(photo: Any) -> None:
    """Close the file in a task."""
    await asyncio.create_task(photo.close())


async def close_inner(photo: Any) -> None:
    """Close the file in the `UploadFile`."""
    photo.file.close()


async def close_in_a_pool(photo: Any) -> None:
    """Close the file in a thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(photo.file.close)


CLOSES: dict[Callable[[Any], Any], str] = {
    close_upload: "`await photo.close()`)",
    close_in_a_task: "`await asyncio.create_task(photo.close())`), which handed the close to another thread or task",
    close_inner: "`photo.file.close()`)",
    close_in_a_pool: "`pool.submit(photo.file.close)`), which handed the close to another thread or task",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("close", CLOSES)
async def test_the_apps_own_close_is_named_by_its_line(close: Callable[[Any], Any], size: str) -> None:
    """The note has the line of the app that closes the file, or that hands the close on."""
    kept: list[UploadFile] = []

    async def view(photo: fastapi.UploadFile) -> None:
        kept.append(photo)
        await close(photo)

    note = await note_of(fastapi_app(view), kept, SIZES[size])
    assert closer(note).startswith(f"the app's own code at {__file__}:")
    assert closer(note).endswith(f" in {close.__name__} ({CLOSES[close]}")
    assert note.endswith("run `python -m filehandoff.explain own-close`.")


async def test_a_collected_wrapper_is_named() -> None:
    """A csv reader's TextIOWrapper closes the file when Python collects it."""

    def view(photo: fastapi.UploadFile) -> None:
        io.TextIOWrapper(photo.file).read()
        photo.file.seek(0)

    note = await note_of(fastapi_app(view), [])
    assert closer(note).startswith("a TextIOWrapper or another wrapper, which closes its file when Python collects it")
    assert "(`io.TextIOWrapper(photo.file).read()`)" in note


@pytest.mark.parametrize("size", SIZES)
async def test_the_transfer_manager_is_named(s3: Store, size: str) -> None:
    """boto3's upload_fileobj closes the file of an `UploadFile` as well (boto/s3transfer#80)."""

    def view(photo: fastapi.UploadFile) -> None:
        s3.client().upload_fileobj(photo.file, "bucket", "k")
        photo.file.seek(0)

    note = await note_of(fastapi_app(view), [], SIZES[size])
    assert closer(note).startswith("boto3's S3 transfer manager (s3transfer.upload:close")
    assert note.endswith("run `python -m filehandoff.explain transfer-closes`.")


async def test_the_explanation_is_found() -> None:
    """`explanation` returns the note without the folders of this machine."""

    async def view(photo: fastapi.UploadFile) -> None:
        await photo.close()
        await photo.read()

    with pytest.raises(ValueError, match="closed file") as caught:
        await post(fastapi_app(view))
    assert "by the app's own code at unit/explain/test_starlette.py:" in (explanation(caught.value) or "")


def of_file(photo: UploadFile) -> Any:
    """Return a file's attributes."""
    return photo.filename, photo.size, photo.content_type, type(photo).__qualname__, type(photo).__module__


@pytest.mark.parametrize("size", SIZES)
async def test_an_explained_file_is_read_as_a_plain_one(size: str) -> None:
    """Attributes, reads, seeks and copies are the same with and without explaining."""
    results: list[Any] = []

    async def view(photo: fastapi.UploadFile) -> None:
        parts = [await photo.read(10), await photo.read()]
        await photo.seek(5)
        parts.append(await photo.read(7))
        results.append((of_file(photo), parts, photo.file.seek(0, io.SEEK_END), list(photo.file)))

    for explained in (True, False):
        await post(fastapi_app(view, explained=explained), SIZES[size])
    assert results[0] == results[1]


async def test_a_deep_copy_outlives_the_request() -> None:
    """A deep copy of an explained file is a plain one (the workaround of fastapi/fastapi#10857)."""
    kept: list[Any] = []

    async def view(photo: fastapi.UploadFile) -> None:
        kept.append(copy.deepcopy(photo))

    await post(fastapi_app(view))
    assert await kept[0].read() == bytes(100)
    assert type(kept[0]) is UploadFile
    kept[0].file.close()
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].file.read()
    assert notes(caught.value) == []


async def test_requests_without_files_stay_as_they_are() -> None:
    """Only a form with files makes the request a subclass."""
    seen: list[Any] = []

    async def view(request: Request) -> Response:
        seen.append([type(request), type(await request.form())])
        return Response()

    app = starlette_app(view)
    await post(app, data={"name": "ada"})
    await post(app, content=b"x")
    assert seen == [[Request, FormData]] * 2


async def test_the_requests_class_keeps_its_name() -> None:
    """A request with files is an instance of a subclass with the same name; its form is parsed once."""
    seen: list[Any] = []

    async def view(request: Request) -> Response:
        form = await request.form()
        assert await request.form() is form
        seen.extend([request, form])
        await request.close()
        return Response()

    await post(starlette_app(view))
    request, form = seen
    assert isinstance(request, Request)
    assert isinstance(form, FormData)
    assert [cls.__qualname__ for cls in (type(request), type(form))] == ["Request", "FormData"]
    assert [type(request), type(form)] != [Request, FormData]


async def test_an_app_below_the_app_reads_its_own_body() -> None:
    """An app without a Starlette request reads a form's body as usual."""
    bodies: list[bytes] = []

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            bodies.append(message["body"])
            more = message["more_body"]
        await Response()(scope, receive, send)

    app = Starlette(routes=[Mount("/", raw)])
    explain_closed_files(app)
    await post(app)
    assert bytes(100) in b"".join(bodies)


async def test_a_middleware_between_the_server_and_the_app_changes_nothing() -> None:
    """A BaseHTTPMiddleware passes the body on by a task of its own, and the note stays."""
    kept: list[UploadFile] = []

    async def view(photo: fastapi.UploadFile) -> None:
        kept.append(photo)

    async def dispatch(request: Request, call_next: Callable[[Request], Any]) -> Any:
        return await call_next(request)

    app = fastapi_app(view)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    assert closer(await note_of(app, kept)) == END


class Strict(FormData):
    """A form that forbids to look at its items."""

    def multi_items(self) -> Any:
        """Raise an error."""
        raise RuntimeError


async def test_a_form_that_cannot_be_explained_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the app's own form class does not end the request."""
    monkeypatch.setattr("starlette.formparsers.FormData", Strict)
    seen: list[Any] = []

    async def view(request: Request) -> Response:
        async with AsyncExitStack() as stack:
            form: Any = await request.form()
            stack.push_async_callback(form["photo"].close)
            seen.append((type(form), await form["photo"].read()))
        return Response()

    await post(starlette_app(view))
    assert seen == [(Strict, bytes(100))]


def test_explaining_twice_does_nothing_more() -> None:
    """A second call adds no second middleware."""
    app = fastapi_app(lambda: None)
    before = list(app.user_middleware)
    explain_closed_files(app)
    assert app.user_middleware == before


async def test_an_app_that_runs_is_refused() -> None:
    """An app that has handled a request accepts no further middleware."""
    app = fastapi_app(lambda: None, explained=False)
    await post(app, content=b"")
    with pytest.raises(RuntimeError, match="must be called before the app handles its first request"):
        explain_closed_files(app)
