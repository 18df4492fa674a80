"""How gunicorn is meant to run this app: `gunicorn -c flask_app/gunicorn.conf.py flask_app.wsgi:app`.

One process with many threads: an upload spends its time waiting for the client and for S3, and every limit of
`UPLOAD_*` holds for each process. More processes (`--workers`) multiply them all.
"""

import math
import os
import sys
from typing import Any

from flask_app.store import Store
from flask_app.uploads import UNDO_SECONDS
from handoff.errors import BucketMissing, SettingsError
from handoff.settings import Settings, misspelt

try:
    settings = Settings.from_env(os.environ)
except SettingsError as error:
    sys.exit(f"flask_app: {error}")

worker_class = "gthread"
workers = 1
# A thread serves one connection at a time: those beyond the uploads are for /healthz, /readyz and downloads.
threads = settings.max_concurrent + 8
# For gthread this is how long a worker may be silent as a whole, not how long an upload may take.
timeout = 60
# Uploads that are not over by then are stopped, and have the rest of this time to be undone.
graceful_timeout = math.ceil(settings.drain_seconds + UNDO_SECONDS)
keepalive = 5
# Its place is one for all gunicorns of a user, and nobody here uses it.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Before the first request: know when uploads must be over."""
    worker.wsgi.extensions["handoff.shutdown"].watch(lambda: worker.alive)


def on_starting(_server: Any) -> None:
    """Before the first worker: say what is wrong with the start in one line, and end it."""
    for name, meant in misspelt(os.environ).items():
        sys.stderr.write(f"flask_app: {name} is no setting; was {meant} meant?\n")
    store = Store(settings)
    store.open()
    try:
        store.check_bucket()
    except BucketMissing as error:
        sys.exit(f"flask_app: {error}")
    finally:
        store.close()
