"""moto's S3 on an inherited socket: `python -m demo.moto_server FD`."""

import io
import logging
import signal
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from moto.s3.models import FakeKey


class OneWriterAtATime:
    """Compares and writes in one step, as S3 does.

    moto itself looks for an object, for `If-None-Match` and `If-Match`, and writes later, so that of two conditional
    puts at once both may succeed. A body is read before the lock is taken: a slow sender delays no other.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass a request on, a write under the lock."""
        if environ["REQUEST_METHOD"] not in {"PUT", "POST", "DELETE"}:
            return self._app(environ, start_response)
        try:
            body = get_input_stream(environ).read()
        except ClientDisconnected as disconnected:
            return disconnected(environ, start_response)
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        with self._lock:
            return self._app(environ, start_response)


def reject_parts_of_unknown_uploads() -> None:
    """Make moto answer NoSuchUpload to a part of an upload that it lacks, as S3 does; stock moto answers 500."""
    from moto.s3.exceptions import NoSuchUpload  # noqa: PLC0415 - as in `main`
    from moto.s3.models import S3Backend  # noqa: PLC0415

    upload_part = S3Backend.upload_part

    def checked(self: S3Backend, bucket_name: str, multipart_id: str, part_id: int, value: bytes) -> "FakeKey":
        if multipart_id not in self.get_bucket(bucket_name).multiparts:
            raise NoSuchUpload(multipart_id)
        return upload_part(self, bucket_name, multipart_id, part_id, value)

    S3Backend.upload_part = checked  # type: ignore[method-assign] # moto has no seam


def main() -> None:
    """Serve until SIGTERM."""
    # Here, because this import adds moto's handler to all clients of boto in the process.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415

    reject_parts_of_unknown_uploads()
    signal.signal(signal.SIGTERM, _end)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no log line per request
    application = OneWriterAtATime(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", 0, application, threaded=True, fd=int(sys.argv[1])).serve_forever()


def _end(*_signal: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
