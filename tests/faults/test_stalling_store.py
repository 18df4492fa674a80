"""A store that stands still in the middle of an upload: the call is given up, and tried again or undone."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from contract.bucket import Bucket
from faults.behind import Behind, proxied
from faults.broken_uploads import SIZE, Case, Seen, SeenByApp, at_once, upload
from faults.script import Latency, Stall
from faults.settings import SHORT_STORE_TIMEOUTS
from faults.store_faults import FRAMEWORKS

from filehandoff.settings import MIB

ONCE = {
    "a part is not taken on": Case("upload_part", Stall(after=MIB), SIZE),
    "a put is not answered": Case("put_object", Stall(), 100),
}
ALWAYS = {
    "a part: not taken on": Case("upload_part", Stall(after=MIB), SIZE),
    "a part: not taken at all": Case("upload_part", Stall(), SIZE),
    "a part: taken and not answered": Case("upload_part", Latency(600), SIZE),
    "put: not answered": Case("put_object", Stall(), 100),
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A proxy in front of a real store, and both apps behind it, which do not wait for long."""
    with proxied("moto", tmp_path_factory.mktemp("stalling"), SHORT_STORE_TIMEOUTS) as behind:
        yield behind


@pytest.fixture(scope="module")
def seen(behind: Behind, module_bucket: Bucket) -> SeenByApp:
    """All of the uploads."""
    once = at_once(ONCE, partial(upload, behind, module_bucket, every=False))
    return once | at_once(ALWAYS, partial(upload, behind, module_bucket, every=True))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ONCE)
def test_what_stalls_once_is_mended(seen: SeenByApp, case: str, framework: str) -> None:
    """The call is tried again, and the file is stored once, whole, with nothing beside it."""
    assert seen[framework, case] == Seen(201, "", (ONCE[case].fault,), stored=True, left=())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ALWAYS)
def test_what_stalls_every_time_is_told_and_undone(seen: SeenByApp, case: str, framework: str) -> None:
    """The answer is 503 store-unavailable, and nothing is left: no object, no unfinished upload."""
    stalled = seen[framework, case]
    assert set(stalled.faults) == {ALWAYS[case].fault}
    assert replace(stalled, faults=()) == Seen(503, "store-unavailable", (), stored=False, left=())
