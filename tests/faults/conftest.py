"""Both apps in front of a broken store, and tools of broken clients."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from contract.bucket import Bucket
from faults.app import App, warmed_up
from faults.behind import Behind, proxied, watchable
from faults.proxy import Proxy
from faults.settings import SETTINGS, SHORT_STORE_TIMEOUTS
from xdist.scheduler import LoadFileScheduling

from demo import stack
from filehandoff.typing_backports import override

if TYPE_CHECKING:
    from xdist.remote import Producer

FRAMEWORKS = ("flask", "quart")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the number of repetitions."""
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=100, help="how many clients are killed for each app, twice")
    group.addoption("--overload-seconds", type=float, default=2.0, help="how long the overload lasts")
    group.addoption("--restarts", type=int, default=4, help="how often each app is restarted under load")


#: Files that share servers: the tests of one worker, in this order. Those of clients end by slowing the apps down.
TOGETHER = (
    (
        *("test_wrong_requests.py", "test_framing.py", "test_small_pieces.py", "test_presigned_clients.py"),
        "test_clients.py",
    ),
    ("test_broken_store.py", "test_rewritten_answers.py"),
    ("test_store_faults.py", "test_stalling_store.py"),
)
#: The longest files; they come first, so that several workers end together.
LONGEST = (
    *("test_restarts.py", *TOGETHER[0], *TOGETHER[1], "test_overload.py", "test_slow_clients.py", "test_flips.py"),
    *("test_downloads.py", *TOGETHER[2], "test_operators.py", "test_slow_store.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    places = {f"tests/faults/{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


class TogetherScheduling(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """`--dist loadfile`, with one worker for all files that share servers."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        name = file.removeprefix("tests/faults/")
        return next((together[0] for together in TOGETHER if name in together), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> LoadFileScheduling | None:
    """Replace the scheduler of `--dist loadfile`."""
    return TogetherScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps with the suite's settings; a file with others has its own."""
    with watchable(tmp_path_factory.mktemp("faults")) as started:
        yield started


@pytest.fixture(scope="session")
def both(running: stack.Stack) -> Iterator[dict[str, App]]:
    """Both apps, after each has done everything once."""
    with warmed_up(running) as apps:
        yield apps


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, both: dict[str, App]) -> Iterator[App]:
    """Each of the apps.

    After the test, nothing is left in S3 or in the process.
    """
    app = both[request.param]
    yield app
    app.check_nothing_left()


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of moto, and both apps behind it; a file with another store or settings has its own."""
    with proxied("moto", tmp_path_factory.mktemp("behind")) as behind:
        yield behind


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """The same, and both apps with short timeouts."""
    with proxied("moto", tmp_path_factory.mktemp("impatient"), SHORT_STORE_TIMEOUTS) as behind:
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
