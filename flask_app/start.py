"""The start of the app in a WSGI server, with options that no environment variable can hold."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask

from filehandoff import logs, temporary_files
from filehandoff.errors import SettingsError
from filehandoff.garbage import spare_the_start
from filehandoff.service import tracing
from filehandoff.settings import Settings
from flask_app import create_app

#: The status by which a gunicorn worker ends the whole server; after any other one, gunicorn starts the next worker.
BOOT_ERROR = 3


def start_app(**options: Any) -> Flask:
    """Make the app by `create_app(settings, **options)` for the server that imports the calling module.

    A setting that cannot work ends the process with one line.
    """
    try:
        settings = Settings.from_env(os.environ)
        temporary_files.choose_folder()
        logs.configure(settings)
        if settings.traces:
            tracing().configure()
        app = create_app(settings, **options)
    except SettingsError as error:
        sys.stderr.write(f"flask_app: {error}\n")
        sys.exit(BOOT_ERROR)
    spare_the_start()
    if "gunicorn.arbiter" in sys.modules and "flask_app.worker" not in sys.modules:
        logging.getLogger("flask_app").warning(
            "gunicorn runs with another configuration than this app's: one slow client stops a whole process, and a "
            "header of a client may change the path; start it with: gunicorn -c %s flask_app.wsgi:app",
            Path(__file__).with_name("gunicorn.conf.py"),
        )
    return app
