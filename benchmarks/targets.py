"""The measured targets, each an app on a server.

They are both apps with each working hand-off and hook, and their peers.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.processes import python
from filehandoff.settings import Settings
from filehandoff.strategies import DEFAULT_HOOK, FRAMEWORKS, HANDOFFS, HOOKS, LOST, TUS, outcomes

#: Hand-offs that some stores cannot measure: those stores, and the reason.
_READS_BACK = ({"null"}, "the app reads the file back from S3, and the null store has discarded it")
NOT_ON = {"presigned": _READS_BACK, TUS: _READS_BACK}
#: The folder of the tus server on Node, with its packages of npm.
TUSD_WAY = Path(__file__).with_name("peers") / "tusd_way"


@dataclass(frozen=True)
class ServerProgram:
    """A program that serves apps.

    Args:
        name: its name in target names.
        interface: `asgi`, `wsgi`, or `npm` for a folder of `benchmarks.npm`.
        command: its start command; `{app}` is the app, `{threads}` the number of concurrent requests.
        requires: the modules that it needs.
        inherits: whether it accepts a listening socket; otherwise it gets a port number.
        has_workers: whether it takes `--workers`, the number of its processes.
    """

    name: str
    interface: str
    command: list[str]
    requires: tuple[str, ...]
    inherits: bool = True
    has_workers: bool = True

    def start_command(self, app: str, threads: int, workers: int) -> list[str]:
        """The command that serves an app."""
        filled = [part.replace("{app}", app).replace("{threads}", str(threads)) for part in self.command]
        return filled if workers == 1 else [*filled, "--workers", str(workers)]


def _servers() -> Iterator[ServerProgram]:
    hypercorn = python("hypercorn", "-c", "quart_app/hypercorn.toml", "-b", "fd://{fd}")
    yield ServerProgram("hypercorn", "asgi", [*hypercorn, "{app}"], ("hypercorn",))
    yield ServerProgram("hypercorn-uvloop", "asgi", [*hypercorn, "-k", "uvloop", "{app}"], ("hypercorn", "uvloop"))
    quiet = ["--no-access-log", "--log-level", "warning"]
    # uvicorn uses the packages of `uvicorn[standard]` if they are installed
    # --port, not --fd: uvicorn takes an inherited socket for a Unix one and leaves Nagle's algorithm on, which costs
    # 40 ms per answer
    uvicorn = python("uvicorn", "--host", "127.0.0.1", "--port", "{port}", *quiet, "{app}")
    yield ServerProgram("uvicorn", "asgi", uvicorn, ("uvicorn", "uvloop", "httptools"), inherits=False)
    granian = python("granian", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")
    yield ServerProgram("granian", "asgi", [*granian, "--interface", "asgi", "{app}"], ("granian",), inherits=False)
    shipped = python("gunicorn", "-c", "flask_app/gunicorn.conf.py", "-b", "fd://{fd}", "{app}")
    yield ServerProgram("gunicorn", "wsgi", shipped, ("gunicorn",))
    gthread = python("gunicorn", "-k", "gthread", "--threads", "{threads}", "--no-control-socket", "-b", "fd://{fd}")
    yield ServerProgram("gunicorn-gthread", "wsgi", [*gthread, "--log-level", "warning", "{app}"], ("gunicorn",))
    wsgi = [*granian, "--interface", "wsgi", "--blocking-threads", "{threads}", "{app}"]
    yield ServerProgram("granian-wsgi", "wsgi", wsgi, ("granian",), inherits=False)
    waitress = python("waitress", "--listen=127.0.0.1:{port}", "--threads={threads}", "{app}")
    node = ["node", "{app}/server.mjs", "{port}"]
    yield ServerProgram("node", "npm", node, (), inherits=False, has_workers=False)
    yield ServerProgram("waitress", "wsgi", waitress, ("waitress",), inherits=False, has_workers=False)


SERVERS = {server.name: server for server in _servers()}


@dataclass(frozen=True)
class Target:
    """An app on a server that takes uploads.

    Args:
        name: its name in cell ids, with its server after an `@`.
        label: its name for people, without the server.
        app: `module:app`.
        server: the program that serves it.
        path: the URL path of an upload; `{name}` is the file's name.
        requires: the modules that it needs besides its server's.
        handoff: the hand-off of one of our apps; empty for others.
        hook: the hook of one of our apps; empty for others.
        framework: the web framework.
        upload_kind: `form`, `bare` for the body of a PUT, `presigned` for S3's own URLs, `tus` for chunks.
        stores: the stores that it works with; empty for all.
    """

    name: str
    label: str
    app: str
    server: ServerProgram
    path: str
    framework: str
    requires: tuple[str, ...] = ()
    handoff: str = ""
    hook: str = ""
    upload_kind: str = "form"
    stores: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our apps, which return receipts and serve `/readyz`."""
        return bool(self.handoff)

    @property
    def as_form(self) -> bool:
        """Whether it takes a form."""
        return self.upload_kind == "form"

    def works_on(self, store: str) -> bool:
        """Whether it can be measured on this store."""
        return store in (self.stores or {store}) and store not in NOT_ON.get(self.handoff, (set(), ""))[0]

    def missing(self) -> str | None:
        """The first required module that is not installed."""
        return next((it for it in (*self.server.requires, *self.requires) if not _is_installed(it)), None)

    def works_with(self, size: int) -> bool:
        """Whether it is known to store files of this size."""
        if not self.is_ours or self.handoff == TUS:
            return True
        known = outcomes(self.framework.lower(), self.handoff, self.hook, size, Settings().part_bytes)
        return LOST not in known


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


#: Each framework's app, and the servers that it is measured on, its own first.
_OURS: Mapping[str, tuple[str, list[str]]] = {
    "flask": ("flask_app.wsgi:app", ["gunicorn", "granian-wsgi", "waitress"]),
    "quart": ("quart_app.asgi:app", ["hypercorn", "hypercorn-uvloop", "uvicorn", "granian"]),
}


def _ours() -> Iterator[Target]:
    for framework in FRAMEWORKS:
        app, servers = _OURS[framework]
        for handoff in HANDOFFS:
            for hook in HOOKS:
                for server in servers:
                    name = f"{framework}/{handoff}" + ("" if hook == DEFAULT_HOOK else f"+{hook}")
                    yield Target(
                        f"{name}@{server}",
                        f"{framework.capitalize()} {handoff}" + ("" if hook == DEFAULT_HOOK else f" × {hook}"),
                        app,
                        SERVERS[server],
                        f"/uploads/{handoff}?hook={hook}",
                        framework.capitalize(),
                        ("boto3",) if framework == "flask" else ("aioboto3",),
                        handoff,
                        hook,
                        upload_kind="presigned" if handoff == "presigned" else "form",
                    )


def _ours_by_tus() -> Iterator[Target]:
    for framework in FRAMEWORKS:
        app, servers = _OURS[framework]
        requires = ("boto3",) if framework == "flask" else ("aioboto3",)
        for server in servers:
            yield Target(
                f"{framework}/tus@{server}",
                f"{framework.capitalize()} tus",
                app,
                SERVERS[server],
                "/files",
                framework.capitalize(),
                requires,
                TUS,
                "none",
                upload_kind="tus",
            )


def _peer(name: str, label: str, module: str, server: str, *requires: str) -> Target:
    framework = label.split(maxsplit=1)[0]
    app = f"benchmarks.peers.{module}:app"
    return Target(f"{name}@{server}", label, app, SERVERS[server], "/upload", framework, requires)


def _peers() -> Iterator[Target]:
    fastapi = ("fastapi", "python_multipart", "aioboto3")
    yield _peer("fastapi", "FastAPI UploadFile + aioboto3", "fastapi_aioboto3", "uvicorn", *fastapi)
    yield _peer("fastapi", "FastAPI UploadFile + aioboto3", "fastapi_aioboto3", "hypercorn", *fastapi)
    starlette = ("starlette", "python_multipart", "aioboto3")
    yield _peer("starlette", "Starlette form + aioboto3", "starlette_aioboto3", "uvicorn", *starlette)
    yield _peer("litestar", "Litestar UploadFile + aioboto3", "litestar_aioboto3", "uvicorn", "litestar", "aioboto3")
    django = ("django", "storages", "boto3")
    yield _peer("django", "Django + django-storages", "django_storages", "gunicorn-gthread", *django)
    yield _peer("flask-plain", "Flask + upload_fileobj", "flask_boto3", "gunicorn-gthread", "flask", "boto3")
    yield _peer("quart-plain", "Quart + upload_fileobj", "quart_aioboto3", "hypercorn", "quart", "aioboto3")
    yield Target(
        "tusd-way@node",
        "@tus/server + @tus/s3-store",
        str(TUSD_WAY),
        SERVERS["node"],
        "/files",
        "Node",
        upload_kind="tus",
        stores=("rclone", "moto", "swift"),  # it reads its state back
    )
    yield _relay("relay", "bare relay (the limit)", "app")
    yield _relay("relay-sha256", "bare relay + SHA-256 (the limit)", "hashing")


def _relay(name: str, label: str, app: str) -> Target:
    return Target(
        f"{name}@uvicorn",
        label,
        f"benchmarks.peers.relay:{app}",
        SERVERS["uvicorn"],
        "/{name}",
        "none",
        ("aiohttp",),
        upload_kind="bare",
        stores=("null",),  # it does not sign
    )


TARGETS = {target.name: target for target in (*_ours(), *_ours_by_tus(), *_peers())}

_OWN = re.compile(r"(?P<name>[A-Za-z0-9_-]+)=(?P<app>[\w.]+:\w+)@(?P<server>[\w-]+)")


def own(text: str) -> Target:
    """Parse a user's own peer, `NAME=MODULE:APP@SERVER`; it takes the form field `file` at `/upload`.

    Raises:
        ValueError: the text has another form, or the server is unknown; a one-line message.
    """
    match = _OWN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not of the form NAME=MODULE:APP@SERVER")
    if match["server"] not in SERVERS:
        raise ValueError(f"unknown server '{match['server']}'; known: {', '.join(SERVERS)}")
    server = SERVERS[match["server"]]
    requires = (match["app"].partition(":")[0],)
    return Target(f"{match['name']}@{server.name}", match["name"], match["app"], server, "/upload", "other", requires)


def known(own_peers: Iterable[str]) -> dict[str, Target]:
    """All targets by name: ours, the peers, and the user's own.

    Raises:
        ValueError: a peer of the user's own is malformed.
    """
    return TARGETS | {target.name: target for target in map(own, own_peers)}
