"""The app for WSGI servers: `flask_app.wsgi:app`.

A setting that cannot work ends the start with one line.
"""

import logging
import os
import sys
from pathlib import Path

from filehandoff import logs
from filehandoff.errors import SettingsError
from filehandoff.settings import Settings
from flask_app import create_app

try:
    settings = Settings.from_env(os.environ)
    logs.configure(settings)
    app = create_app(settings)
except SettingsError as error:
    sys.exit(f"flask_app: {error}")
if "gunicorn.arbiter" in sys.modules and "flask_app.worker" not in sys.modules:
    logging.getLogger("flask_app").warning(
        "gunicorn runs with another configuration than this app's: one slow client stops a whole process, and a header "
        "of a client may change the path; start it with: gunicorn -c %s flask_app.wsgi:app",
        Path(__file__).with_name("gunicorn.conf.py"),
    )
