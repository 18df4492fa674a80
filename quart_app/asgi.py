"""The app for ASGI servers: `quart_app.asgi:app`."""

from quart_app.start import start_app

app = start_app()
