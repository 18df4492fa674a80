"""Apps behind a proxy that cuts connections."""

from collections.abc import Iterator

import pytest
from resuming.services import FRAMEWORKS, Services

from demo import stack, stores
from demo.processes import ending
from filehandoff.settings import Settings


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """Each of the apps in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A store that compares and writes in one step, without an app."""
    folder = tmp_path_factory.mktemp("resuming")
    with (tmp_path_factory.mktemp("logs") / "log").open("w+b") as log:
        store = stores.start("moto", {}, log)
        assert store.server is not None
        with ending([store.server]):
            stack.create_bucket(stack.Stack(store, Settings(), {}, [store.server]), log)
            found = Services(store, folder, log)
            with ending(found.servers):
                yield found
