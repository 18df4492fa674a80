"""The sync shell: Flask, boto3, threads; runs under gunicorn."""

import os

from flask import Flask

from flask_app.request import Request
from flask_app.store import Store
from flask_app.views import routes
from handoff.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """The upload service; settings come from the environment unless given.

    Raises:
        SettingsError: a setting cannot work.
    """
    app = Flask(__name__, static_folder=None)
    app.request_class = Request
    app.json.ensure_ascii = False  # type: ignore[attr-defined] # Flask's own provider has it
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    store = Store(settings or Settings.from_env(os.environ))
    store.open()
    app.extensions["handoff"] = store
    app.register_blueprint(routes)
    return app
