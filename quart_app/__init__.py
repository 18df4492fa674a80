"""The async shell: Quart, aioboto3, tasks; runs under hypercorn."""

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, TypeVar

import click
from quart import Quart

from filehandoff.errors import SettingsError
from filehandoff.explain import explain_closed_files
from filehandoff.settings import Settings
from filehandoff.typing_backports import override
from filehandoff.web.request import EXTENSION
from quart_app.request import Handshake, Request, ServiceConnection

if TYPE_CHECKING:
    from filehandoff.identity import Authenticate
    from filehandoff.s3.calls import Flow
    from filehandoff.stored import Handler
    from quart_app.service import Service

T = TypeVar("T")

__all__ = ["create_app"]

#: Threads for short work that would block the event loop, as many as in asyncio's own pool.
_THREADS = min(32, (os.cpu_count() or 1) + 4)


class _App(Quart):
    """A Quart app that recognizes a plain coroutine function by its code, several times for each request."""

    @override
    def ensure_async(self, func: Any) -> Any:
        code = getattr(func, "__code__", None)
        return func if code is not None and code.co_flags & CO_COROUTINE else super().ensure_async(func)


def create_app(
    settings: Settings | None = None,
    authenticate: "Authenticate | None" = None,
    *,
    on_stored: "Handler | None" = None,
) -> Quart:
    """Make the upload service; without `settings`, read them from the environment.

    `authenticate` identifies the sender of each request, in the place of `UPLOAD_AUTH`: it gets the request's method,
    path and headers and returns an `Identity`, or refuses by None or an error such as `Unauthorized`.
    It may be a coroutine function; another function must not block.

    `on_stored` is called with the receipts of each upload, by the rules of `filehandoff.stored`. It is a coroutine
    function, or a function that runs in a thread.

    Raises:
        SettingsError: a setting cannot work.
    """
    # Imported here: other apps import `quart_app.request`, which must need no aioboto3, prometheus_client.
    from filehandoff.sweep_command import sweep_command  # noqa: PLC0415
    from quart_app.files import routes as files_routes  # noqa: PLC0415
    from quart_app.tasks import run_in_background  # noqa: PLC0415
    from quart_app.views import KeyConverter, routes  # noqa: PLC0415
    from quart_app.workers import SUPERVISOR  # noqa: PLC0415

    app = _App(__name__, static_folder=None)
    app.request_class = Request
    app.asgi_http_class = ServiceConnection
    app.asgi_websocket_class = Handshake
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    # The app has idle timeouts; these two would abort an upload or a download that is slow but moving.
    app.config.update(BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    service = app.extensions[EXTENSION] = _service(settings, authenticate, on_stored)
    if service.settings.explain_closed_files:
        explain_closed_files(app)
    if service.settings.traces:
        from quart_app.tracing import trace_requests  # noqa: PLC0415 - needs OpenTelemetry, which is optional

        trace_requests(app)
    app.url_map.converters["key"] = KeyConverter
    for blueprint in (routes, files_routes):
        app.register_blueprint(blueprint, url_prefix=service.settings.routes_path)
    app.cli.add_command(sweep_command("quart_app", service, lambda flow: asyncio.run(_run_once(service, flow))))
    watching: list[asyncio.Task[None]] = []

    @app.before_serving
    async def open_service() -> None:
        asyncio.get_running_loop().set_default_executor(_started_pool())
        await service.open()
        if SUPERVISOR not in app.config:
            service.warn_if_open()
        service.shutdown.watch()
        watching.append(run_in_background(service.connections.watch(), "connections"))

    @app.after_serving
    async def close_service() -> None:
        service.shutdown.close()
        watching.pop().cancel()
        await service.close()

    return app


async def _run_once(service: "Service", flow: "Flow[T]") -> T:
    """Run a flow outside of a server."""
    await service.open()
    try:
        return await service.store.run(flow)
    finally:
        await service.close()


def _started_pool() -> ThreadPoolExecutor:
    """Make a pool for `asyncio.to_thread` and start all its threads.

    Later the system may have no thread left.
    """
    pool, gate = ThreadPoolExecutor(_THREADS, "asyncio"), Future[None]()
    for _ in range(_THREADS):
        pool.submit(gate.result)  # the earlier jobs still wait, so each job starts a thread
    gate.set_result(None)
    return pool


def _service(settings: Settings | None, authenticate: "Authenticate | None", on_stored: "Handler | None") -> "Service":
    """Make the service; on a command line, print a wrong setting in one line."""
    from quart_app.service import Service  # noqa: PLC0415 - as in `create_app`

    try:
        return Service(settings or Settings.from_env(os.environ), authenticate, on_stored)
    except SettingsError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None
