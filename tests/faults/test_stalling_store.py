"""A call to a stalled store is abandoned, then retried or cleaned up."""

from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import pytest
from contract.bucket import Bucket
from faults.behind import Behind
from faults.broken_uploads import SIZE, Case, Seen, SeenByApp, at_once, upload
from faults.processes import Processes
from faults.script import Latency, Stall
from faults.store_faults import FRAMEWORKS
from patience import wait_until

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
def behind(impatient: Behind) -> Behind:
    """A proxy in front of a real store, and both apps with short timeouts."""
    return impatient


@pytest.fixture(scope="module")
def seen(behind: Behind, module_bucket: Bucket) -> SeenByApp:
    """The results of all uploads."""
    once = at_once(ONCE, partial(upload, behind, module_bucket, every=False))
    return once | at_once(ALWAYS, partial(upload, behind, module_bucket, every=True))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ONCE)
def test_a_single_stall_is_retried(seen: SeenByApp, case: str, framework: str) -> None:
    """After one stall the call is retried, and the file is stored once."""
    assert seen[framework, case] == Seen(201, "", (ONCE[case].fault,), stored=True, left=())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", ALWAYS)
def test_a_stall_at_every_attempt_fails_the_upload(seen: SeenByApp, case: str, framework: str) -> None:
    """After repeated stalls the answer is 503 store-unavailable, and no object or upload is left."""
    stalled = seen[framework, case]
    assert set(stalled.faults) == {ALWAYS[case].fault}
    assert replace(stalled, faults=()) == Seen(503, "store-unavailable", (), stored=False, left=())


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_connection_of_a_stalled_call_stays_open(behind: Behind, framework: str) -> None:
    """The app closes it at once: the store may never take the bytes that wait in it."""
    app = Processes(behind.started.apps[framework].pid)
    port = urlsplit(behind.proxy.url).port or 80
    wait_until(lambda: not app.stuck_connections(port), lambda: "a connection to the stalled store is open")
