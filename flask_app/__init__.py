"""The sync shell: Flask, boto3, threads; runs under gunicorn."""

import os

import click
from flask import Flask

from filehandoff.admission import reads_at_once
from filehandoff.errors import SettingsError
from filehandoff.explain import explain_closed_files
from filehandoff.logs import AnswerLog
from filehandoff.settings import Settings
from flask_app.admission import Admission, Reading
from flask_app.request import Request
from flask_app.shutdown import Shutdown
from flask_app.store import Store
from flask_app.sweep import sweep_command
from flask_app.views import KeyConverter, routes

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
    store = _open_store(settings)
    app.extensions["handoff"] = store
    app.extensions["handoff.shutdown"] = Shutdown(store.settings.drain_seconds)
    if store.settings.explain_closed_files:
        explain_closed_files(app)
    app.extensions["handoff.answer_log"] = AnswerLog()
    app.extensions["handoff.admission"] = Admission(store.settings.max_concurrent)
    app.extensions["handoff.reading"] = Reading(reads_at_once(store.settings.max_concurrent))
    app.url_map.converters["key"] = KeyConverter
    app.register_blueprint(routes, url_prefix=store.settings.routes_path)
    app.cli.add_command(sweep_command(store))
    return app


def _open_store(settings: Settings | None) -> Store:
    """The store; on a command line a wrong setting is an error of click's, which prints it in one line."""
    try:
        store = Store(settings or Settings.from_env(os.environ))
        store.open()
    except SettingsError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None
    return store
