"""The look at a stored object that goes past botocore: signed as S3 wants it, and nothing where it does not succeed."""

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
    """Answers every HEAD with one status and these headers, and notes what was asked."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        seen = self.seen = list[tuple[str, dict[str, str]]]()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def answering(status: int, **headers: str) -> Iterator[S3]:
    """Such a server for the block."""
    with S3(status, {name.replace("_", "-"): value for name, value in headers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


type Seen = tuple[int, str] | None
type Look = Callable[..., list[Seen]]


def by_flask(settings: Settings, times: int, *, signed: bool = True) -> list[Seen]:
    """What the Flask app sees, so many times."""
    with closing(flask_app.store.Store(settings, Metrics()).new_client()) as client:
        glance = flask_app.head_probe.Probe.of(
            client, settings.bucket, Credentials("some", "secret") if signed else None
        )
        return [glance(KEY) for _ in range(times)]


def by_quart(settings: Settings, times: int, *, signed: bool = True) -> list[Seen]:
    """What the Quart app sees."""

    async def look() -> list[Seen]:
        async with quart_app.store.Store(settings, Metrics()).new_client() as client:
            own = AioCredentials("some", "secret") if signed else None
            glance = await quart_app.head_probe.Probe.of(client, settings.bucket, own)
            return [await glance(KEY) for _ in range(times)]

    return asyncio.run(look())


@pytest.fixture(params=[pytest.param(by_flask, id="flask"), pytest.param(by_quart, id="quart")])
def look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Either app's look."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "some")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    chosen: Look = request.param
    return chosen


def at(server: S3) -> Settings:
    """Settings for this server."""
    return Settings(
        s3_endpoint_url="http://127.0.0.1:{1}".format(*server.server_address), bucket="bucket", s3_attempts=1
    )


def test_one_signed_head_tells_size_and_etag(look: Look) -> None:
    """Version 4, of the client's region, for the object where the client has it."""
    with answering(200, Content_Length="7", ETag='"abc"') as server:
        assert look(at(server), 1) == [(7, '"abc"')]
        ((path, headers),) = server.seen
    assert path == "/bucket/2026/11/25/01a2-b3/a%20file%20%281%29.txt"
    assert re.match(r"AWS4-HMAC-SHA256 Credential=some/\d{8}/eu-central-1/s3/aws4_request, ", headers["authorization"])


@pytest.mark.parametrize("status", [404, 503])
def test_what_may_be_otherwise_next_time_is_asked_again(look: Look, status: int) -> None:
    """No object, or a store that is busy, is no answer, and the next object is looked at all the same."""
    with answering(status, Content_Length="0") as server:
        assert look(at(server), 2) == [None, None]
        assert len(server.seen) == 2


@pytest.mark.parametrize("status", [301, 403])
def test_a_refusal_is_taken_at_its_word(look: Look, status: int) -> None:
    """After one there is no other: the ordinary way would have to be gone each time as well."""
    with answering(status, Content_Length="0") as server:
        assert look(at(server), 2) == [None, None]
        assert len(server.seen) == 1


@pytest.mark.parametrize("headers", [{"Content_Length": "7"}, {"ETag": '"abc"'}, {"Content_Length": "x", "ETag": "a"}])
def test_an_answer_without_what_is_asked_for_is_none(look: Look, headers: dict[str, str]) -> None:
    """Neither a size nor an ETag is made up."""
    with answering(200, **headers) as server:
        assert look(at(server), 1) == [None]


def test_a_store_that_is_away_is_no_answer(look: Look) -> None:
    """The connection that fails raises nothing: the ordinary way says what is wrong."""
    with answering(200) as server:
        settings = at(server)
    assert look(settings, 1) == [None]


def test_the_ordinary_way_is_gone_where_there_are_no_credentials(look: Look) -> None:
    """Nothing is sent unsigned."""
    with answering(200, Content_Length="7", ETag='"abc"') as server:
        assert look(at(server), 1, signed=False) == [None]
        assert server.seen == []
