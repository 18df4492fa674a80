"""How gunicorn is meant to run this app: `gunicorn -c flask_app/gunicorn.conf.py flask_app.wsgi:app`.

One process with many threads: an upload spends its time waiting for the client and for S3, and every limit of
`UPLOAD_*` holds for each process. More processes (`--workers`) multiply them all.
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

# Here, for the workers are forked from this process, which has no thread yet.
arenas.limit_arenas(os.environ)

# gunicorn's own lines, the master's as well, look like the app's.
logs.configure(settings)

# gthread, with a time limit for request heads, and no thread that waits for a client that was answered
worker_class = "flask_app.worker.Worker"
workers = 1
# A thread serves one request at a time, once its head has come. So many may upload, as many again may wait for their
# turn, twice as many may download, and 8 more are for /healthz, /readyz, /metrics, and to say no.
threads = admission.threads(settings.max_concurrent)
# How many connections may be open: one for each thread, and 1,000 that are kept for their clients' next requests or
# whose heads are still to come; fewer where the process may not have the file descriptors.
worker_connections = descriptors.connections(descriptors.raise_limit(), settings)
# For gthread this is how long a worker may be silent as a whole, not how long an upload may take.
timeout = 60
# Uploads that are not over by then are stopped, and have the rest of this time to be undone.
graceful_timeout = math.ceil(settings.drain_seconds + END_SECONDS)
keepalive = 5
# Without these two, gunicorn takes the path and the scheme of a request from headers of any client on loopback, where
# the proxy is; UPLOAD_ROOT_PATH says below which path the app is offered, and no link has a scheme.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
# All gunicorns of a user share its path, and this service does not use it.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Before the first request: know when uploads must be over.

    The worker waits for its connections less long than the master does for the worker: it has still something to undo.
    """
    worker.cfg.set("graceful_timeout", math.ceil(settings.drain_seconds + UNDO_SECONDS + ANSWER_SECONDS))
    worker.wsgi.extensions[EXTENSION].shutdown.watch(lambda: worker.alive)


def child_exit(_server: Any, worker: Any) -> None:
    """Of a process that has ended, nothing is in flight any more."""
    if FOLDER_VARIABLE in os.environ:
        mark_process_dead(worker.pid)


def on_starting(server: Any) -> None:
    """Before the first worker: exit with one line if the bucket or a setting cannot work."""
    logs.warn_misspelt("flask_app", misspelt(os.environ), settings)
    try:
        server.handoff_folder = share_numbers(server.cfg.workers)
        check_bucket(settings)
    except (BucketMissing, SettingsError) as error:
        sys.exit(f"flask_app: {error}")


def on_exit(server: Any) -> None:
    """After the last worker: remove the folder that was made for the workers' numbers."""
    if folder := getattr(server, "handoff_folder", None):
        shutil.rmtree(folder, ignore_errors=True)
