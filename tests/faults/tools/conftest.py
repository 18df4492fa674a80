"""A proxy in front of a real store, and clients for it."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from faults.proxy import Proxy

from demo import stack, stores
from demo.processes import ending
from filehandoff.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

from faults.tools.talk import BUCKET, TIMEOUT


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    """An S3 server with a bucket, for the module."""
    with (tmp_path_factory.mktemp("proxy") / "moto.log").open("w+b") as log:
        started = stores.start("moto", {}, log)
        assert started.server is not None
        with ending([started.server]):
            settings = Settings.from_env({"UPLOAD_BUCKET": BUCKET})
            stack.create_bucket(stack.Stack(started, settings, {}, [started.server]), log)
            yield started


@pytest.fixture(scope="module")
def direct(store: stores.Store) -> "Iterator[S3Client]":
    """A client of the store itself."""
    with closing(store.client()) as client:
        yield client


@pytest.fixture
def proxy(store: stores.Store) -> Iterator[Proxy]:
    """A proxy in front of the store.

    The test fails if the proxy had an error.
    """
    threads = threading.active_count()
    with Proxy(store.endpoint_url) as started:
        yield started
    assert threading.active_count() == threads


@pytest.fixture(scope="module")
def session(store: stores.Store) -> boto3.session.Session:
    """The common session of the clients."""
    return boto3.session.Session(
        aws_access_key_id=store.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=store.environ["AWS_DEFAULT_REGION"],
    )


@pytest.fixture
def s3(session: boto3.session.Session, proxy: Proxy) -> "Iterator[S3Client]":
    """A client through the proxy with one attempt and no checksum validation."""
    config = Config(retries={"total_max_attempts": 1}, response_checksum_validation="when_required")
    with closing(session.client("s3", endpoint_url=proxy.url, config=config)) as client:
        yield client


@pytest.fixture
def hasty(session: boto3.session.Session, proxy: Proxy) -> "Iterator[S3Client]":
    """A client like `s3` with a short read timeout."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT)
    with closing(session.client("s3", endpoint_url=proxy.url, config=config)) as client:
        yield client
