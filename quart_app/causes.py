"""The three causes of an early file close, each as a typical view.

A plain Quart app gets the file as an inner request, and `explain_closed_files` records the close. The run waits for the
view's last background job, then removes the stored object. Such views block their event loop, so the run has its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import IO, TYPE_CHECKING, Any, cast

from quart import Quart, copy_current_request_context, request
from quart.datastructures import FileStorage

from filehandoff.cancellation import cancelled_by, check
from filehandoff.causes import Run, time_limit
from filehandoff.explain import close_record, explain_closed_files
from filehandoff.parts import CHUNK_BYTES
from filehandoff.s3 import flows
from quart_app.service import Service
from quart_app.store import store_errors
from quart_app.tasks import POLL_SECONDS, finish_despite_cancel, finish_in_time

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


async def copied_context(s3: "S3Client", bucket: str, key: str, _jobs: list[Any]) -> str:
    """Upload a file with a boto hook in a copied request context.

    boto reads the file after the hook has returned.
    """
    file = (await request.files)["file"]

    @copy_current_request_context
    async def stamp(params: dict[str, Any], **_event: object) -> None:
        params["Metadata"] = {"request-id": request.headers["X-Request-Id"]}

    s3.meta.events.register("before-parameter-build.s3.PutObject", stamp)
    await s3.put_object(Bucket=bucket, Key=key, Body=file.stream)
    return "stored"


async def transfer_closes(s3: "S3Client", bucket: str, key: str, _jobs: list[Any]) -> str:
    """Use one file twice: upload it, then read its first bytes.

    A preview or a checksum needs such a second read.
    """
    file = (await request.files)["file"]
    await s3.upload_fileobj(file.stream, bucket, key)
    file.stream.seek(0)
    file.stream.read(16)
    return "stored"


async def after_response(s3: "S3Client", bucket: str, key: str, jobs: list[Callable[[], Any]]) -> str:
    """Upload in the background, after the response."""
    file = (await request.files)["file"]
    jobs.append(partial(s3.upload_fileobj, file.stream, bucket, key))
    return "accepted"


VIEWS = {view.__name__: view for view in (copied_context, transfer_closes, after_response)}


async def reproduce(cause: str, file: FileStorage, service: Service, key: str, request_id: str) -> Run:
    """Run the failing view with this file and return its moments and its early close.

    Removes the stored object.

    Raises:
        StoreUnavailable, StoreRejected: S3 did not take the file, or not in time.
    """
    seen = Run()
    remove = partial(flows.remove, service, key)
    try:
        with store_errors(), cancelled_by(time_limit()):
            run = _in_a_thread(partial(_run, cause, file, service, key, seen, request_id))
            await finish_despite_cancel(run, lambda call: service.cleanup.after(call, remove, request_id, key))
    except Exception as error:
        seen.close = close_record(error)
        if seen.close is None:
            raise
    finally:
        removal = flows.undo_or_later(service, remove, request_id, key)
        if not await finish_in_time(service.store.run(removal)):
            service.cleanup.later(remove, request_id, key)
    return seen


async def _in_a_thread(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` in its own thread and loop; asyncio's threads stay free."""
    context, loop = copy_context(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "cause") as thread:
        await loop.run_in_executor(thread, context.run, lambda: asyncio.run(_in_time(work)))


async def _in_time(work: Callable[[], Awaitable[None]]) -> None:
    """Await `work`; if the current work is cancelled, `asyncio.run` cancels `work` too."""
    task = asyncio.ensure_future(work())
    while not (await asyncio.wait([task], timeout=POLL_SECONDS))[0]:
        check()
    await task


class _LargeReads:
    """A file whose every read returns up to 1 MiB.

    Quart's test client reads 16 KiB at a time, and copies the whole body for each: 5 seconds for 16 MiB. One read of
    all would hold the file a third time.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, _size: int) -> bytes:
        return self._stream.read(CHUNK_BYTES)


async def _run(cause: str, file: FileStorage, service: Service, key: str, seen: Run, request_id: str) -> None:
    """Run the failing view, then its background jobs; raise the first error."""
    form = {"file": FileStorage(cast("IO[bytes]", _LargeReads(file.stream)), file.filename, "file", file.content_type)}
    jobs: list[Callable[[], Any]] = []
    app = Quart(__name__, static_folder=None)
    # The outer request enforced the limit. Quart's debug page shows every local variable, including the file's bytes.
    app.config.update(MAX_CONTENT_LENGTH=None, PROPAGATE_EXCEPTIONS=True, DEBUG=False)
    explain_closed_files(app)
    async with service.store.new_client() as s3:
        if cause == copied_context.__name__:
            s3.meta.events.register_first("before-parameter-build.s3.PutObject", seen.enter_hook)
        view = partial(VIEWS[cause], s3, service.settings.bucket, key, jobs)
        app.add_url_rule("/", "view", view, methods=["POST"])
        seen.mark("request arrived")
        try:
            await app.test_client().post("/", files=form, headers={"X-Request-Id": request_id})
        except ExceptionGroup as group:  # Quart's task groups wrap the view's error
            raise group.exceptions[0] from None
        seen.mark("response sent")
        for job in jobs:
            seen.mark("job began")
            await job()
