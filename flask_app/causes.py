"""The three ways a file is closed too early, each as a view that somebody would write, run and watched.

The view runs in a plain Flask app of its own, as an inner request with the file that was sent, and everything it began
is waited for to its end. What it stored is removed.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast, override

import flask
from boto3.exceptions import S3UploadFailedError
from flask import Flask, copy_current_request_context, request
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder

from filehandoff.cancellation import Cancellation, cancelled_by, current
from filehandoff.causes import SECONDS, InnerRequest, too_slow
from filehandoff.cleanup import UNDO_SECONDS, Undo
from filehandoff.errors import StoreRejected
from filehandoff.http import REQUEST_ID_HEADER
from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Flow
from flask_app.request import SPOOL_BYTES
from flask_app.service import Service
from flask_app.store import store_errors
from flask_app.threads import THREADS, finish

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

type NewClient = Callable[[], "S3Client"]


def copied_context(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """A boto hook in a copied request context, and a file that boto is still to read."""
    file = request.files["file"]

    @copy_current_request_context
    def stamp(params: dict[str, Any], **_event: object) -> None:
        params["Metadata"] = {REQUEST_ID_METADATA: request.headers.get("X-Request-Id", "none")}

    s3 = new_client()
    s3.meta.events.register("before-parameter-build.s3.PutObject", stamp)
    with seen.reading():
        s3.put_object(Bucket=bucket, Key=key, Body=file.stream)
    return "stored"


def transfer_closes(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """One file for two uses: an upload, and then its first bytes, for a preview or a checksum."""
    file = request.files["file"]
    s3 = new_client()
    s3.upload_fileobj(file.stream, bucket, key)
    with seen.reading():
        file.stream.seek(0)
        file.stream.read(16)
    return "stored"


def after_response(seen: "Observation", new_client: NewClient, bucket: str, key: str) -> str:
    """A thread that uploads while the client already has its answer."""
    file = request.files["file"]
    s3 = new_client()

    def upload_later() -> None:
        seen.answered.wait()
        with seen.reading():
            s3.upload_fileobj(file.stream, bucket, key)

    # In a copy of the context, which has the request's id for the log.
    later = threading.Thread(target=copy_context().run, args=(upload_later,), name="upload-later")
    later.start()
    seen.later = later
    return "accepted"


VIEWS: dict[str, Callable[["Observation", NewClient, str, str], str]] = {
    "copied_context": copied_context,
    "transfer_closes": transfer_closes,
    "after_response": after_response,
}


SUCCESS = 200


class Observation(InnerRequest):
    """What is seen of the inner request, and the thread that it began."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = threading.Event()
        self.later: threading.Thread | None = None

    def saw_close(self) -> None:
        """Note who closes the file; called from the close itself."""
        self.closed_in(f"thread {threading.current_thread().name}")


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


def failing_app(cause: str, seen: Observation, service: Service, key: str) -> Flask:
    """A plain Flask app with the one failing view; only the file that its form parser fills is ours."""

    class WatchedRequest(flask.Request):
        def _get_file_stream(self, *_hints: object, **_more: object) -> IO[bytes]:
            return cast("IO[bytes]", WatchedFile(seen))

    app = Flask(__name__, static_folder=None)
    app.request_class = WatchedRequest
    app.testing = True  # what fails otherwise than it should is raised here
    app.config["MAX_CONTENT_LENGTH"] = None  # our own limit was held already

    @app.post("/")
    def view() -> str:
        seen.enter("before the view returned", begin=bool(request.files))
        answer = VIEWS[cause](seen, service.store.new_client, service.settings.bucket, key)
        seen.enter("at the end of the request")
        return answer

    return app


def observe(cause: str, file: FileStorage, service: Service, key: str, request_id: str) -> Observation:
    """Run the failing view with this file, and everything it began, to its end, or until the work is cancelled.

    Raises:
        StoreUnavailable, StoreRejected: what S3 said, where it should have taken the file; or it took too long.
    """
    undo = partial(_remove, service, key)
    with cancelled_by(Cancellation(outer=current())) as limit:
        limit.cancel(too_slow, at=time.monotonic() + SECONDS)
        try:
            with store_errors():
                return finish(
                    partial(_observe, cause, file, service, key, request_id),
                    lambda call: service.cleanup.after(call, undo, request_id, key),
                )
        except S3UploadFailedError as error:
            raise StoreRejected(str(error)) from error
        finally:
            _undo(service, undo, key, request_id)


def _observe(cause: str, file: FileStorage, service: Service, key: str, request_id: str) -> Observation:
    seen = Observation()
    client = failing_app(cause, seen, service, key).test_client()
    inner = FileStorage(file.stream, file.filename, "file", file.content_type)
    headers = [(REQUEST_ID_HEADER, request_id)]
    environ = EnvironBuilder(method="POST", data={"file": inner}, headers=headers).get_environ()
    try:
        answer = client.open(environ, buffered=True)
        assert answer.status_code == SUCCESS, answer.get_data(as_text=True)
    finally:
        seen.answered.set()
        if seen.later is not None:
            seen.later.join()
        environ["wsgi.input"].close()  # the inner request's body is on disk above 500 KB
    return seen


def _remove(service: Service, key: str) -> Flow[None]:
    """Remove what the view has stored, and abort what its SDK began and could not end."""
    try:
        yield from flows.abort_lost(service, key)
    finally:
        yield from calls.delete_object(key)


def _undo(service: Service, undo: Undo, key: str, request_id: str) -> None:
    """Remove it in a bounded time, or have it removed later."""
    flow = flows.undo_or_later(service, undo, request_id, key)
    try:
        THREADS.submit(partial(service.store.run, flow)).result(UNDO_SECONDS)
    except TimeoutError:
        service.cleanup.later(undo, request_id, key)
