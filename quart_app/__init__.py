"""The async shell: Quart, aioboto3, tasks; runs under hypercorn."""

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import click
from quart import Quart

from filehandoff.errors import SettingsError
from filehandoff.explain import explain_closed_files
from filehandoff.settings import Settings
from filehandoff.web.request import EXTENSION
from quart_app.request import Handshake, Request, ServiceConnection

if TYPE_CHECKING:
    from filehandoff.s3.calls import Flow
    from quart_app.service import Service

__all__ = ["create_app"]

#: Threads for short work that would block the event loop: as many as asyncio's own pool has.
_THREADS = min(32, (os.process_cpu_count() or 1) + 4)


def create_app(settings: Settings | None = None) -> Quart:
    """The upload service; settings come from the environment unless given.

    Raises:
        SettingsError: a setting cannot work.
    """
    # Not above: `quart_app.request`, which other apps import, must not need aioboto3, structlog and prometheus_client.
    from filehandoff.sweep_command import sweep_command  # noqa: PLC0415
    from quart_app.service import Service  # noqa: PLC0415
    from quart_app.views import KeyConverter, routes  # noqa: PLC0415

    app = Quart(__name__, static_folder=None)
    app.request_class = Request
    app.asgi_http_class = ServiceConnection
    app.asgi_websocket_class = Handshake
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    # Ours is an idle timeout: these two would cut an upload or a download that is slow but moving.
    app.config.update(BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    service = app.extensions[EXTENSION] = Service(settings or _settings())
    if service.settings.explain_closed_files:
        explain_closed_files(app)
    app.url_map.converters["key"] = KeyConverter
    app.register_blueprint(routes, url_prefix=service.settings.routes_path)
    app.cli.add_command(sweep_command("quart_app", service, lambda flow: asyncio.run(_run_once(service, flow))))
    watching: list[asyncio.Task[None]] = []

    @app.before_serving
    async def open_service() -> None:
        asyncio.get_running_loop().set_default_executor(_started_pool())
        await service.open()
        service.shutdown.watch()
        watching.append(asyncio.create_task(service.connections.watch(), name="connections"))

    @app.after_serving
    async def close_service() -> None:
        service.shutdown.close()
        watching.pop().cancel()
        await service.close()

    return app


async def _run_once[T](service: "Service", flow: "Flow[T]") -> T:
    """Run a flow outside of a server."""
    await service.open()
    try:
        return await service.store.run(flow)
    finally:
        await service.close()


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
