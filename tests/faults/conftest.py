"""Both apps in front of a broken store, and tools of broken clients."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract.bucket import Bucket
from faults.app import App
from faults.behind import Behind, proxied
from faults.proxy import Proxy
from faults.settings import SETTINGS
from faults.watch import watched

from demo import stack

FRAMEWORKS = ("flask", "quart")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the number of repetitions."""
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=100, help="how many clients are killed for each app, twice")
    group.addoption("--overload-seconds", type=float, default=3.0, help="how long the overload lasts")
    group.addoption("--restarts", type=int, default=12, help="how often each app is restarted under load")


#: The longest files; they come first, so that several workers end together.
LONGEST = (
    *("test_restarts.py", "test_broken_store.py", "test_slow_store.py", "test_slow_clients.py", "test_flips.py"),
    *("test_wrong_requests.py", "test_overload.py", "test_downloads.py", "test_store_faults.py", "test_operators.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps for one module, with the module's MORE_SETTINGS."""
    folder: Path = tmp_path_factory.mktemp("faults")
    environ = SETTINGS | getattr(request.module, "MORE_SETTINGS", {}) | {"TMPDIR": str(folder)}
    environ |= watched(tmp_path_factory.mktemp("watched"))
    with stack.running(environ, log_path=folder / "servers.log") as started:
        yield started


@pytest.fixture(scope="module")
def both(running: stack.Stack) -> Iterator[dict[str, App]]:
    """Both apps, after each has done everything once."""
    with closing(running.store.client()) as client:
        bucket = Bucket(client, SETTINGS["UPLOAD_BUCKET"], running)
        apps = {name: App(name, running, bucket) for name in FRAMEWORKS}
        yield apps
        for app in apps.values():
            app.check_at_rest()


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, both: dict[str, App]) -> Iterator[App]:
    """Each of the apps.

    After the test, nothing is left in S3 or in the process.
    """
    app = both[request.param]
    yield app
    app.check_nothing_left()


@pytest.fixture(scope="module")
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of the module's STORE, and both apps behind it."""
    with proxied(request.module.STORE, tmp_path_factory.mktemp("behind")) as behind:
        yield behind


@pytest.fixture
def bucket(behind: Behind) -> Iterator[Bucket]:
    """The bucket, accessed past the proxy."""
    with closing(behind.store.client()) as client:
        yield Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started)


@pytest.fixture(scope="module")
def module_bucket(behind: Behind) -> Iterator[Bucket]:
    """The bucket for a fixture of module scope."""
    with closing(behind.store.client()) as client:
        yield Bucket(client, SETTINGS["UPLOAD_BUCKET"], behind.started)


@pytest.fixture
def proxy(behind: Behind) -> Iterator[Proxy]:
    """The proxy, without calls before the test and without a script after it."""
    behind.proxy.calls.clear()
    yield behind.proxy
    behind.proxy.clear()
