"""Without a store, every route answers in time with an error."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from faults.behind import watchable
from patience import wait_until

from demo import stack
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")


@pytest.fixture(scope="module")
def running_without_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """Both apps; their store has ended."""
    with watchable(tmp_path_factory.mktemp("down")) as running:
        server = running.store.server
        assert server is not None
        running.servers.remove(server)
        server.terminate()
        server.wait()
        yield running


@pytest.fixture
def app(running_without_store: stack.Stack, framework: str) -> Iterator[Api]:
    """One of the apps; after the test, it has no temporary file open."""
    with closing(Api(running_without_store.apps[framework].url)) as api:
        yield api
    with closing(running_without_store.store.client()) as client:
        bucket = Bucket(client, "faults", running_without_store)

    def open_files() -> list[str]:
        return [path for path in bucket.open_files() if "wgunicorn" not in path]

    wait_until(lambda: not open_files(), open_files)


@pytest.mark.every_other
@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(5 * 1024**2 + 1, id="multipart")])
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_upload_is_answered_in_time(app: Api, handoff: str, size: int) -> None:
    """An upload gets 503 store-unavailable with Retry-After, and no temporary file stays open."""
    answer = app.upload(form(part("file", os.urandom(size), "name")), f"/uploads/{handoff}")
    check_problem(answer, 503, "store-unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_object_is_answered_in_time(app: Api, method: str) -> None:
    """A request for an object gets 503, not 404."""
    key = "2026/01/01/0190a8c0-0000-7000-8000-000000000000/name"
    check_problem(app.send(method, f"/objects/{key}"), 503, "store-unavailable")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_process_lives_but_is_not_ready(app: Api) -> None:
    """/healthz does not depend on S3, /readyz does."""
    assert app.send("GET", "/healthz").status_code == httpx.codes.OK
    check_problem(app.send("GET", "/readyz"), 503, "store-unavailable")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_bad_form_is_the_clients_fault_all_the_same(app: Api) -> None:
    """A malformed form gets its own error, because S3 is not asked before."""
    check_problem(app.upload(form(part("other", b""))), 400, "file-missing")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_log_has_a_line_for_each_and_no_traceback(app: Api, running_without_store: stack.Stack) -> None:
    """The log has one line per second about the store, without a traceback."""
    log = Path(running_without_store.environ["TMPDIR"]) / "servers.log"
    line = f"request find-{app.framework}: store-unavailable: "

    def is_logged() -> bool:
        app.send("GET", "/readyz", headers={"X-Request-Id": f"find-{app.framework}"})
        return line in log.read_text()

    wait_until(is_logged, lambda: f"the log has no '{line}'")
    assert log.read_text().count("Traceback") == 0
