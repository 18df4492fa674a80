"""Where the apps and their store are: named on the command line, or started for this session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.api import Api
from contract.bucket import Bucket

from demo import stack
from demo.stores import Store

#: What the suite starts the apps with; an app of one's own must be started alike (see README.md in this folder).
SETTINGS = {
    "UPLOAD_S3": "moto",
    "UPLOAD_BUCKET": "contract",
    "UPLOAD_KEY_PREFIX": "some/prefix/",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "64 MiB",
    "UPLOAD_MAX_BODY_BYTES": "65 MiB",
    "UPLOAD_MAX_CONCURRENT": "64",
    "UPLOAD_IDLE_TIMEOUT": "2",
    "UPLOAD_DRAIN_SECONDS": "2",
}
OWN = ("flask", "quart")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to find apps that run already."""
    group = parser.getgroup("contract")
    group.addoption("--base-url", action="append", default=[], help="an app to hold to the contract; again for more")
    group.addoption("--s3-endpoint", help="the S3 server that the apps at --base-url store into")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of one app runs once for each."""
    if "app_name" in metafunc.fixturenames:
        metafunc.parametrize("app_name", metafunc.config.getoption("base_url") or OWN, scope="session")


@pytest.fixture(scope="session")
def running(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, dict[str, str], stack.Stack | None]]:
    """The store and the apps' addresses by name; the stack that was started, if any was."""
    if urls := pytestconfig.getoption("base_url"):
        endpoint = pytestconfig.getoption("s3_endpoint")
        if not endpoint:
            raise pytest.UsageError("--base-url needs --s3-endpoint: what the apps store is read back from there")
        yield Store("given", endpoint), {url: url.rstrip("/") for url in urls}, None
        return
    folder: Path = tmp_path_factory.mktemp("contract")
    with stack.running(SETTINGS | {"TMPDIR": str(folder)}, log_path=folder / "servers.log") as started:
        yield started.store, {name: server.url for name, server in started.apps.items()}, started


@pytest.fixture(scope="session")
def bucket(running: tuple[Store, dict[str, str], stack.Stack | None]) -> Iterator[Bucket]:
    """The apps' bucket, by a client of the suite's own."""
    store, _, started = running
    client = store.client()
    yield Bucket(client, SETTINGS["UPLOAD_BUCKET"], started)
    client.close()


@pytest.fixture
def apps(running: tuple[Store, dict[str, str], stack.Stack | None], bucket: Bucket) -> Iterator[list[Api]]:
    """Every app; after the test, S3 must hold what the 201 answers named and nothing else, and no file be left open."""
    apis = [Api(url) for url in running[1].values()]
    yield apis
    named = {key for api in apis for key in api.stored}
    for api in apis:
        api.close()
    bucket.check_and_empty(named)


@pytest.fixture
def app(apps: list[Api], app_name: str, running: tuple[Store, dict[str, str], stack.Stack | None]) -> Api:
    """One app after the other."""
    url = running[1][app_name]
    return next(api for api in apps if api.url == url)
