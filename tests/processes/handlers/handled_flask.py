"""The Flask app with a handler."""

import time
from typing import Any

from processes.handlers.handling import noted

from flask_app.start import start_app


def on_stored(receipts: list[dict[str, Any]]) -> None:
    """Do the work that the file's name chooses."""
    for pause in noted(receipts):
        time.sleep(pause)


app = start_app(on_stored=on_stored)
