"""The three causes of an early file close, each as a typical view.

A plain Flask app gets the file as an inner request, and `explain_closed_files` records the close. The run waits for the
view's last background job, then removes the stored object.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, copy_current_request_context, request
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder

from filehandoff.cancellation import cancelled_by
from filehandoff.causes import Run, time_limit
from filehandoff.explain import close_record, explain_closed_files
from filehandoff.s3 import flows
from flask_app.service import Service
from flask_app.store import store_errors
from flask_app.threads import finish, finish_in_time

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def copied_context(s3: "S3Client", bucket: str, key: str, _jobs: list[Any]) -> str:
    """Upload a file with a boto hook in a copied request context.

    boto reads the file after the hook has returned.
    """
    file = request.files["file"]

    @copy_current_request_context
    def stamp(params: dict[str, Any], **_event: object) -> None:
        params["Metadata"] = {"request-id": request.headers["X-Request-Id"]}

    s3.meta.events.register("before-parameter-build.s3.PutObject", stamp)
    s3.put_object(Bucket=bucket, Key=key, Body=file.stream)
    return "stored"


def transfer_closes(s3: "S3Client", bucket: str, key: str, _jobs: list[Any]) -> str:
    """Use one file twice: upload it, then read its first bytes.

    A preview or a checksum needs such a second read.
    """
    file = request.files["file"]
    s3.upload_fileobj(file.stream, bucket, key)
    file.stream.seek(0)
    file.stream.read(16)
    return "stored"


def after_response(s3: "S3Client", bucket: str, key: str, jobs: list[Callable[[], Any]]) -> str:
    """Upload in the background, after the response."""
    file = request.files["file"]
    jobs.append(partial(s3.upload_fileobj, file.stream, bucket, key))
    return "accepted"


VIEWS = {view.__name__: view for view in (copied_context, transfer_closes, after_response)}


def reproduce(cause: str, file: FileStorage, service: Service, key: str, request_id: str) -> Run:
    """Run the failing view with this file and return its moments and its early close.

    Removes the stored object.

    Raises:
        StoreUnavailable, StoreRejected: S3 did not take the file, or not in time.
    """
    seen = Run()
    remove = partial(flows.remove, service, key)
    try:
        with store_errors(), cancelled_by(time_limit()):
            run = partial(_run, cause, file, service, key, seen, request_id)
            finish(run, lambda call: service.cleanup.after(call, remove, request_id, key))
    except Exception as error:
        seen.close = close_record(error)
        if seen.close is None:
            raise
    finally:
        removal = flows.undo_or_later(service, remove, request_id, key)
        if not finish_in_time(partial(service.store.run, removal)):
            service.cleanup.later(remove, request_id, key)
    return seen


def _run(cause: str, file: FileStorage, service: Service, key: str, seen: Run, request_id: str) -> None:
    """Run the failing view, then its background jobs; raise the first error."""
    form = {"file": FileStorage(file.stream, file.filename, "file", file.content_type)}
    jobs: list[Callable[[], Any]] = []
    s3 = service.store.new_client()
    if cause == copied_context.__name__:
        s3.meta.events.register_first("before-parameter-build.s3.PutObject", seen.enter_hook)
    view = partial(VIEWS[cause], s3, service.settings.bucket, key, jobs)
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=None, PROPAGATE_EXCEPTIONS=True)  # the outer request enforced the limit
    app.add_url_rule("/", "view", view, methods=["POST"])
    explain_closed_files(app)
    environ = EnvironBuilder(method="POST", data=form, headers=[("X-Request-Id", request_id)]).get_environ()
    seen.mark("request arrived")
    with closing(environ["wsgi.input"]):  # a body above 500 KB is on disk
        app.test_client().open(environ, buffered=True)
    seen.mark("response sent")
    for job in jobs:
        seen.mark("job began")
        job()
