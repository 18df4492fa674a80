"""The sync shell: Flask, boto3, threads; runs under gunicorn."""

import os

import click
from flask import Flask

from filehandoff.errors import SettingsError
from filehandoff.explain import explain_closed_files
from filehandoff.identity import Authenticate
from filehandoff.settings import Settings
from filehandoff.stored import Handler
from filehandoff.sweep_command import sweep_command
from filehandoff.web.request import EXTENSION
from flask_app.files import routes as files_routes
from flask_app.request import Request
from flask_app.service import Service
from flask_app.views import KeyConverter, routes

__all__ = ["create_app"]


def create_app(
    settings: Settings | None = None,
    authenticate: Authenticate | None = None,
    *,
    on_stored: Handler | None = None,
) -> Flask:
    """Make the upload service; without `settings`, read them from the environment.

    `authenticate` identifies the sender of each request, in the place of `UPLOAD_AUTH`: it gets the request's method,
    path and headers and returns an `Identity`, or refuses by None or an error such as `Unauthorized`.

    `on_stored` is called with the receipts of each upload, by the rules of `filehandoff.stored`.

    Raises:
        SettingsError: a setting cannot work.
    """
    app = Flask(__name__, static_folder=None)
    app.request_class = Request
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    service = app.extensions[EXTENSION] = _service(settings, authenticate, on_stored)
    if service.settings.explain_closed_files:
        explain_closed_files(app)
    if service.settings.traces:
        from flask_app.tracing import trace_requests  # noqa: PLC0415 - needs OpenTelemetry, which is optional

        trace_requests(app)
    app.url_map.converters["key"] = KeyConverter
    for blueprint in (routes, files_routes):
        app.register_blueprint(blueprint, url_prefix=service.settings.routes_path)
    app.cli.add_command(sweep_command("flask_app", service, service.store.run))
    return app


def _service(settings: Settings | None, authenticate: Authenticate | None, on_stored: Handler | None) -> Service:
    """Make the service; on a command line, print a wrong setting in one line."""
    try:
        return Service(settings or Settings.from_env(os.environ), authenticate, on_stored)
    except SettingsError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None
