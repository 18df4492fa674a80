"""Reproduce the causes in this environment: `python others.py starlette|fastapi|django` prints JSON.

It runs on Python 3.8 and needs boto3, and python-multipart for Starlette and FastAPI. See `reproduction.py`, whose S3
server and changes it uses. These frameworks copy no context of a request, so they lack that cause, and have two more: a
background task or a streamed response that reads the file.
"""

import asyncio
import functools
import io
import sys
from typing import Any, Callable, Dict, List, Tuple

from reproduction import OPTIONS, SIZES, check, named_file, new_bytes, print_outcomes, text

CAUSES = ("transfer_closes", "background_task", "streamed_response", "after_response")
BOUNDARY = "a-boundary"
CHANGES = {
    "none": lambda file: lambda: file,
    "all bytes, a new BytesIO for each use": new_bytes,
    "a named temporary file, opened for each use": named_file,
}  # type: Dict[str, Any]


def form(data: bytes) -> Tuple[bytes, str]:
    """The body of a form with one file, and its media type."""
    head = '--%s\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' % BOUNDARY
    return head.encode() + data + ("\r\n--%s--\r\n" % BOUNDARY).encode(), "multipart/form-data; boundary=%s" % BOUNDARY


class Trial:
    """One upload with one cause and one change, and its outcome."""

    def __init__(self, cause: str, change: str, data: bytes, endpoint: str) -> None:
        self.cause = cause
        self.take = CHANGES[change]
        self.data = data
        self.endpoint = endpoint
        self.outcome = "nothing read the file"
        self.later = []  # type: List[Callable[[], None]]

    def read(self, source: Callable[[], Any]) -> None:
        """Read the file late, and keep the outcome."""
        try:
            check(source().read(), self.data)
            self.outcome = "right"
        except Exception as error:  # noqa: BLE001 - any error is the outcome
            self.outcome = text(error)

    def lines(self, source: Callable[[], Any]) -> Any:
        """The body of a streamed response."""
        yield b"begin"
        self.read(source)

    def transfer(self, source: Callable[[], Any]) -> None:
        """Upload the file, and read it once more."""
        import boto3

        boto3.client("s3", endpoint_url=self.endpoint, **OPTIONS).upload_fileobj(source(), "b", "k")
        try:
            body = source()
            body.seek(0)
            check(body.read(), self.data)
            self.outcome = "right"
        except Exception as error:  # noqa: BLE001 - any error is the outcome
            self.outcome = text(error)


def call(app: Any, data: bytes) -> None:
    """Send the form to an ASGI app."""
    body, media_type = form(data)
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }  # type: Dict[str, Any]

    async def run() -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        ended = asyncio.Event()

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        await app(scope, receive, send)

    asyncio.run(run())


def respond(trial: Trial, file: Any) -> Any:
    """Use the file of an `UploadFile` in the way of the cause, and respond."""
    from starlette.background import BackgroundTask
    from starlette.responses import Response, StreamingResponse

    source = trial.take(file)
    if trial.cause == "transfer_closes":
        trial.transfer(source)
    elif trial.cause == "after_response":
        trial.later.append(lambda: trial.read(source))
    elif trial.cause == "background_task":
        return Response(background=BackgroundTask(trial.read, source))
    else:
        return StreamingResponse(trial.lines(source))
    return Response()


def starlette_app(trial: Trial) -> Any:
    """A Starlette app whose view reads the form as Starlette's documentation does."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        async with request.form() as form:
            return respond(trial, form["file"].file)

    return Starlette(routes=[Route("/", view, methods=["POST"])])


def fastapi_app(trial: Trial) -> Any:
    """A FastAPI app with an `UploadFile` as the view's parameter."""
    from fastapi import FastAPI, UploadFile

    app = FastAPI()

    def view(file: UploadFile) -> Any:
        return respond(trial, file.file)

    app.post("/", response_model=None)(view)
    return app


def run_django(trial: Trial) -> None:
    """Send the form to a Django view, by WSGI."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def view(request: Any) -> Any:
        source = trial.take(request.FILES["file"])
        if trial.cause == "transfer_closes":
            trial.transfer(source)
        elif trial.cause == "after_response":
            trial.later.append(lambda: trial.read(source))
        else:
            return StreamingHttpResponse(trial.lines(source))
        return HttpResponse()

    class Urls:
        urlpatterns = [path("", view)]

    if not settings.configured:
        # files of more bytes than this go to disk
        settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], FILE_UPLOAD_MAX_MEMORY_SIZE=1000)
        django.setup()
    settings.ROOT_URLCONF = Urls
    body, media_type = form(trial.data)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": media_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
    }
    response = WSGIHandler()(environ, lambda *_: None)
    list(response)
    response.close()


def run(framework: str, endpoint: str, cause: str, change: str, data: bytes) -> str:
    """Send one upload to an app of the framework and return the outcome."""
    trial = Trial(cause, change, data, endpoint)
    if framework == "django" and cause == "background_task":
        return "there is none"
    if framework == "django":
        run_django(trial)
    else:
        call((starlette_app if framework == "starlette" else fastapi_app)(trial), data)
    for read in trial.later:
        read()
    return trial.outcome


if __name__ == "__main__":
    print_outcomes(
        lambda endpoint: functools.partial(run, sys.argv[1], endpoint),
        CAUSES,
        CHANGES,
        dict(SIZES, disk=2000000),  # Starlette writes files of more than 1 MiB to disk
    )
