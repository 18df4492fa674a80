"""The start of the app in an ASGI server, with options that no environment variable can hold."""

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import parent_process
from typing import Any

from quart import Quart

from filehandoff import logs, temporary_files
from filehandoff.arenas import limit_arenas
from filehandoff.descriptors import raise_limit
from filehandoff.errors import BucketMissing, SettingsError
from filehandoff.garbage import spare_the_start
from filehandoff.metrics import FOLDER_VARIABLE
from filehandoff.service import tracing
from filehandoff.settings import Settings, misspelt
from filehandoff.web.request import EXTENSION
from quart_app import create_app, hypercorn_server, uvicorn_server
from quart_app.store import check_bucket
from quart_app.workers import join_supervisor


def start_app(**options: Any) -> Quart:
    """Make the app by `create_app(settings, **options)` for the server that imports the calling module.

    A setting that cannot work, or a missing bucket, ends the process with one line.
    """
    try:
        settings = Settings.from_env(os.environ)
        limit_arenas(os.environ)
        temporary_files.choose_folder()
        logs.configure(settings)
        if settings.traces:
            tracing().configure()
        logs.warn_misspelt("quart_app", misspelt(os.environ), settings)
        raise_limit()
        # In a thread with its own loop, because some servers load the app while their loop runs.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, check_bucket(settings)).result()
        app = create_app(settings, **options)
    except (SettingsError, BucketMissing) as error:
        sys.exit(f"quart_app: {error}")
    app.before_serving(spare_the_start)  # behind the one that makes boto's clients
    join_supervisor(app)
    if parent_process() is not None and FOLDER_VARIABLE not in os.environ:
        logging.getLogger("quart_app").warning(
            "/metrics covers this worker process alone; to cover all workers, set %s to an empty folder",
            FOLDER_VARIABLE,
        )
    if "uvicorn.server" in sys.modules:  # uvicorn loads the calling module; Quart itself always imports hypercorn
        uvicorn_server.install(app.extensions[EXTENSION].shutdown)
    else:
        hypercorn_server.install()
    return app
