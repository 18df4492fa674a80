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

from filehandoff.causes import SECONDS, InnerRequest, too_slow
from filehandoff.errors import StoreRejected
from filehandoff.http import REQUEST_ID_HEADER
from filehandoff.receipt import REQUEST_ID_METADATA
from filehandoff.undoing import UNDO_SECONDS
from flask_app.request import SPOOL_BYTES
from flask_app.store import Store, store_errors
from flask_app.threads import THREADS, Calls

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


def failing_app(cause: str, seen: Observation, store: Store, key: str) -> Flask:
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
        answer = VIEWS[cause](seen, store.new_client, store.settings.bucket, key)
        seen.enter("at the end of the request")
        return answer

    return app


def observe(
    cause: str, file: FileStorage, store: Store, key: str, request_id: str, go_on: Callable[[], None]
) -> Observation:
    """Run the failing view with this file, and everything it began, to its end, or until `go_on` raises.

    Raises:
        StoreUnavailable, StoreRejected: what S3 said, where it should have taken the file; or it took too long.
    """
    end = time.monotonic() + SECONDS

    def in_time() -> None:
        go_on()
        if time.monotonic() > end:
            raise too_slow()

    calls = Calls(store.undoing, partial(_remove, store, key), key, in_time)
    try:
        with store_errors():
            return calls.make(partial(_observe, cause, file, store, key, request_id))
    except S3UploadFailedError as error:
        raise StoreRejected(str(error)) from error
    finally:
        _undo(store, key, request_id)


def _observe(cause: str, file: FileStorage, store: Store, key: str, request_id: str) -> Observation:
    seen = Observation()
    client = failing_app(cause, seen, store, key).test_client()
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


def _remove(store: Store, key: str) -> None:
    """Remove what the view has stored, and abort what its SDK began and could not end."""
    try:
        store.abort_lost(key)
    finally:
        store.delete(key)


def _undo(store: Store, key: str, request_id: str) -> None:
    """Remove it in a bounded time, or have it removed later."""
    try:
        THREADS.submit(partial(_remove, store, key)).result(UNDO_SECONDS)
    except Exception as error:  # noqa: BLE001 - also a want of memory must lose no object
        store.metrics.undo_failures.inc()
        logger.error("what a cause has stored could not be removed yet: %s", error.__cause__ or error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        store.undoing.later(partial(_remove, store, key), request_id, key)
