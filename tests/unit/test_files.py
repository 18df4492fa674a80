"""The routes of resumable uploads as flows, on an S3 in memory."""

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from unit.s3.fake_s3 import BEGIN, FakeS3
from unit.sansio_request import make_request

from filehandoff.errors import (
    ChecksumUnsupported,
    FileTooLarge,
    FinalUpload,
    Locked,
    MethodNotAllowed,
    NotFound,
    ObjectMissing,
    OffsetConflict,
    PartialUnfinished,
    TusMalformed,
    TusVersionUnsupported,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.identity import Identity
from filehandoff.receipt import Stored
from filehandoff.s3.calls import Flow
from filehandoff.service import Service
from filehandoff.settings import MIB, Settings
from filehandoff.tus import CONTENT_TYPE, FINAL
from filehandoff.web import files
from filehandoff.web.files import Receiving
from filehandoff.web.routes import Answer

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": CONTENT_TYPE}
NAME = base64.b64encode(b"a.txt").decode()


class App:
    """The routes of one service, as a shell drives them."""

    def __init__(self, **settings: Any) -> None:
        self.store = FakeS3()
        self.service = Service("flask", Settings(bucket="photos", max_file_bytes=10 * MIB, **settings), None)
        self.hooked: list[str] = []

    def request(self, method: str, headers: dict[str, str], body: bytes = b"", user: str = "") -> Any:
        """Make a request with this body."""
        length = {"Content-Length": str(len(body))} if body else {}
        request = make_request(method, "/files", {**headers, **length})
        request.identity = Identity(user)
        return request

    def create(self, headers: dict[str, str], body: bytes = b"", user: str = "") -> Answer:
        """Send `POST /files`."""
        request = self.request("POST", {**TUS, **headers}, body, user)
        creation = files.creation_of(self.service, request)
        if creation.parts:
            return self._concatenate(request, creation)
        if creation.chunk is None:
            return self.store.run(files.create(self.service, request, creation))
        return self._receive(request, self.store.run(files.create_receiving(self.service, request, creation)), body)

    def patch(self, at: int, location: str, body: bytes = b"", **headers: str) -> Answer:
        """Send `PATCH` to an upload's address."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = self.request("PATCH", {**BYTES, "Upload-Offset": str(at), **named}, body)
        claimed = self.store.run(files.claim(self.service, request, location.rpartition("/")[2]))
        return claimed if isinstance(claimed, Answer) else self._receive(request, claimed, body)

    def _receive(self, request: Any, receiving: Receiving, body: bytes) -> Answer:
        writer = receiving.writer(self.service, self._stamp)

        def finished(stored: Stored) -> Flow[Answer]:
            return files.finished(self.service, request, receiving, writer, stored)

        self.store.run(writer.open())
        assert not list(writer.receive(body))
        if writer.is_complete:
            return self.store.run(writer.finish(finished))
        return receiving.answer(self.service, self.store.run(writer.pause()))

    def _stamp(self, request_id: str) -> Any:
        self.hooked.append(request_id)
        return None

    def _concatenate(self, request: Any, creation: Any) -> Answer:
        made = self.store.run(files.concatenation(self.service, request, creation))
        stored = [Stored(made.incoming, made.length, "s", "e", 1)]
        return self.store.run(files.concatenated(self.service, request, made, stored, lambda: None))

    def head(self, location: str, user: str = "") -> dict[str, str]:
        """Send `HEAD` to an upload's address; return the headers of its answer."""
        return dict(self._ask(files.status, location, "HEAD", user).headers)

    def receipts(self, location: str) -> Any:
        """Send `GET` to an upload's address."""
        return json.loads(self._ask(files.receipts, location, "GET").body)["receipts"]

    def delete(self, location: str) -> Answer:
        """Send `DELETE` to an upload's address."""
        return self._ask(files.terminate, location, "DELETE")

    def _ask(self, route: Any, location: str, method: str, user: str = "") -> Answer:
        request = self.request(method, TUS if method != "GET" else {}, user=user)
        answer: Answer = self.store.run(route(self.service, request, location.rpartition("/")[2]))
        return answer


@pytest.fixture
def app() -> App:
    """Make a service and an empty bucket."""
    return App()


def created(app: App, length: int | None = 11, **headers: str) -> str:
    """Create an upload of this length; return its address."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    declared = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = app.create({"Upload-Metadata": f"filename {NAME}", **declared, **named})
    assert answer.status == 201
    return answer.headers["Location"]


def partials(app: App, *bodies: bytes) -> Sequence[str]:
    """Create complete partial uploads; return their addresses."""
    addresses = [created(app, len(body), Upload_Concat="partial") for body in bodies]
    for address, body in zip(addresses, bodies, strict=True):
        app.patch(0, address, body)
    return addresses


def test_a_file_in_two_chunks_gets_a_receipt(app: App) -> None:
    """The answer that completes it and `HEAD` name the object, `GET` has the receipt."""
    address = created(app)
    first = app.patch(0, address, b"hello ")
    assert (first.status, first.headers["Upload-Offset"], "Content-Location" in first.headers) == (204, "6", False)
    last = app.patch(6, address, b"world")
    (receipt,) = app.receipts(address)
    assert last.headers["Content-Location"] == app.head(address)["Content-Location"] == f"/objects/{receipt['key']}"
    assert (receipt["handoff"], receipt["hook"], receipt["size"], receipt["filename"]) == ("tus", "bound", 11, "a.txt")
    assert app.store.objects[receipt["key"]].data == b"hello world"
    assert app.hooked == [receipt["request_id"]] * 2


def test_a_creation_with_all_bytes_completes_at_once(app: App) -> None:
    """Also that of an empty file, with the type of a chunk or without."""
    answer = app.create({**BYTES, "Upload-Length": "11"}, b"hello world")
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "11")
    assert answer.headers["Content-Location"] == f"/objects/{app.receipts(answer.headers['Location'])[0]['key']}"
    for headers in ({}, BYTES):
        empty = app.create({**headers, "Upload-Length": "0"})
        assert app.receipts(empty.headers["Location"])[0]["size"] == 0


def test_head_shows_what_the_client_has_declared(app: App) -> None:
    """Length or deferral, metadata and concatenation, and nothing that may be cached."""
    head = app.head(created(app, None, Upload_Concat="partial"))
    assert (head["Upload-Defer-Length"], head["Upload-Offset"], head["Upload-Concat"]) == ("1", "0", "partial")
    assert (head["Upload-Metadata"], head["Cache-Control"]) == (f"filename {NAME}", "no-store")
    plain = app.head(app.create({"Upload-Length": "5"}).headers["Location"])
    assert plain["Upload-Length"] == "5"
    assert not {"Upload-Metadata", "Upload-Concat", "Upload-Defer-Length", "Content-Location"} & plain.keys()


def test_an_upload_says_when_it_expires(app: App) -> None:
    """`HEAD` names the same time later."""
    address = created(app)
    app.store.later(100)
    expires = parsedate_to_datetime(app.head(address)["Upload-Expires"])
    ages = parsedate_to_datetime(app.patch(0, address, b"x").headers["Upload-Expires"]) - expires
    assert timedelta(seconds=95) < ages < timedelta(seconds=110)
    assert expires > BEGIN


def test_other_senders_see_no_upload(app: App) -> None:
    """Each sender has a folder of its own."""
    address = app.create({"Upload-Length": "5"}, user="ann").headers["Location"]
    assert app.head(address, "ann")["Upload-Offset"] == "0"
    for user in ("", "bob"):
        with pytest.raises(NotFound):
            app.head(address, user)


@pytest.mark.parametrize(
    ("headers", "body", "error"),
    [
        pytest.param({"Tus-Resumable": "0.2"}, b"x", TusVersionUnsupported, id="version"),
        pytest.param({"Content-Type": "text/plain"}, b"x", UnsupportedMediaType, id="type"),
        pytest.param({"Upload-Offset": "x"}, b"x", TusMalformed, id="offset"),
        pytest.param({"Upload-Checksum": "md5 x"}, b"x", ChecksumUnsupported, id="checksum"),
        pytest.param({"Upload-Length": "12"}, b"x", TusMalformed, id="another length"),
        pytest.param({"Upload-Offset": "1"}, b"x", OffsetConflict, id="another offset"),
        pytest.param({}, b"hello world!", FileTooLarge, id="too many bytes"),
        pytest.param({"Upload-Offset": "12"}, b"", OffsetConflict, id="beyond the end"),
    ],
)
def test_a_wrong_chunk_is_refused_before_its_bytes(
    app: App, headers: dict[str, str], body: bytes, error: type[UploadError]
) -> None:
    """The upload stays as it was, and free."""
    address = created(app)
    with pytest.raises(error):
        app.patch(0, address, body, **headers)
    assert app.patch(0, address, b"hello world").status == 204


def test_a_deferred_length_is_bounded(app: App) -> None:
    """By the offset and by the largest file."""
    address = created(app, None)
    app.patch(0, address, b"hello")
    for length in (4, 10 * MIB + 1):
        with pytest.raises(FileTooLarge):
            app.patch(5, address, b"", Upload_Length=str(length))
    assert app.patch(5, address, b"!", Upload_Length="6").headers["Content-Location"]


def test_a_failed_creation_with_bytes_leaves_nothing(app: App) -> None:
    """Its client gets no address; any other upload keeps its bytes."""
    request = app.request("POST", {**BYTES, "Upload-Length": "11"}, b"hello")
    receiving = app.store.run(files.create_receiving(app.service, request, files.creation_of(app.service, request)))
    writer = receiving.writer(app.service, lambda _: None)
    tuple(writer.receive(b"hello"))
    for _ in range(2):
        app.store.run(receiving.after_failure(writer))
    assert not app.store.objects
    address = created(app)
    claimed = app.store.run(
        files.claim(app.service, app.request("PATCH", {**BYTES, "Upload-Offset": "0"}), address[-36:])
    )
    assert isinstance(claimed, Receiving)
    writer = claimed.writer(app.service, lambda _: None)
    tuple(writer.receive(b"hello"))
    app.store.run(claimed.after_failure(writer))
    assert app.head(address)["Upload-Offset"] == "5"


def test_a_creation_with_too_many_bytes_stores_nothing(app: App) -> None:
    """The declared length of the body exceeds the file's."""
    with pytest.raises(FileTooLarge):
        app.create({**BYTES, "Upload-Length": "3"}, b"four")
    assert not app.store.objects


def test_a_chunk_for_a_complete_upload_changes_nothing(app: App) -> None:
    """An empty one gets the answer again, any other an error."""
    address = created(app, 5)
    done = app.patch(0, address, b"hello")
    again = app.patch(5, address, b"")
    assert (again.status, again.headers["Content-Location"]) == (204, done.headers["Content-Location"])
    with pytest.raises(FileTooLarge):
        app.patch(5, address, b"x")
    with pytest.raises(OffsetConflict, match="has 5 bytes"):
        app.patch(0, address, b"hello")


def test_a_held_upload_is_locked_but_visible(app: App) -> None:
    """`HEAD` is answered at once, `PATCH` and `DELETE` are not allowed."""
    address = created(app)
    request = app.request("PATCH", {**BYTES, "Upload-Offset": "0"})
    app.store.run(files.claim(app.service, request, address.rpartition("/")[2]))
    assert app.head(address)["Upload-Offset"] == "0"
    with pytest.raises(Locked) as locked:
        app.patch(0, address, b"x")
    assert locked.value.headers == {"Retry-After": "1"}
    with pytest.raises(Locked):
        app.delete(address)


def test_an_unfinished_upload_has_no_receipt(app: App) -> None:
    """Nor has a partial one ever."""
    address, (part,) = created(app), partials(app, b"hello")
    for one in (address, part):
        with pytest.raises(ObjectMissing):
            app.receipts(one)
    assert "Content-Location" not in app.head(part)


def test_termination_removes_an_upload(app: App) -> None:
    """The object of a complete one stays, the bytes of a partial one go."""
    address = created(app)
    app.patch(0, address, b"hello")
    assert app.delete(address).status == 204
    assert not app.store.objects
    with pytest.raises(NotFound):
        app.head(address)
    whole = created(app, 5)
    app.patch(0, whole, b"hello")
    (part,) = partials(app, b"part")
    app.delete(whole)
    app.delete(part)
    assert [one.data for one in app.store.objects.values()] == [b"hello"]


def test_a_final_upload_is_made_of_its_parts(app: App) -> None:
    """In their order; it takes no bytes, and `DELETE` removes only its state."""
    concat = FINAL + " ".join(partials(app, b"hello ", b"world"))
    answer = app.create({"Upload-Concat": concat, "Upload-Metadata": f"filename {NAME}"})
    address = answer.headers["Location"]
    (receipt,) = app.receipts(address)
    head = app.head(address)
    assert (head["Upload-Length"], head["Upload-Offset"], head["Upload-Concat"]) == ("11", "11", concat)
    assert head["Content-Location"] == answer.headers["Content-Location"] == f"/objects/{receipt['key']}"
    with pytest.raises(FinalUpload):
        app.patch(11, address, b"!")
    app.delete(address)
    with pytest.raises(NotFound):
        app.head(address)


def test_a_final_upload_needs_complete_parts(app: App) -> None:
    """All of them partial uploads that exist, and not too many bytes together."""
    whole, open_part = created(app, 5), created(app, 5, Upload_Concat="partial")
    app.patch(0, whole, b"hello")
    for address, error in ((whole, TusMalformed), (open_part, PartialUnfinished), ("/files/x", NotFound)):
        with pytest.raises(error):
            app.create({"Upload-Concat": FINAL + address})
    large = partials(app, bytes(6 * MIB), bytes(6 * MIB))
    with pytest.raises(FileTooLarge):
        app.create({"Upload-Concat": FINAL + " ".join(large)})


def test_options_names_the_methods_of_each_address(app: App) -> None:
    """And the supported version."""
    for rule, methods in files.ALLOW.items():
        answer = files.options(app.service, rule)
        assert (answer.status, answer.headers["Allow"], answer.headers["Tus-Version"]) == (204, methods, "1.0.0")


@pytest.mark.parametrize("view", sorted(files.VIEWS))
def test_every_answer_has_the_version(view: str) -> None:
    """Errors too; other routes have none."""
    request: Any = make_request()
    request.endpoint = f"files.{view}"
    assert files.headers(request) == TUS
    request.endpoint = "uploads.upload"
    assert files.headers(request) == {}


def test_a_post_may_name_another_method() -> None:
    """In any case, as other methods' clients send it; no other method than those of the address."""
    for text in ("PATCH", "patch", "HEAD", "DELETE"):
        assert files.overridden(make_request("POST", headers={"X-HTTP-Method-Override": text})) == text.upper()
    for headers in ({}, {"X-HTTP-Method-Override": "PUT"}):
        with pytest.raises(MethodNotAllowed, match="DELETE, HEAD, PATCH"):
            files.overridden(make_request("POST", headers=dict(headers)))
