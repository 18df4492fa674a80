"""The three ways a file is closed too early, each as a view that somebody would write, run and watched.

The view runs in a plain Quart app of its own, on an event loop of its own in a thread, as an inner request with the
file that was sent, and everything it began is waited for to its end. What it stored is removed. Views like these block
their loop, with boto clients made and files read on it: ours is spared that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast, override

import quart
from boto3.exceptions import S3UploadFailedError
from quart import Quart, copy_current_request_context, request
from quart.datastructures import FileStorage
from quart.formparser import FormDataParser

from filehandoff.causes import SECONDS, InnerRequest, too_slow
from filehandoff.cleanup import UNDO_SECONDS, Undo
from filehandoff.errors import Internal, StoreRejected
from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Flow
from quart_app.request import SPOOL_BYTES
from quart_app.service import Service
from quart_app.store import store_errors
from quart_app.tasks import finish_despite_cancel

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

logger = logging.getLogger(__name__)

type NewClient = Callable[[], AbstractAsyncContextManager["S3Client"]]


async def copied_context(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """A boto hook in a copied request context, and a file that boto is still to read."""
    file = (await request.files)["file"]

    @copy_current_request_context
    async def stamp(params: dict[str, Any], **_event: object) -> None:
        params["Metadata"] = {REQUEST_ID_METADATA: request.headers.get("X-Request-Id", "none")}

    async with new_client() as s3:
        s3.meta.events.register("before-parameter-build.s3.PutObject", stamp)
        with seen.reading():
            await s3.put_object(Bucket=bucket, Key=key, Body=file.stream)
    return "stored"


async def transfer_closes(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """One file for two uses: an upload, and then its first bytes, for a preview or a checksum."""
    file = (await request.files)["file"]
    async with new_client() as s3:
        await s3.upload_fileobj(file.stream, bucket, key)
    with seen.reading():
        file.stream.seek(0)
        file.stream.read(16)
    return "stored"


async def after_response(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """A task that uploads while the client already has its answer."""
    file = (await request.files)["file"]

    async def upload_later() -> None:
        await seen.answered.wait()
        async with new_client() as s3:
            with seen.reading():
                await s3.upload_fileobj(file.stream, bucket, key)

    seen.later = asyncio.create_task(upload_later(), name="upload-later")
    return "accepted"


VIEWS: dict[str, Callable[["Observation", NewClient, str, str], Awaitable[str]]] = {
    "copied_context": copied_context,
    "transfer_closes": transfer_closes,
    "after_response": after_response,
}


SUCCESS = 200


class Observation(InnerRequest):
    """What is seen of the inner request, and the task that it began."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self.later: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """It is run by this task, on this loop."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    def stop(self) -> None:
        """Break it off, from another loop."""
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._task.cancel)

    def saw_close(self) -> None:
        """Note who closes the file; called from the close itself."""
        task = asyncio.current_task()
        self.closed_in(f"task {task.get_name()}" if task else "no task")


class WatchedFile(SpooledTemporaryFile[bytes]):
    """An upload's file that says when it is closed."""

    def __init__(self, seen: Observation) -> None:
        super().__init__(SPOOL_BYTES)
        self._seen = seen

    @override
    def close(self) -> None:
        if not self.closed:
            self._seen.saw_close()
        super().close()


def failing_app(cause: str, seen: Observation, service: Service, key: str) -> Quart:
    """A plain Quart app with the one failing view; only the file that its form parser fills is ours."""

    class WatchedRequest(quart.Request):
        def make_form_data_parser(self) -> FormDataParser:
            parser = super().make_form_data_parser()
            parser.stream_factory = lambda *_hints: cast("IO[bytes]", WatchedFile(seen))
            return parser

    app = Quart(__name__, static_folder=None)
    app.request_class = WatchedRequest
    app.testing = True  # what fails otherwise than it should is raised here
    app.config["MAX_CONTENT_LENGTH"] = None  # our own limit was held already

    @app.post("/")
    async def view() -> str:
        seen.enter("before the view returned", begin=bool(await request.files))
        answer = await VIEWS[cause](seen, service.store.new_client, service.settings.bucket, key)
        seen.enter("at the end of the request")
        return answer

    @app.errorhandler(Exception)
    async def note(error: Exception) -> tuple[str, int]:
        # Not left to Quart, which would make a page of it that shows every local variable, the file's bytes among them.
        seen.failure = error
        return "", Internal.status

    return app


async def observe(cause: str, file: FileStorage, service: Service, key: str, request_id: str) -> Observation:
    """Run the failing view with this file, and everything it began, to its end, or until the process is to end.

    Raises:
        StoreUnavailable, StoreRejected: what S3 said, where it should have taken the file; or it took too long.
    """
    seen = Observation()
    undo = partial(_remove, service, key)

    def leave(call: asyncio.Task[Any]) -> None:
        seen.stop()
        service.cleanup.after(call, undo, request_id, key)

    try:
        with store_errors():
            await finish_despite_cancel(_in_a_thread(_observe(seen, cause, file, service, key, request_id)), leave)
    except S3UploadFailedError as error:
        raise StoreRejected(str(error)) from error
    except TimeoutError as error:
        raise too_slow() from error
    finally:
        await finish_despite_cancel(_undo(service, undo, key, request_id))
    return seen


async def _in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run it on a loop and in a thread of its own: those that asyncio keeps are for what takes no time."""
    thread = ThreadPoolExecutor(1, "cause")
    try:
        running = asyncio.get_running_loop().run_in_executor(thread, copy_context().run, asyncio.run, work)
    except BaseException:  # no thread can be started
        work.close()
        raise
    try:
        await running
    finally:
        thread.shutdown(wait=False)


async def _observe(
    seen: Observation, cause: str, file: FileStorage, service: Service, key: str, request_id: str
) -> None:
    seen.begin()
    client = failing_app(cause, seen, service, key).test_client()
    inner = FileStorage(file.stream, file.filename, "file", file.content_type)
    async with asyncio.timeout(SECONDS):
        try:
            answer = await client.post("/", files={"file": inner}, headers={"X-Request-Id": request_id})
            if seen.failure is not None:
                raise seen.failure
            assert answer.status_code == SUCCESS, await answer.get_data(as_text=True)
        finally:
            seen.answered.set()
            if seen.later is not None:
                await seen.later


def _remove(service: Service, key: str) -> Flow[None]:
    """Remove what the view has stored, and abort what its SDK began and could not end."""
    try:
        yield from flows.abort_lost(service, key)
    finally:
        yield from calls.delete_object(key)


async def _undo(service: Service, undo: Undo, key: str, request_id: str) -> None:
    """Remove it in a bounded time, or have it removed later."""
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            await service.store.run(flows.undo_or_later(service, undo, request_id, key))
    except TimeoutError:
        service.cleanup.later(undo, request_id, key)
