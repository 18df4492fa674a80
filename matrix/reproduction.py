"""Each cause and each fix, small, in the environment that runs this: `python reproduction.py flask|quart` prints JSON.

It runs on Python 3.8 and with frameworks of 2019, needs boto3 with Flask and aioboto3 with Quart, and nothing else of
this project. The S3 server is a thread of its own that stores what it is sent.

For each cause (see the README) the view is run with each thing that one can change, and `none` changed, on a file that
the form parser keeps in memory and on one that it writes to disk. An outcome is "right", where the bytes arrived whole
at their last user, or the error's text.
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
    """Takes every PUT."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Keep the body."""
        OBJECTS[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"0"')
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Print no line for each request."""


class Server(ThreadingMixIn, HTTPServer):
    """A thread for each connection."""

    daemon_threads = True


# ---- what one can change: how each user of the file gets at it


def the_file(file: Any) -> Callable[[], Any]:
    """The request's own file, for every use."""
    if isinstance(file.stream, io.IOBase):
        return lambda: file.stream
    return lambda: file.stream._file  # a spooled file before Python 3.11, which aiohttp does not take


def new_bytes(file: Any) -> Callable[[], Any]:
    """All bytes, read while the view runs; a new BytesIO for each use."""
    data = file.read()
    return lambda: io.BytesIO(data)


def named_file(file: Any) -> Callable[[], Any]:
    """A named temporary file, opened anew for each use."""
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
    """One temporary file without a name, for all uses."""
    copy = tempfile.TemporaryFile()
    copy.write(file.read())
    copy.seek(0)
    return lambda: copy


class Unclosed(io.RawIOBase):
    """A file whose close does nothing."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def read(self, size: int = -1) -> Any:
        """Read from the file."""
        return self.file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Read from the file."""
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, *where: int) -> int:
        """Seek in the file."""
        self.file.seek(*where)
        return self.file.tell()

    def tell(self) -> int:
        """Where the file is."""
        return self.file.tell()

    def close(self) -> None:
        """Nothing."""


def never_closed(file: Any) -> Callable[[], Any]:
    """The request's file in an object whose close does nothing."""
    wrapped = Unclosed(file.stream)
    return lambda: wrapped


# ---- what one can change: how the hook gets at the request


def copied(framework: "Framework", hook: Callable[..., Any]) -> Callable[..., Any]:
    """In a copied request context."""
    return framework.module.copy_current_request_context(hook)


def bound(framework: "Framework", _hook: Callable[..., Any]) -> Callable[..., Any]:
    """A function bound to the one value that it needs."""
    return functools.partial(stamp, framework.module.request.headers["X-Request-Id"])


def snapshot(framework: "Framework", _hook: Callable[..., Any]) -> Callable[..., Any]:
    """In a snapshot of the context variables, a copy for each call."""
    context = contextvars.copy_context()

    def run(params: Any, **_event: Any) -> None:
        context.copy().run(lambda: stamp(framework.module.request.headers["X-Request-Id"], params))

    return run


def stamp(request_id: str, params: Any, **_event: Any) -> None:
    """What the hook is for."""
    params["Metadata"] = {"request-id": request_id}


#: name: (the file for each use, the hook, whether the request class closes in its own context alone)
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
    """What Flask and Quart have in common."""

    name = ""

    def __init__(self, endpoint: str) -> None:
        self.module = __import__(self.name)
        self.endpoint = endpoint

    def current_context(self) -> Any:
        """The request context, wherever this version keeps it."""
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
        """A request class whose close acts only for the context in which the form was parsed."""
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
        """A new client."""
        import boto3

        # A session for all: reading its data takes longer than all else. Hooks are registered on the client.
        self.session = getattr(self, "session", None) or boto3.session.Session()
        return self.session.client("s3", endpoint_url=self.endpoint, **OPTIONS)

    def view(self, cause: str, change: str, later: List[Any], outcome: Dict[str, str], data: bytes) -> str:
        """The view that fails."""
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
        """What comes of it."""
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
        """A request class whose close acts only for the context in which the form was parsed."""
        framework = self

        class Owned(self.module.Request):
            def make_form_data_parser(self) -> Any:
                self.owner = framework.current_context()
                return super().make_form_data_parser()

            async def close(self) -> None:
                if framework.current_context() is getattr(self, "owner", None):
                    await super().close()

        # Versions that never close an upload have no such method to call.
        return Owned if hasattr(self.module.Request, "close") else self.module.Request

    async def view(self, cause: str, change: str, later: List[Any], outcome: Dict[str, str], data: bytes) -> str:
        """The view that fails."""
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
        """What comes of it."""
        return asyncio.run(self.run_async(cause, change, data))

    async def run_async(self, cause: str, change: str, data: bytes) -> str:
        """The same, in a loop of its own."""
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
    """Nothing is right but the whole file."""
    if found != data:
        raise RuntimeError("wrong bytes: %s of %d" % ("none" if found is None else len(found), len(data)))


def text(error: BaseException) -> str:
    """An error in one line."""
    first = str(error).splitlines()[0] if str(error) else ""
    return "%s: %s" % (type(error).__name__, re.sub("0x[0-9a-f]+", "0x...", first))


def outcome_of(framework: Framework, cause: str, change: str, size: int) -> str:
    """Right, or the error's text."""
    OBJECTS.clear()
    data = os.urandom(size)
    try:
        return framework.run(cause, change, data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is to be told
        return text(error)


def main() -> None:
    """Run all, and print what came of each."""
    warnings.simplefilter("ignore")  # files that a failing view leaves open
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    kind = {"flask": FlaskFramework, "quart": QuartFramework}[sys.argv[1]]
    framework = kind("http://127.0.0.1:%d" % server.server_port)
    outcomes = {
        cause: {
            change: {size: outcome_of(framework, cause, change, count) for size, count in SIZES.items()}
            for change in CHANGES
        }
        for cause in CAUSES
    }
    for path in FILES:
        os.unlink(path)
    server.shutdown()
    print(json.dumps({"python": platform.python_version(), "versions": versions(), "outcomes": outcomes}))


def versions() -> Dict[str, str]:
    """What is installed."""
    from importlib import metadata

    found = {}
    for name in ("flask", "quart", "werkzeug", "boto3", "aioboto3", "aiobotocore"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
