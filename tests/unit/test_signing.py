"""Requests to S3 with a body: checksum in a header, body unsigned."""

import asyncio
from collections.abc import Iterable
from io import BytesIO
from typing import Any, NoReturn

import pytest
from botocore.awsrequest import AWSPreparedRequest

import flask_app.store
import quart_app.store
from filehandoff.metrics import Metrics
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.settings import Settings

INCOMING = Incoming("a/key", "name", "text/plain")
PART = Part(1, (b"some ", b"bytes"))


class Sent(Exception):
    """Raised with a complete request before it is sent."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        values: Iterable[tuple[str, Any]] = ((name.lower(), value) for name, value in request.headers.items())
        self.headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in values}


def stop(request: AWSPreparedRequest, **_event: Any) -> NoReturn:
    """Stop a call when its request is complete."""
    raise Sent(request)


@pytest.fixture(params=["http", "https"])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings for an unused store, in clear text and by TLS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "none")
    return Settings(s3_endpoint_url=f"{request.param}://127.0.0.1:9", s3_attempts=1)


def by_boto3(settings: Settings, call: str) -> dict[str, Any]:
    """Return the headers of the Flask app's request."""
    store = flask_app.store.Store(settings, Metrics())
    store.open()
    store._clients["uploads"].meta.events.register("before-send.s3", stop)  # noqa: SLF001 - the apps need no public access
    try:
        if call == "put":
            store.perform(calls.put_object(INCOMING, BytesIO(b"some bytes"), 1, lambda **_: None))
        else:
            store.perform(calls.upload_part("a/key", "id", PART, 1))
    except Sent as sent:
        return sent.headers
    finally:
        store.close()
    raise AssertionError("nothing was sent")


def by_aioboto3(settings: Settings, call: str) -> dict[str, Any]:
    """Return the headers of the Quart app's request."""

    async def hook(**_event: Any) -> None:
        pass

    async def send() -> dict[str, Any]:
        store = quart_app.store.Store(settings, Metrics())
        await store.open()
        store._clients["uploads"].meta.events.register("before-send.s3", stop)  # noqa: SLF001 - the apps need no public access
        try:
            if call == "put":
                await store.perform(calls.put_object(INCOMING, BytesIO(b"some bytes"), 1, hook))
            else:
                await store.perform(calls.upload_part("a/key", "id", PART, 1))
        except Sent as sent:
            return sent.headers
        finally:
            await store.close()
        raise AssertionError("nothing was sent")

    return asyncio.run(send())


@pytest.mark.parametrize("call", ["put", "part"])
@pytest.mark.parametrize("headers_of", [pytest.param(by_boto3, id="flask"), pytest.param(by_aioboto3, id="quart")])
def test_a_body_has_our_checksum_and_no_signature(settings: Settings, headers_of: Any, call: str) -> None:
    """With and without TLS, the CRC-32 is a header, and the body is sent raw."""
    headers = headers_of(settings, call)
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-crc32"] == "AAAAAQ=="
    assert headers["content-length"] == "10"
    assert not {"content-encoding", "transfer-encoding", "x-amz-trailer", "content-md5"} & set(headers)
