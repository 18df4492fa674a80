"""gunicorn's configuration: `gunicorn -c flask_app/gunicorn.conf.py flask_app.wsgi:app`.

One process with many threads: an upload mostly waits for its client and for S3, and each limit of `UPLOAD_*` holds for
one process. More processes (`--workers`) multiply the limits.
"""

import math
import os
import shutil
import sys
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from filehandoff import admission, arenas, descriptors, logs
from filehandoff.errors import BucketMissing, SettingsError
from filehandoff.metrics import FOLDER_VARIABLE, share_numbers
from filehandoff.s3.cleanup import ANSWER_SECONDS, END_SECONDS, UNDO_SECONDS
from filehandoff.settings import Settings, misspelt
from filehandoff.web.request import EXTENSION
from flask_app.store import check_bucket

try:
    settings = Settings.from_env(os.environ)
except SettingsError as error:
    sys.exit(f"flask_app: {error}")

# Set here, before any thread starts; the workers are forked from this process.
arenas.limit_arenas(os.environ)

# gunicorn's log lines, in the master as well, get the format of the app's lines.
logs.configure(settings)

# Loopback: a proxy in front ends TLS. Without this line, gunicorn listens on all addresses if PORT is set.
bind = "127.0.0.1:8000"
# gthread with a time limit for request heads, and without threads that wait for answered clients
worker_class = "flask_app.worker.Worker"
workers = 1
# A thread serves one request at a time, once its head is complete. UPLOAD_MAX_CONCURRENT threads are for uploads, as
# many for waiting uploads, twice as many for downloads, and 8 for /healthz, /readyz, /metrics and refusals.
threads = admission.threads(settings.max_concurrent)
# Open connections: one for each thread, and 1,000 that wait for a request or for the rest of its head. There are fewer
# if the process may not have that many file descriptors.
worker_connections = descriptors.connections(descriptors.raise_limit(), settings)
# For gthread this limits the silence of the whole worker, not the time of an upload.
timeout = 60
# Uploads stop after UPLOAD_DRAIN_SECONDS; the rest of this time is for undoing them.
graceful_timeout = math.ceil(settings.drain_seconds + END_SECONDS)
keepalive = 5
# Without these two, gunicorn takes a request's path and scheme from the headers of any client on loopback, where the
# proxy is. UPLOAD_ROOT_PATH sets the path of the app, and no link has a scheme.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
# All gunicorns of a user share the socket's path, and this service does not use it.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Watch for the end of the worker, before its first request.

    The worker waits less long for its connections than the master waits for the worker, which must still undo uploads.
    """
    worker.cfg.set("graceful_timeout", math.ceil(settings.drain_seconds + UNDO_SECONDS + ANSWER_SECONDS))
    service = worker.wsgi.extensions[EXTENSION]
    service.shutdown.watch(lambda: worker.alive)
    if worker.age == 1:  # the first of all workers
        service.warn_if_open()


def child_exit(_server: Any, worker: Any) -> None:
    """Remove the ended process from the numbers of uploads in flight."""
    if FOLDER_VARIABLE in os.environ:
        mark_process_dead(worker.pid)


def on_starting(server: Any) -> None:
    """Exit with one line if the bucket is missing or a setting cannot work."""
    logs.warn_misspelt("flask_app", misspelt(os.environ), settings)
    try:
        server.handoff_folder = share_numbers(server.cfg.workers)
        check_bucket(settings)
    except (BucketMissing, SettingsError) as error:
        sys.exit(f"flask_app: {error}")


def on_exit(server: Any) -> None:
    """Remove the folder of the workers' numbers after the last worker."""
    if folder := getattr(server, "handoff_folder", None):
        shutil.rmtree(folder, ignore_errors=True)
