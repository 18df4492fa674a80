"""The async shell: Quart, aioboto3, tasks; runs under hypercorn."""

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor

import click
from quart import Quart

from filehandoff.admission import reads_at_once
from filehandoff.errors import SettingsError
from filehandoff.explain import explain_closed_files
from filehandoff.settings import Settings
from quart_app.admission import Admission, Reading
from quart_app.connections import Connections
from quart_app.request import Handshake, Request, ServiceConnection
from quart_app.shutdown import Shutdown

__all__ = ["create_app"]

#: Threads for short work that would block the event loop: as many as asyncio's own pool has.
_THREADS = min(32, (os.process_cpu_count() or 1) + 4)


def create_app(settings: Settings | None = None) -> Quart:
    """The upload service; settings come from the environment unless given.

    Raises:
        SettingsError: a setting cannot work.
    """
    # Not above: `quart_app.request`, which other apps import, must not need aioboto3, structlog and prometheus_client.
    from filehandoff.logs import AnswerLog  # noqa: PLC0415
    from quart_app.store import Store  # noqa: PLC0415
    from quart_app.sweep import sweep_command  # noqa: PLC0415
    from quart_app.views import KeyConverter, routes  # noqa: PLC0415

    app = Quart(__name__, static_folder=None)
    app.request_class = Request
    app.asgi_http_class = ServiceConnection
    app.asgi_websocket_class = Handshake
    app.json.ensure_ascii = False  # type: ignore[attr-defined] # Quart's own provider has it
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    # Ours is an idle timeout: these two would cut an upload or a download that is slow but moving.
    app.config.update(BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    store = Store(settings or _settings())
    app.extensions["handoff"] = store
    app.extensions["handoff.connections"] = connections = Connections(store.settings.idle_timeout)
    app.extensions["handoff.shutdown"] = shutdown = Shutdown(store.settings.drain_seconds, connections.hang_up)
    watching: list[asyncio.Task[None]] = []
    if store.settings.explain_closed_files:
        explain_closed_files(app)
    app.extensions["handoff.answer_log"] = AnswerLog()
    app.extensions["handoff.admission"] = Admission(store.settings.max_concurrent)
    app.extensions["handoff.reading"] = Reading(reads_at_once(store.settings.max_concurrent))
    app.url_map.converters["key"] = KeyConverter
    app.register_blueprint(routes, url_prefix=store.settings.routes_path)
    app.cli.add_command(sweep_command(store))

    @app.before_serving
    async def open_store() -> None:
        asyncio.get_running_loop().set_default_executor(_started_pool())
        await store.open()
        shutdown.watch()
        watching.append(asyncio.create_task(connections.watch(), name="connections"))

    @app.after_serving
    async def close_store() -> None:
        shutdown.close()
        watching.pop().cancel()
        await store.close()

    return app


def _started_pool() -> ThreadPoolExecutor:
    """A pool for `asyncio.to_thread` whose threads have all started: later the system may start no more."""
    pool, gate = ThreadPoolExecutor(_THREADS, "asyncio"), Future[None]()
    for _ in range(_THREADS):
        pool.submit(gate.result)  # each finds the others waiting, and so gets a thread of its own
    gate.set_result(None)
    return pool


def _settings() -> Settings:
    """The environment's; on a command line a wrong one is an error of click's, which prints it in one line."""
    try:
        return Settings.from_env(os.environ)
    except SettingsError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None
