"""Locate the apps and their store: named by options, or started here."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from contract.api import Api
from contract.bucket import SETTLE_SECONDS, Bucket
from contract.nginx import behind_nginx
from contract.store_differences import Behaviour, behaviour_of
from contract.tus import Tus
from server_logs import check_event_loops

from demo import stack
from demo.stores import Store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: Settings of the suite's apps; start your own app with the same ones (see README.md in this folder).
SETTINGS = {
    "UPLOAD_BUCKET": "contract",
    "UPLOAD_KEY_PREFIX": "some/prefix/",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "32 MiB",
    "UPLOAD_MAX_BODY_BYTES": "33 MiB",
    "UPLOAD_MAX_CONCURRENT": "256",
    # each app alone, as most services are
    "UPLOAD_OTHER_APP_URL": "",
    "UPLOAD_CORS_ORIGINS": "",
    # timeouts that no busy machine reaches: these tests are not about time
    "UPLOAD_IDLE_TIMEOUT": "180",
    "UPLOAD_S3_CONNECT_TIMEOUT": "60",
    "UPLOAD_S3_READ_TIMEOUT": "180",
}
OWN = ("flask", "quart")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the store to start, or for the URLs of running apps."""
    group = parser.getgroup("contract")
    group.addoption("--store", help="the S3 server, as UPLOAD_S3 names it and by default; moto without that")
    group.addoption("--at-once", type=int, default=50, help="how many uploads the tests of concurrency send at once")
    settling = "how long an app may take after its answer to undo and to close its files"
    group.addoption("--settle-seconds", type=float, default=SETTLE_SECONDS, help=settling)
    group.addoption("--base-url", action="append", default=[], help="an app to hold to the contract; again for more")
    group.addoption("--nginx", action="store_true", help="reach the apps through nginx, with TLS")
    group.addoption("--s3-endpoint", help="the S3 server that the apps at --base-url store into")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of one app once for each app."""
    if "app_name" in metafunc.fixturenames:
        metafunc.parametrize("app_name", metafunc.config.getoption("base_url") or OWN, scope="session")


@pytest.fixture(scope="session")
def running(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, dict[str, str], stack.Stack | None]]:
    """The store, the apps' URLs by name, and the started stack, if any."""
    choice = pytestconfig.getoption("store")
    if urls := pytestconfig.getoption("base_url"):
        endpoint = pytestconfig.getoption("s3_endpoint")
        if not endpoint:
            raise pytest.UsageError("--base-url needs --s3-endpoint, to read the apps' objects back")
        yield Store(choice or "given", endpoint), {url: url.rstrip("/") for url in urls}, None
        return
    folder: Path = tmp_path_factory.mktemp("contract")
    restless = str(Path(__file__).parent / "restless")
    environ = SETTINGS | {"UPLOAD_S3": choice or os.environ.get("UPLOAD_S3", ""), "TMPDIR": str(folder)}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [restless, os.environ.get("PYTHONPATH")]))
    if pytestconfig.getoption("nginx"):
        with behind_nginx(environ, folder) as (started, urls):
            yield started.store, urls, started
    else:
        with stack.running(environ, log_path=folder / "servers.log") as started:
            yield started.store, {name: server.url for name, server in started.apps.items()}, started
    check_event_loops(folder / "servers.log")


@pytest.fixture(scope="session")
def running_store(running: tuple[Store, dict[str, str], stack.Stack | None]) -> Store:
    """The S3 server."""
    return running[0]


@pytest.fixture(scope="session")
def behaviour(running_store: Store) -> Behaviour:
    """The store's differences from S3."""
    return behaviour_of(running_store.name)


@pytest.fixture(scope="session")
def at_once(pytestconfig: pytest.Config) -> int:
    """The number of uploads in a test with many."""
    return int(pytestconfig.getoption("at_once"))


@pytest.fixture(scope="session")
def s3(running_store: Store) -> "Iterator[S3Client]":
    """A client of the suite's own."""
    client = running_store.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def bucket(
    running: tuple[Store, dict[str, str], stack.Stack | None],
    s3: "S3Client",
    behaviour: Behaviour,
    pytestconfig: pytest.Config,
) -> Bucket:
    """The apps' bucket."""
    settle = pytestconfig.getoption("settle_seconds")
    return Bucket(s3, SETTINGS["UPLOAD_BUCKET"], running[2], behaviour, settle_seconds=settle)


@pytest.fixture
def apps(running: tuple[Store, dict[str, str], stack.Stack | None], bucket: Bucket) -> Iterator[list[Api]]:
    """All apps; they may leave only the objects of 201 answers, and no open file."""
    apis = [Api(url) for url in running[1].values()]
    yield apis
    named = {key for api in apis for key in api.stored}
    for api in apis:
        api.close()
    bucket.check_and_empty(named)


@pytest.fixture
def app(apps: list[Api], app_name: str, running: tuple[Store, dict[str, str], stack.Stack | None]) -> Api:
    """Each app in turn."""
    url = running[1][app_name]
    return next(api for api in apps if api.url == url)


@pytest.fixture
def tus(app: Api, bucket: Bucket) -> Iterator[Tus]:
    """The tus routes of each app in turn; all uploads are terminated after the test."""
    client = Tus(app, bucket)
    yield client
    client.end()
