"""What a WSGI server loads: `flask_app.wsgi:app`. A setting that cannot work ends the start with one line."""

import sys

from flask_app import create_app
from handoff.errors import SettingsError

try:
    app = create_app()
except SettingsError as error:
    sys.exit(f"flask_app: {error}")
