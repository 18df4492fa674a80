"""The Quart app with a handler."""

import asyncio
from typing import Any

from processes.handlers.handling import noted

from quart_app.start import start_app


async def on_stored(receipts: list[dict[str, Any]]) -> None:
    """Do the work that the file's name chooses."""
    for pause in noted(receipts):
        await asyncio.sleep(pause)


app = start_app(on_stored=on_stored)
