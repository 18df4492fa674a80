"""What an ASGI server loads: `quart_app.asgi:app`. A setting that cannot work ends the start with one line."""

import os
import sys

from handoff.errors import SettingsError
from handoff.settings import misspelt
from quart_app import create_app

for name, meant in misspelt(os.environ).items():
    sys.stderr.write(f"quart_app: {name} is no setting; was {meant} meant?\n")
try:
    app = create_app()
except SettingsError as error:
    sys.exit(f"quart_app: {error}")
