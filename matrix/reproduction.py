"""Reproduce each cause and each fix in this environment: `python reproduction.py flask|quart` prints JSON.

It runs on Python 3.8 and with frameworks of 2019. It needs boto3 for Flask or aioboto3 for Quart, and nothing else of
this project. The S3 server is a thread that stores the bodies it receives.

For each cause (see the README), the view runs with each change, and with none, on a file that the form parser keeps in
memory and on one that it writes to disk. An outcome is "right" if the last user got the whole file, or the text of the
error.
"""

import asyncio
import contextvars
import functools
import io
import json
import os
import platform
import re
import sys
import tempfile
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, Callable, Dict, List

SIZES = {"memory": 100, "disk": 600_000}
CAUSES = ("copied_context", "transfer_closes", "after_response")
EVENT = "before-parameter-build.s3.PutObject"
OPTIONS = {"region_name": "eu-central-1", "aws_access_key_id": "anyone", "aws_secret_access_key": "anything"}


# ---- an S3 server

OBJECTS = {}  # type: Dict[str, bytes]


class Handler(BaseHTTPRequestHandler):
    """Accepts every PUT."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Store the body."""
        OBJECTS[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"0"')
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Do not log requests."""


class Server(ThreadingMixIn, HTTPServer):
    """Handles each connection in a thread."""

    daemon_threads = True


# ---- changes of the file that its users get


def the_file(file: Any) -> Callable[[], Any]:
    """The request's own file, for every use."""
    if isinstance(file.stream, io.IOBase):
        return lambda: file.stream
    return lambda: file.stream._file  # a spooled file before Python 3.11, which aiohttp rejects


def new_bytes(file: Any) -> Callable[[], Any]:
    """All bytes, read during the view; a new BytesIO for each use."""
    data = file.read()
    return lambda: io.BytesIO(data)


def named_file(file: Any) -> Callable[[], Any]:
    """A named temporary file, reopened for each use."""
    number, path = tempfile.mkstemp()
    with os.fdopen(number, "wb") as copy:
        copy.write(file.read())
    FILES.append(path)
    return lambda: open(path, "rb")


FILES = []  # type: List[str]


def one_bytesio(file: Any) -> Callable[[], Any]:
    """One BytesIO for all uses."""
    copy = io.BytesIO(file.read())
    return lambda: copy


def one_spooled_file(file: Any) -> Callable[[], Any]:
    """One unnamed temporary file for all uses."""
    copy = tempfile.TemporaryFile()
    copy.write(file.read())
    copy.seek(0)
    return lambda: copy


class Unclosed(io.RawIOBase):
    """A file whose `close` does nothing."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> Any:
        """Read from the file."""
        return self.file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Read from the file into a buffer."""
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, *where: int) -> int:
        """Seek in the file."""
        self.file.seek(*where)
        return self.file.tell()

    def tell(self) -> int:
        """Return the position in the file."""
        return self.file.tell()

    def close(self) -> None:
        """Do nothing."""


def never_closed(file: Any) -> Callable[[], Any]:
    """The request's file, wrapped so that `close` does nothing."""
    wrapped = Unclosed(file.stream)
    return lambda: wrapped


# ---- changes of the hook's access to the request


def copied(framework: "Framework", hook: Callable[..., Any]) -> Callable[..., Any]:
    """Run the hook in a copied request context."""
    return framework.module.copy_current_request_context(hook)


def bound(framework: "Framework", _hook: Callable[..., Any]) -> Callable[..., Any]:
    """Bind a function to the one value that it needs."""
    return functools.partial(stamp, framework.module.request.headers["X-Request-Id"])


def snapshot(framework: "Framework", _hook: Callable[..., Any]) -> Callable[..., Any]:
    """Run the hook in a snapshot of the context variables, copied for each call."""
    context = contextvars.copy_context()

    def run(params: Any, **_event: Any) -> None:
        context.copy().run(lambda: stamp(framework.module.request.headers["X-Request-Id"], params))

    return run


def stamp(request_id: str, params: Any, **_event: Any) -> None:
    """Set the request id in the parameters: the hook's purpose."""
    params["Metadata"] = {"request-id": request_id}


#: name: (the file for each use, the hook, whether the request class closes only in its own context)
CHANGES = {
    "none": (the_file, copied, False),
    "all bytes, a new BytesIO for each use": (new_bytes, copied, False),
    "a named temporary file, opened for each use": (named_file, copied, False),
    "one BytesIO": (one_bytesio, copied, False),
    "one temporary file without a name": (one_spooled_file, copied, False),
    "a wrapper whose close does nothing": (never_closed, copied, False),
    "the hook bound to plain values": (the_file, bound, False),
    "the hook in a contextvars snapshot": (the_file, snapshot, False),
    "a request class that closes in its own context alone": (the_file, copied, True),
}  # type: Dict[str, Any]


# ---- the frameworks


class Framework:
    """The common part of Flask and Quart."""

    name = ""

    def __init__(self, endpoint: str) -> None:
        self.module = __import__(self.name)
        self.endpoint = endpoint

    def current_context(self) -> Any:
        """The current request context, in this version's place for it."""
        from importlib import import_module

        for place, name in (
            ("%s.globals" % self.name, "request_ctx"),
            ("%s.globals" % self.name, "_cv_request"),
            ("%s.globals" % self.name, "_cv_app"),
            (self.name, "_request_ctx_stack"),
        ):
            found = getattr(import_module(place), name, None)
            if found is not None and hasattr(found, "_get_current_object"):
                return found._get_current_object()
            if found is not None:
                return found.top if hasattr(found, "top") else found.get(None)
        raise RuntimeError("this version keeps its context elsewhere")


class FlaskFramework(Framework):
    """Flask with boto3."""

    name = "flask"

    def request_class(self) -> Any:
        """A request class whose `close` acts only in the context that parsed the form."""
        framework = self

        class Owned(self.module.Request):
            def make_form_data_parser(self) -> Any:
                self.owner = framework.current_context()
                return super().make_form_data_parser()

            def close(self) -> None:
                if framework.current_context() is getattr(self, "owner", None):
                    super().close()

        return Owned

    def client(self) -> Any:
        """Make a client."""
        import boto3

        # one session for all, because loading its data is slow; hooks are registered on the client
        self.session = getattr(self, "session", None) or boto3.session.Session()
        return self.session.client("s3", endpoint_url=self.endpoint, **OPTIONS)

    def view(self, cause: str, change: str, later: List[Any], outcome: Dict[str, str], data: bytes) -> str:
        """Run the failing view."""
        file, hook, _ = CHANGES[change]
        source = file(self.module.request.files["file"])
        if cause == "after_response":
            later.append(lambda: check(source().read(), data))
            return "accepted"
        s3 = self.client()
        if cause == "copied_context":

            def plain(params: Any, **_event: Any) -> None:
                stamp(self.module.request.headers["X-Request-Id"], params)

            s3.meta.events.register(EVENT, hook(self, plain))
            s3.put_object(Bucket="b", Key="k", Body=source())
            check(OBJECTS.get("/b/k"), data)
        else:
            s3.upload_fileobj(source(), "b", "k")
            body = source()
            body.seek(0)
            check(body.read(), data)
        outcome["is"] = "right"
        return "stored"

    def run(self, cause: str, change: str, data: bytes) -> str:
        """Run the view on a file and return the outcome."""
        app = self.module.Flask(__name__)
        app.testing = True
        if CHANGES[change][2]:
            app.request_class = self.request_class()
        later, outcome = [], {}  # type: List[Any], Dict[str, str]
        app.add_url_rule("/", "v", lambda: self.view(cause, change, later, outcome, data), methods=["POST"])
        app.test_client().post("/", data={"file": (io.BytesIO(data), "f")}, headers={"X-Request-Id": "1"})
        for what in later:
            what()
            outcome["is"] = "right"
        return outcome["is"]


class QuartFramework(Framework):
    """Quart with aioboto3."""

    name = "quart"

    def request_class(self) -> Any:
        """A request class whose `close` acts only in the context that parsed the form."""
        framework = self

        class Owned(self.module.Request):
            def make_form_data_parser(self) -> Any:
                self.owner = framework.current_context()
                return super().make_form_data_parser()

            async def close(self) -> None:
                if framework.current_context() is getattr(self, "owner", None):
                    await super().close()

        # versions that never close an upload have no such method
        return Owned if hasattr(self.module.Request, "close") else self.module.Request

    async def view(self, cause: str, change: str, later: List[Any], outcome: Dict[str, str], data: bytes) -> str:
        """Run the failing view."""
        import aioboto3

        file, hook, _ = CHANGES[change]
        try:
            source = file((await self.module.request.files)["file"])
            if cause == "after_response":
                later.append(lambda: check(source().read(), data))
                return "accepted"
            self.session = getattr(self, "session", None) or aioboto3.Session()
            async with self.session.client("s3", endpoint_url=self.endpoint, **OPTIONS) as s3:
                if cause == "copied_context":

                    async def plain(params: Any, **_event: Any) -> None:
                        stamp(self.module.request.headers["X-Request-Id"], params)

                    s3.meta.events.register(EVENT, hook(self, plain))
                    await s3.put_object(Bucket="b", Key="k", Body=source())
                    check(OBJECTS.get("/b/k"), data)
                else:
                    await s3.upload_fileobj(source(), "b", "k")
                    body = source()
                    body.seek(0)
                    check(body.read(), data)
            outcome["is"] = "right"
        except Exception as error:  # noqa: BLE001 - Quart's test client would answer 500
            outcome["is"] = text(error)
        return "done"

    def run(self, cause: str, change: str, data: bytes) -> str:
        """Run the view on a file and return the outcome."""
        return asyncio.run(self.run_async(cause, change, data))

    async def run_async(self, cause: str, change: str, data: bytes) -> str:
        """Run the view in a new event loop."""
        from quart.datastructures import FileStorage

        app = self.module.Quart(__name__)
        if CHANGES[change][2]:
            app.request_class = self.request_class()
        later, outcome = [], {}  # type: List[Any], Dict[str, str]

        async def view() -> str:
            return await self.view(cause, change, later, outcome, data)

        app.add_url_rule("/", "v", view, methods=["POST"])
        files = {"file": FileStorage(io.BytesIO(data), "f")}
        await app.test_client().post("/", files=files, headers={"X-Request-Id": "1"})
        for what in later:
            what()
            outcome["is"] = "right"
        return outcome["is"]


def check(found: Any, data: bytes) -> None:
    """Raise unless the whole file arrived."""
    if found != data:
        raise RuntimeError("wrong bytes: %s of %d" % ("none" if found is None else len(found), len(data)))


def text(error: BaseException) -> str:
    """Format an error in one line."""
    first = str(error).splitlines()[0] if str(error) else ""
    return "%s: %s" % (type(error).__name__, re.sub("0x[0-9a-f]+", "0x...", first))


def outcome_of(run: Callable[[str, str, bytes], str], cause: str, change: str, size: int) -> str:
    """Return "right" or the text of the error."""
    OBJECTS.clear()
    data = os.urandom(size)
    try:
        return run(cause, change, data)
    except Exception as error:  # noqa: BLE001 - any error is the outcome
        return text(error)


def print_outcomes(
    make: Callable[[str], Callable[[str, str, bytes], str]], causes: Any, changes: Any, sizes: Dict[str, int]
) -> None:
    """Run every cause with every change and print the outcomes; `make` takes the S3 server's URL."""
    warnings.simplefilter("ignore")  # files that a failing view leaves open
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    run = make("http://127.0.0.1:%d" % server.server_port)
    outcomes = {
        cause: {
            change: {size: outcome_of(run, cause, change, count) for size, count in sizes.items()} for change in changes
        }
        for cause in causes
    }
    for path in FILES:
        os.unlink(path)
    server.shutdown()
    print(json.dumps({"python": platform.python_version(), "versions": versions(), "outcomes": outcomes}))


def versions() -> Dict[str, str]:
    """The versions of the installed packages."""
    from importlib import metadata

    found = {}
    for name in (
        *("flask", "quart", "werkzeug", "boto3", "aioboto3", "aiobotocore"),
        *("starlette", "fastapi", "django", "python-multipart"),
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    kind = {"flask": FlaskFramework, "quart": QuartFramework}[sys.argv[1]]
    print_outcomes(lambda endpoint: kind(endpoint).run, CAUSES, CHANGES, SIZES)
