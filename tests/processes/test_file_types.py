"""Both apps with a list of types: each file is decided by its first bytes before S3 gets one of them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from contract.api import Api, check_bytes, check_problem, chunked, form, part
from faults import raw
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from processes.serving import served

from demo import stack
from demo.stores import EMBEDDED_CREDENTIALS, Store
from filehandoff.settings import MIB
from filehandoff.strategies import FORM_HANDOFFS, HANDOFFS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "uploads"
PNG, JPEG, HTML = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"<!DOCTYPE html><script>"
SIZES = [pytest.param(100, id="one put"), pytest.param(10 * MIB + 1, id="three parts")]


class Recorded:
    """moto; `changes` are the requests that store or delete something."""

    def __init__(self) -> None:
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self.changes: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            self.changes.append(environ["REQUEST_METHOD"])
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Recorded, Store]]:
    """The store, and its address and credentials."""
    store = Recorded()
    with served(store) as url:
        given = Store("recorded", url, EMBEDDED_CREDENTIALS)
        with closing(given.client()) as client:
            client.create_bucket(Bucket=BUCKET)
        yield store, given


@pytest.fixture(scope="module")
def s3(recorded: tuple[Recorded, Store]) -> Iterator["S3Client"]:
    """A client of the store."""
    with closing(recorded[1].client()) as client:
        yield client


@pytest.fixture(scope="module")
def running(recorded: tuple[Recorded, Store], tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """Both apps."""
    environ = {
        **EMBEDDED_CREDENTIALS,
        "UPLOAD_S3": recorded[1].endpoint_url,
        "UPLOAD_BUCKET": BUCKET,
        "UPLOAD_PART_BYTES": "5 MiB",
        "UPLOAD_DRAIN_SECONDS": "1",
        "UPLOAD_ALLOWED_TYPES": "image/*, application/pdf",
        "UPLOAD_STORE_FOUND_TYPE": "on",
    }
    log: Path = tmp_path_factory.mktemp("types") / "servers.log"
    with stack.running(environ, log_path=log) as started:
        yield started


@pytest.fixture
def store(recorded: tuple[Recorded, Store], s3: "S3Client") -> Iterator[Recorded]:
    """The store without earlier requests; after the test it is empty."""
    recorded[0].changes.clear()
    yield recorded[0]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


@pytest.fixture(params=stack.COMMANDS)
def app(request: pytest.FixtureRequest, running: stack.Stack) -> Iterator[Api]:
    """Each of the apps in turn; after the test it has deleted its objects."""
    with closing(Api(running.apps[request.param].url)) as api:
        yield api
        for key in tuple(api.stored):
            assert api.send("DELETE", f"/objects/{key}").status_code == 204


def upload(app: Api, handoff: str, data: bytes, declared: str) -> httpx.Response:
    """Send a file by any hand-off."""
    if handoff == "presigned":
        given = app.presign(data, "a", declared).json()
        app.send_to_s3(given, data)
        return app.send("POST", given["complete"])
    return app.upload(form(part("file", data, "a", Content_Type=declared)), f"/uploads/{handoff}")


def check_refused(answer: httpx.Response, found: str) -> None:
    """Assert that the error names the found and the allowed types."""
    detail = check_problem(answer, 415, "type-not-allowed")["detail"]
    assert found in detail
    assert detail.endswith("allowed are image/*, application/pdf.")


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_a_file_of_another_type_is_not_sent_to_s3(store: Recorded, app: Api, handoff: str, size: int) -> None:
    """The declared type has no effect."""
    check_refused(upload(app, handoff, HTML.ljust(size), "image/png"), "text/html")
    assert store.changes == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("store")
def test_a_presigned_file_of_another_type_is_removed(app: Api, size: int) -> None:
    """The client has sent it to S3, and `complete` deletes it."""
    check_refused(upload(app, "presigned", HTML.ljust(size), "image/png"), "text/html")


@pytest.mark.parametrize("handoff", HANDOFFS)
@pytest.mark.usefixtures("store")
def test_an_empty_file_has_no_type(app: Api, handoff: str) -> None:
    """The list admits no such file."""
    check_refused(upload(app, handoff, b"", "image/png"), "The file is empty")


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", HANDOFFS)
@pytest.mark.usefixtures("store")
def test_an_allowed_file_is_stored_whole(app: Api, handoff: str, size: int) -> None:
    """No byte is lost by the decision."""
    data = PNG.ljust(size, b"a")
    answer = upload(app, handoff, data, "image/png")
    assert answer.status_code == 201, answer.text
    (receipt,) = answer.json()["receipts"]
    assert receipt["content_type"] == "image/png"
    check_bytes(app.send("GET", f"/objects/{receipt['key']}"), 200, data)


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
@pytest.mark.usefixtures("store")
def test_the_found_type_is_stored(app: Api, s3: "S3Client", handoff: str, size: int) -> None:
    """The declared type contradicts the bytes."""
    answer = upload(app, handoff, JPEG.ljust(size), "image/png")
    (receipt,) = answer.json()["receipts"]
    assert receipt["content_type"] == "image/jpeg"
    assert s3.head_object(Bucket=BUCKET, Key=receipt["key"])["ContentType"] == "image/jpeg"


@pytest.mark.usefixtures("store")
def test_a_presigned_file_that_contradicts_its_declared_type_is_removed(app: Api) -> None:
    """The app cannot change the type of a stored object."""
    problem = check_problem(upload(app, "presigned", JPEG, "image/png"), 415, "type-not-allowed")
    assert problem["detail"] == "The object is image/jpeg by its first bytes, but image/png was declared."


@pytest.mark.parametrize("send", ["PUT", "POST"])
def test_a_body_without_a_form_is_decided_too(store: Recorded, app: Api, send: str) -> None:
    """In chunks, and with a length."""
    path = "/uploads/a.png" if send == "PUT" else "/uploads"
    for body in (HTML.ljust(100_000), chunked(HTML.ljust(100_000))):
        check_refused(app.send(send, path, content=body, headers={"Content-Type": "image/png"}), "text/html")
    assert store.changes == []
    answer = app.send(send, path, content=iter([PNG[:1], PNG[1:2], PNG[2:]]), headers={"Content-Type": "image/gif"})
    assert answer.json()["receipts"][0]["content_type"] == "image/png"
    check_bytes(app.send("GET", answer.headers["Location"]), 200, PNG)


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_one_file_refuses_the_whole_form(store: Recorded, app: Api, handoff: str) -> None:
    """The files before it are removed; those after it are not sent."""
    files = [part("file", data, "a", Content_Type="image/png") for data in (PNG, PNG.ljust(6 * MIB), HTML, PNG)]
    check_refused(app.upload(form(*files), f"/uploads/{handoff}"), "text/html")
    assert "DELETE" in store.changes


def test_the_decision_does_not_wait_for_the_rest_of_the_file(store: Recorded, app: Api) -> None:
    """The app refuses a stream whose client has sent less than one part."""
    whole = form(part("file", HTML.ljust(4 * MIB), "a", Content_Type="image/png"))
    head = raw.head("stream", f"Content-Length: {len(whole)}")
    with closing(raw.connect(app.url)) as connection:
        connection.sendall(head + whole[:MIB])
        answer = raw.read_answer(connection)
    assert (answer.status, b"type-not-allowed" in answer.body) == (415, True)
    assert store.changes == []
