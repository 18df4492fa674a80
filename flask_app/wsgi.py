"""What a WSGI server loads: `flask_app.wsgi:app`. A setting that cannot work ends the start with one line."""

import os
import sys

from flask_app import create_app
from handoff import logs
from handoff.errors import SettingsError
from handoff.settings import Settings

try:
    settings = Settings.from_env(os.environ)
    logs.configure(settings)
    app = create_app(settings)
except SettingsError as error:
    sys.exit(f"flask_app: {error}")
