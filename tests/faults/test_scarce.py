"""When threads or file descriptors run out, /healthz answers and running uploads continue."""

import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract.api import Api, check_problem, form, part
from contract.bucket import Bucket
from contract.numbers import grown, numbers, wait_for
from faults import raw
from faults.behind import Behind, proxied
from faults.proxy import Proxy
from faults.raw import head
from faults.script import Stall
from patience import wait_until

from demo import stack
from demo.processes import family
from filehandoff.admission import reads_at_once, threads
from filehandoff.strategies import HANDOFFS

FRAMEWORKS = ("flask", "quart")
AT_ONCE = 1
READS = reads_at_once(AT_ONCE)
BODY = form(part("file", os.urandom(3000), "name"))
UNFINISHED = b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-A: a"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Both apps with few threads, behind a proxy."""
    with proxied("moto", tmp_path_factory.mktemp("scarce"), {"UPLOAD_MAX_CONCURRENT": str(AT_ONCE)}) as behind:
        yield behind


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Api]:
    """Each of the apps."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api


@pytest.fixture(autouse=True)
def emptied(bucket: Bucket) -> Iterator[None]:
    """After the test, the bucket's objects are removed."""
    yield
    for key in bucket.stored_keys():
        bucket.delete(key)


@dataclass(frozen=True)
class Descriptors:
    """The file descriptors of a serving process."""

    pid: int

    def leave(self, count: int) -> tuple[int, int]:
        """Limit the process to this many more than it has; return the previous limits."""
        limit = len(list((Path("/proc") / str(self.pid) / "fd").iterdir())) + count
        before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        return before


def check_health(app: Api) -> None:
    """Assert that /healthz answers on a new connection."""
    with closing(Api(app.url)) as other:
        assert other.send("GET", "/healthz").status_code == 200


def wait_until_ready(app: Api) -> None:
    """Wait until /readyz succeeds; a busy S3 may exceed its timeout."""
    wait_until(lambda: app.send("GET", "/readyz").status_code == 200, lambda: "the app is not ready")


def stored_key(app: Api) -> str:
    """The key of a stored object."""
    return str(app.upload(BODY, "/uploads/stream").json()["receipts"][0]["key"])


def test_heads_that_do_not_end_hold_no_thread(app: Api) -> None:
    """With twice as many unfinished heads as threads, /healthz answers before they time out."""
    with ExitStack() as exits:
        unfinished = [exits.enter_context(closing(raw.connect(app.url))) for _ in range(2 * threads(AT_ONCE))]
        for connection in unfinished:
            connection.sendall(UNFINISHED)
        check_health(app)
        assert not any(map(raw.is_closed, unfinished))


def test_a_head_that_ends_late_is_answered_and_the_next_one_too(app: Api) -> None:
    """A slow head is answered on a kept connection, as is a pipelined one."""
    with closing(raw.connect(app.url)) as connection:
        for _ in range(2):
            connection.sendall(UNFINISHED)
            time.sleep(0.1)
            connection.sendall(b"b\r\n\r\n" + UNFINISHED)
            assert raw.read_answer(connection).status == 200
            time.sleep(0.1)
            connection.sendall(b"\r\n\r\n")
            assert raw.read_answer(connection).status == 200


def test_a_store_that_stalls_leaves_threads_for_health(app: Api, proxy: Proxy) -> None:
    """Few requests for objects may wait for S3 at once.

    Others get 503 and are counted, and /healthz answers.
    """
    key = stored_key(app)
    before = numbers(app)
    proxy.on("get_object", Stall(), every=True)
    requests = READS + threads(AT_ONCE)
    with ThreadPoolExecutor(requests) as pool, closing(Api(app.url)) as other:
        asked = [pool.submit(other.send, "GET", f"/objects/{key}") for _ in range(requests)]
        wait_until(lambda: sum(one.done() for one in asked) >= requests - READS, lambda: "too many wait for S3")
        check_health(app)
        check_problem(app.send("DELETE", f"/objects/{key}"), 503, "overloaded")
        wait_until_ready(app)
        assert sum(one.done() for one in asked) == requests - READS
        proxy.clear()
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status_code == 503]
    for answer in refused:
        check_problem(answer, 503, "overloaded")
        assert answer.headers["Retry-After"] == "5"
    assert len(answers) - len(refused) == READS
    changed = grown(app, before)
    assert changed.pop("refusals_total{reason=overloaded}") == len(refused) + 1
    assert {name for name in changed if not name.startswith("s3_retries_total")} == set()


def test_every_answer_about_an_object_gives_its_place_back(app: Api) -> None:
    """Every answer about an object releases its place, with any status."""
    key = stored_key(app)
    etag = app.send("HEAD", f"/objects/{key}").headers["ETag"]
    asked = [
        ("GET", key, {}, 200),
        ("GET", key, {"Range": "bytes=0-4"}, 206),
        ("GET", key, {"Range": "bytes=9999-"}, 416),
        ("GET", key, {"If-None-Match": etag}, 304),
        ("HEAD", key, {}, 200),
        ("GET", f"{key}-not", {}, 404),
        ("DELETE", key, {}, 204),
    ]
    for method, name, headers, status in asked:
        answers = [app.send(method, f"/objects/{name}", headers=headers) for _ in range(READS + 1)]
        assert answers[0].status_code == status
        assert {answer.status_code for answer in answers} <= {status, 404}


def test_a_client_that_leaves_gives_its_place_back(app: Api) -> None:
    """A client that leaves before or during its download releases its place."""
    key = stored_key(app)
    for _ in range(3 * READS):
        with closing(raw.connect(app.url)) as connection:
            connection.sendall(f"GET /objects/{key} HTTP/1.1\r\nHost: here\r\n\r\n".encode())

    def all_are_answered() -> bool:
        return {app.send("HEAD", f"/objects/{key}").status_code for _ in range(READS + 1)} == {200}

    wait_until(all_are_answered, lambda: "no place is given back")


def test_a_refused_cause_is_counted(app: Api) -> None:
    """A refused cause counts as a refusal, not as an upload."""
    before = numbers(app)
    with closing(raw.connect(app.url)) as holding:
        holding.sendall(head("stream", f"Content-Length: {len(BODY)}") + BODY[:100])
        wait_for(app, "uploads_in_flight", 1)
        check_problem(app.upload(BODY, "/causes/copied_context"), 503, "overloaded")
        holding.sendall(BODY[100:])
        assert raw.read_answer(holding).status == 201
    changed = grown(app, before)
    assert {name: value for name, value in changed.items() if "stored" not in name and "file_bytes" not in name} == {
        "refusals_total{reason=overloaded}": 1
    }


def test_an_upload_goes_on_when_the_descriptors_run_out(behind: Behind, app: Api) -> None:
    """Without free descriptors an upload continues and the log is not flooded.

    Later all works again. Meanwhile new connections wait, which is logged; uvloop closes them.
    """
    *_, pid = family(behind.started.apps[app.framework].pid)
    descriptors = Descriptors(pid)
    log = Path(behind.started.environ["TMPDIR"]) / "servers.log"
    with closing(raw.connect(app.url)) as upload, ExitStack() as exits:
        upload.sendall(head("stream", f"Content-Length: {len(BODY)}") + BODY[:100])
        wait_until_ready(app)  # connected to S3 from here on
        stored_connection = app.send("HEAD", f"/objects/{'0' * 9}")
        assert stored_connection.status_code == 404
        written, before = log.stat().st_size, descriptors.leave(8)
        try:
            for _ in range(30):
                connection = exits.enter_context(closing(raw.connect(app.url)))
                connection.sendall(UNFINISHED)
            if (app.framework, stack.QUART_SERVER) == ("quart", "uvicorn"):
                wait_until(lambda: raw.is_closed(connection), lambda: "the last connection is not closed")
            else:
                wait_until(lambda: log.stat().st_size > written, lambda: "the log has no line of it")
            time.sleep(1.5)  # a flood would be megabytes
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        upload.sendall(BODY[100:])
        assert raw.read_answer(upload).status == 201
        check_health(app)
        *_, still = family(behind.started.apps[app.framework].pid)
    assert still == pid
    assert log.stat().st_size - written < 10_000


#: Hand-offs that keep a file above 500,000 bytes on disk.
ON_DISK = [handoff.name for handoff in HANDOFFS.values() if handoff.disk != "nothing"]
MIB = 1024**2


@contextmanager
def no_file_over(pid: int, size: int) -> Iterator[None]:
    """Limit the files of a process to this many bytes, as a quota does."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    """Move a folder away for the block."""
    away = folder.rename(folder.with_name(f"{folder.name}-away"))
    try:
        yield
    finally:
        away.rename(folder)


def check_no_room(app: Api, handoff: str) -> None:
    """Assert that a file for the disk gets 507, and that others are stored."""
    before = numbers(app)
    large, small = part("file", os.urandom(2 * MIB), "name"), part("file", b"small", "name")
    for body in (form(large), form(small, large)):
        answer = app.upload(body, f"/uploads/{handoff}")
        assert "temporary file" in check_problem(answer, 507, "storage-full")["detail"]
        assert answer.headers["Retry-After"] == "5"
    assert grown(app, before)["failures_total{reason=storage-full}"] == 2
    for body, path in ((form(small), f"/uploads/{handoff}"), (form(large), "/uploads/stream")):
        (receipt,) = app.upload(body, path).json()["receipts"]
        assert app.send("DELETE", f"/objects/{receipt['key']}").status_code == 204


@pytest.mark.every_other
@pytest.mark.parametrize("handoff", ON_DISK)
@pytest.mark.parametrize("room", [MIB // 4, 2 * MIB - 1], ids=["for no file", "for all but a byte"])
def test_a_full_temporary_folder_is_507(behind: Behind, app: Api, bucket: Bucket, handoff: str, room: int) -> None:
    """A file that does not fit into the temporary folder gets 507.

    Nothing of it is left.
    """
    *_, pid = family(behind.started.apps[app.framework].pid)
    with no_file_over(pid, room):
        check_no_room(app, handoff)
    bucket.check_and_empty(set())


@pytest.mark.every_other
@pytest.mark.parametrize("handoff", ON_DISK)
def test_a_missing_temporary_folder_is_507(behind: Behind, app: Api, bucket: Bucket, handoff: str) -> None:
    """A missing temporary folder causes 507; when it is back, files are stored."""
    with moved_away(Path(behind.started.environ["TMPDIR"])):
        check_no_room(app, handoff)
    (receipt,) = app.upload(form(part("file", os.urandom(MIB), "name")), f"/uploads/{handoff}").json()["receipts"]
    bucket.check_and_empty({receipt["key"]})
