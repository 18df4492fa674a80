"""The app for WSGI servers: `flask_app.wsgi:app`."""

from flask_app.start import start_app

app = start_app()
