"""The head probe: a signed HEAD request without botocore, and None on failure."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiobotocore.credentials import AioCredentials
from botocore.credentials import Credentials

import flask_app.head_probe
import flask_app.store
import quart_app.head_probe
import quart_app.store
from filehandoff.metrics import Metrics
from filehandoff.settings import Settings

KEY = "2026/11/25/01a2-b3/a file (1).txt"


class S3(ThreadingHTTPServer):
    """Responds to every HEAD with one status and these headers, and records the requests."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        requests = self.requests = list[tuple[str, dict[str, str]]]()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def answering(status: int, **headers: str) -> Iterator[S3]:
    """Run such a server for the block."""
    with S3(status, {name.replace("_", "-"): value for name, value in headers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


type Result = tuple[int, str] | None
type RunProbe = Callable[..., list[Result]]


def by_flask(settings: Settings, times: int, *, signed: bool = True) -> list[Result]:
    """Run the Flask app's probe so many times."""
    with closing(flask_app.store.Store(settings, Metrics()).new_client()) as client:
        probe = flask_app.head_probe.Probe.of(
            client, settings.bucket, Credentials("some", "secret") if signed else None
        )
        return [probe(KEY) for _ in range(times)]


def by_quart(settings: Settings, times: int, *, signed: bool = True) -> list[Result]:
    """Run the Quart app's probe so many times."""

    async def run() -> list[Result]:
        async with quart_app.store.Store(settings, Metrics()).new_client() as client:
            own = AioCredentials("some", "secret") if signed else None
            probe = await quart_app.head_probe.Probe.of(client, settings.bucket, own)
            return [await probe(KEY) for _ in range(times)]

    return asyncio.run(run())


@pytest.fixture(params=[pytest.param(by_flask, id="flask"), pytest.param(by_quart, id="quart")])
def run_probe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RunProbe:
    """Return a function that runs either app's probe."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "some")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    chosen: RunProbe = request.param
    return chosen


def at(server: S3) -> Settings:
    """Return settings for this server."""
    return Settings(
        s3_endpoint_url="http://127.0.0.1:{1}".format(*server.server_address), bucket="bucket", s3_attempts=1
    )


def test_one_signed_head_returns_size_and_etag(run_probe: RunProbe) -> None:
    """The signature is of version 4, for the client's region and path."""
    with answering(200, Content_Length="7", ETag='"abc"') as server:
        assert run_probe(at(server), 1) == [(7, '"abc"')]
        ((path, headers),) = server.requests
    assert path == "/bucket/2026/11/25/01a2-b3/a%20file%20%281%29.txt"
    assert re.match(r"AWS4-HMAC-SHA256 Credential=some/\d{8}/eu-central-1/s3/aws4_request, ", headers["authorization"])


@pytest.mark.parametrize("status", [404, 503])
def test_a_temporary_failure_does_not_disable_the_probe(run_probe: RunProbe, status: int) -> None:
    """After a missing object or a busy store, the next probe sends a request."""
    with answering(status, Content_Length="0") as server:
        assert run_probe(at(server), 2) == [None, None]
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [301, 403])
def test_a_permanent_failure_disables_the_probe(run_probe: RunProbe, status: int) -> None:
    """After a redirect or a denial, no probe sends a request again."""
    with answering(status, Content_Length="0") as server:
        assert run_probe(at(server), 2) == [None, None]
        assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [{"Content_Length": "7"}, {"ETag": '"abc"'}, {"Content_Length": "x", "ETag": "a"}])
def test_a_response_without_size_or_etag_gives_none(run_probe: RunProbe, headers: dict[str, str]) -> None:
    """The probe needs a valid size and an ETag."""
    with answering(200, **headers) as server:
        assert run_probe(at(server), 1) == [None]


def test_a_failed_connection_gives_none(run_probe: RunProbe) -> None:
    """The probe raises no error, because `head_object` follows and reports the failure."""
    with answering(200) as server:
        settings = at(server)
    assert run_probe(settings, 1) == [None]


def test_a_probe_without_credentials_gives_none(run_probe: RunProbe) -> None:
    """The probe sends no unsigned request."""
    with answering(200, Content_Length="7", ETag='"abc"') as server:
        assert run_probe(at(server), 1, signed=False) == [None]
        assert server.requests == []
