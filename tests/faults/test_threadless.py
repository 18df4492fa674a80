"""If no thread can start, uploads are stored or refused, and every leftover is counted."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from contract.numbers import numbers
from faults.behind import Behind, proxied
from faults.proxy import Proxy
from faults.script import Answer

from filehandoff.causes import CAUSES
from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS

FRAMEWORKS = ("flask", "quart")
#: A form with a file of one part and a file of three.
BODY = form(part("file", os.urandom(3000), "small"), part("file", os.urandom(11 * MIB), "large"))
DENIED = Answer(403, "AccessDenied")
#: The only hand-off that needs its own thread, by app.
NEEDS_A_THREAD = ("flask", "byte_queue")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Both apps, able to lose their threads, behind a proxy."""
    here = str(Path(__file__).parent / "threadless")
    flag = tmp_path_factory.mktemp("threadless") / "flag"
    python_path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    more = {"PYTHONPATH": python_path, "NO_THREADS": str(flag), "UPLOAD_S3_ATTEMPTS": "1"}
    with proxied("moto", tmp_path_factory.mktemp("apps"), more) as behind:
        yield behind


@pytest.fixture
def no_threads(behind: Behind) -> Iterator[Path]:
    """While this file exists, no app can start a thread."""
    flag = Path(behind.started.environ["NO_THREADS"])
    flag.touch()
    yield flag
    flag.unlink(missing_ok=True)


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind, bucket: Bucket) -> Iterator[Api]:
    """Each of the apps; after the test, S3 has exactly the objects of 201 answers."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api
        bucket.check_and_empty(api.stored)


def check_refused_for_threads(app: Api, handoff: str, answer: httpx.Response) -> bool:
    """Whether the hand-off needs its own thread.

    In that case assert that the answer is 503.
    """
    if (app.framework, handoff) != NEEDS_A_THREAD:
        return False
    check_problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "5"
    return True


@pytest.mark.every_other
@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_an_upload_without_a_new_thread_is_stored_or_refused(app: Api, handoff: str) -> None:
    """Without new threads, the request's own thread makes the S3 calls."""
    answer = app.upload(BODY, f"/uploads/{handoff}")
    if not check_refused_for_threads(app, handoff, answer):
        assert [receipt["parts"] for receipt in answer.json()["receipts"]] == [1, 3]


@pytest.mark.every_other
@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.parametrize("call", ["upload_part", "complete_multipart_upload"])
def test_a_failed_upload_is_undone_without_a_new_thread(app: Api, proxy: Proxy, handoff: str, call: str) -> None:
    """After a refused call, files and parts are removed without new threads."""
    before = numbers(app)["undo_failures_total"]
    proxy.on(call, DENIED, every=True)
    answer = app.upload(BODY, f"/uploads/{handoff}")
    if not check_refused_for_threads(app, handoff, answer):
        check_problem(answer, 502, "store-rejected")
    assert numbers(app)["undo_failures_total"] == before


def test_a_failed_undo_without_a_new_thread_is_counted_and_done_later(
    app: Api, bucket: Bucket, proxy: Proxy, no_threads: Path
) -> None:
    """An object that S3 refuses to delete is counted, and deleted later."""
    before = numbers(app)["undo_failures_total"]
    proxy.on("complete_multipart_upload", DENIED, every=True)
    proxy.on("delete_object", DENIED, every=True)
    check_problem(app.upload(BODY, "/uploads/stream"), 502, "store-rejected")
    assert numbers(app)["undo_failures_total"] > before
    assert bucket.sizes()
    proxy.clear()
    no_threads.unlink()


@pytest.mark.usefixtures("no_threads")
def test_a_presigned_upload_is_undone_without_a_new_thread(app: Api) -> None:
    """An upload in parts without parts is aborted by its `complete`."""
    given = app.presign(bytes(11 * MIB)).json()
    check_problem(app.send("POST", given["complete"]), 422, "size-mismatch")


@pytest.mark.every_other
@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_shown_or_refused_without_a_new_thread(app: Api, cause: str) -> None:
    """A cause that starts threads gets 503, any other is shown; their objects are removed."""
    answer = app.upload(form(part("file", os.urandom(9 * MIB), "name")), f"/causes/{cause}")
    if answer.status_code != 200:
        check_problem(answer, 503, "overloaded")
