"""Presigned uploads: the client's request, the URLs, the promise, and the check of the object."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.s3.test_options import VALID

import flask_app
import quart_app
from filehandoff.errors import (
    BodyTooLarge,
    DigestMalformed,
    DigestMismatch,
    FileTooLarge,
    FormError,
    FormMalformed,
    ObjectMissing,
    SettingsError,
    SizeMismatch,
    TypeMismatch,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.http import ObjectInfo
from filehandoff.parts import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, PAGE_PARTS, PartSizes
from filehandoff.presigned import (
    JSON,
    PresignedMultipart,
    PresignRequest,
    PresignRequestReader,
    Promise,
    ReadBackObject,
    Seal,
    expiry,
    is_aws,
    number,
    part_lengths,
    parts_answer,
    put_headers,
)
from filehandoff.receipt import REQUEST_ID_METADATA, Incoming
from filehandoff.s3 import options
from filehandoff.s3.calls import Flow
from filehandoff.settings import GIB, MIB, Limits, Settings
from filehandoff.web.request import EXTENSION

SHA256 = "9dcab7f911a30badbe34a46257ed1e2ab99bcfbaea49c1808a1f53ae35f8e01b"
KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
INCOMING = Incoming(KEY, "hello.txt", "text/plain", SHA256)
PROMISE = Promise(11, 1, SHA256, "bound", "a-request", "text/plain")
SEAL = Seal("a secret of sixteen and more")
OPEN = Seal(None)
LIMITS = Limits()
#: The largest object that S3 takes.
LARGEST = 48 * 1024 * GIB


def stored(seal: Seal) -> dict[str, str]:
    """Return the promised object's metadata, with the hook's request id."""
    return {**PROMISE.metadata(seal, INCOMING), REQUEST_ID_METADATA: PROMISE.request_id}


@given(st.binary(max_size=200), st.integers(1, 9))
def test_random_bytes_raise_a_form_error(body: bytes, size: int) -> None:
    """Random bytes, received in pieces of any size, raise FormError and no other error."""
    reader = PresignRequestReader(JSON, LIMITS)
    for start in range(0, len(body), size):
        reader.receive(body[start : start + size])
    with pytest.raises(FormError):
        reader.finish()


def test_a_request_is_parsed() -> None:
    """The reader parses four members, ignores others, and accepts 3.0 as a whole number."""
    reader = PresignRequestReader(JSON, LIMITS)
    members = {"filename": "a", "content_type": "image/png", "size": 3.0, "sha256": SHA256, "more": [1]}
    reader.receive(json.dumps(members).encode())
    assert reader.finish() == PresignRequest("a", "image/png", 3, SHA256)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        pytest.param({"filename": None}, FormMalformed, id="no name"),
        pytest.param({"size": "3"}, FormMalformed, id="a size as a string"),
        pytest.param({"size": -1}, FormMalformed, id="a negative size"),
        pytest.param({"size": 0.5}, FormMalformed, id="half a byte"),
        pytest.param({"size": True}, FormMalformed, id="a boolean"),
        pytest.param({"size": LIMITS.file_bytes + 1}, FileTooLarge, id="a byte too many"),
        pytest.param({"content_type": "text"}, FormMalformed, id="no media type"),
        pytest.param({"sha256": "0" * 63}, DigestMalformed, id="a short digest"),
        pytest.param({"more": "x" * LIMITS.field_bytes}, BodyTooLarge, id="a long body"),
    ],
)
def test_an_invalid_member_is_rejected(changed: dict[str, Any], error: type[UploadError]) -> None:
    """Each kind of invalid member raises its own error."""
    reader = PresignRequestReader(JSON, LIMITS)
    members = {"filename": "a", "size": 3, "sha256": SHA256} | changed
    with pytest.raises(error):
        read_whole(reader, json.dumps(members).encode())


def test_a_missing_member_is_named() -> None:
    """The error names JSON instead of a form, and each missing member."""
    with pytest.raises(FormMalformed, match="The JSON object lacks 'filename' and 'size'") as caught:
        read_whole(PresignRequestReader(JSON, LIMITS), json.dumps({"sha256": SHA256}).encode())
    assert caught.value.problem("id")["title"] == "The JSON could not be read"
    with pytest.raises(FormMalformed, match="'filename' must be a string"):
        read_whole(
            PresignRequestReader(JSON, LIMITS), json.dumps({"filename": 1, "size": 1, "sha256": SHA256}).encode()
        )


def read_whole(reader: PresignRequestReader, body: bytes) -> PresignRequest:
    """Parse a body that arrives in one piece."""
    reader.receive(body)
    return reader.finish()


def test_spaces_around_a_type_are_stripped() -> None:
    """S3 strips the spaces too, so an unstripped type would break the promise."""
    members = {"filename": "a", "content_type": " text/plain\t", "size": 3, "sha256": SHA256}
    assert read_whole(PresignRequestReader(JSON, LIMITS), json.dumps(members).encode()).content_type == "text/plain"


def test_a_digest_is_optional() -> None:
    """A page without a secure context cannot compute a digest."""
    assert read_whole(PresignRequestReader(JSON, LIMITS), b'{"filename": "a", "size": 3}').sha256 is None


def test_json_that_is_no_object_is_rejected() -> None:
    """The body must be an object, not a list."""
    with pytest.raises(FormMalformed):
        read_whole(PresignRequestReader(JSON, LIMITS), b"[]")


@pytest.mark.parametrize("mimetype", ["", "text/json", "multipart/form-data"])
def test_only_json_is_accepted(mimetype: str) -> None:
    """The type alone decides the rejection of a body that is not JSON."""
    with pytest.raises(UnsupportedMediaType):
        PresignRequestReader(mimetype, LIMITS)


def test_a_declared_length_over_the_limit_is_rejected_before_the_body_is_read() -> None:
    """The head of a request alone decides the rejection."""
    PresignRequestReader(JSON, LIMITS, LIMITS.field_bytes)
    with pytest.raises(BodyTooLarge):
        PresignRequestReader(JSON, LIMITS, LIMITS.field_bytes + 1)


@pytest.mark.parametrize("seal", [SEAL, OPEN], ids=["a secret", "no secret"])
def test_a_promise_survives_the_metadata(seal: Seal) -> None:
    """The object's metadata returns the same promise and the same file."""
    assert Promise.from_metadata(seal, KEY, "text/plain", stored(seal)) == (PROMISE, INCOMING)


FIELDS = f"1.{SHA256}.bound.text/plain.{SEAL.key_id}"


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        pytest.param(KEY + "x", {}, id="another key"),
        pytest.param(KEY, {"filename": "UTF-8''b"}, id="another name"),
        pytest.param(KEY, {REQUEST_ID_METADATA: "b"}, id="another request"),
        pytest.param(KEY, {"promise": f"3.12.{FIELDS}.mark"}, id="another size"),
        pytest.param(KEY, {"promise": f"3.11.{FIELDS}."}, id="no mark"),
    ],
)
def test_a_changed_promise_has_a_wrong_mark(key: str, changed: dict[str, str]) -> None:
    """The mark covers the key, the filename, the request id and the size."""
    with pytest.raises(DigestMismatch):
        Promise.from_metadata(SEAL, key, "text/plain", stored(SEAL) | changed)


@pytest.mark.parametrize(
    ("old", "new"), [("text/plain", "text/html"), (SHA256, ""), (SHA256, "0" * 64), ("bound", "copied")]
)
def test_a_client_cannot_change_a_promise(old: str, new: str) -> None:
    """The mark also covers type, hook and digest, even a dropped digest."""
    metadata = stored(SEAL)
    with pytest.raises(DigestMismatch):
        Promise.from_metadata(SEAL, KEY, "text/plain", metadata | {"promise": metadata["promise"].replace(old, new)})


@pytest.mark.parametrize(
    ("answered", "shown"),
    [
        pytest.param("text/plain;charset=UTF-8", "text/plain;charset=UTF-8", id="a parameter"),
        pytest.param("Text/Plain ; a=b", "Text/Plain ; a=b", id="other case and space"),
        pytest.param("", "text/plain", id="none"),
        pytest.param("application/octet-stream", "text/plain", id="the type of unknown bytes"),
        pytest.param("binary/octet-stream", "text/plain", id="S3's type of unknown bytes"),
    ],
)
def test_a_type_that_a_proxy_rewrote_is_the_promised_one(answered: str, shown: str) -> None:
    """Parameters, case, spaces and a lost type keep the promise; the receipt has S3's type."""
    read = read_back(content_type=answered)
    assert read.is_worth_reading(SEAL)
    file, _ = read.stored(SEAL)
    assert file.incoming.content_type == shown


def test_right_bytes_of_another_type_raise_an_error_of_their_own() -> None:
    """The error for another type removes no object; an error for other bytes precedes it."""
    assert read_back(content_type="text/html").is_worth_reading(SEAL)
    with pytest.raises(TypeMismatch, match="type text/html, but text/plain was promised"):
        read_back(content_type="text/html").stored(SEAL)
    assert not issubclass(TypeMismatch, DigestMismatch | SizeMismatch)
    with pytest.raises(DigestMismatch):
        read_back(content_type="text/html", sha256="0" * 64).stored(SEAL)


def test_without_a_digest_only_the_size_is_promised() -> None:
    """Any bytes of the promised size keep the promise, and the receipt has their digest."""
    promise = replace(PROMISE, sha256=None)
    incoming = replace(INCOMING, promised=None)
    metadata = {**promise.metadata(SEAL, incoming), REQUEST_ID_METADATA: PROMISE.request_id}
    file, kept = read_back(sha256="0" * 64, metadata=metadata).stored(SEAL)
    assert (kept, file.sha256, file.incoming) == (promise, "0" * 64, incoming)
    with pytest.raises(SizeMismatch):
        read_back(size=10, metadata=metadata).stored(SEAL)
    assert "x-amz-checksum-sha256" not in put_headers(incoming, metadata, {})


def test_the_metadata_fits_into_s3() -> None:
    """The longest name, type, digest and request id fit into S3's 2 KB."""
    kind = f"{'a' * 127}/{'b' * 127}"
    promise = Promise(10**15 - 1, 10_000, SHA256, "snapshot", "x" * 64, kind)
    metadata = promise.metadata(SEAL, Incoming(KEY, "é" * 900, kind)) | {REQUEST_ID_METADATA: promise.request_id}
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    assert Promise.from_metadata(SEAL, KEY, kind, metadata)[0] == promise


@pytest.mark.parametrize(
    "promise",
    [
        pytest.param(PROMISE.metadata(Seal("another secret"), INCOMING)["promise"], id="another secret"),
        pytest.param(PROMISE.metadata(OPEN, INCOMING)["promise"], id="no secret"),
        pytest.param(f"1.11.1.{SHA256}.bound.mark", id="another version"),
        pytest.param("", id="an empty promise"),
    ],
)
def test_a_promise_that_cannot_be_checked_is_not_broken(promise: str) -> None:
    """A promise of another secret or another version is no reason to remove the object."""
    with pytest.raises(ObjectMissing, match="another secret"):
        Promise.from_metadata(SEAL, KEY, "text/plain", stored(SEAL) | {"promise": promise})


def test_a_key_id_identifies_its_secret() -> None:
    """The id is short, depends only on the secret, and is empty without a secret."""
    assert SEAL.key_id == Seal("a secret of sixteen and more").key_id != Seal("another secret").key_id
    assert len(SEAL.key_id) == 8
    assert OPEN.key_id == ""


def read_back(seal: Seal = SEAL, size: int = 11, sha256: str = SHA256, **changed: Any) -> ReadBackObject:
    """Read back the promised object, or a changed one."""
    info = ObjectInfo(11, "text/plain", '"an-etag"', "attachment", metadata=stored(seal))
    return ReadBackObject(KEY, replace(info, **changed), size, sha256)


def test_the_promised_object_has_a_receipt() -> None:
    """The receipt has the bytes' size and digest, and the ETag without quotes."""
    assert read_back().is_worth_reading(SEAL)
    file, promise = read_back().stored(SEAL)
    assert (file.incoming, file.size, file.sha256, file.etag, file.parts) == (INCOMING, 11, SHA256, "an-etag", 1)
    assert promise == PROMISE


@pytest.mark.parametrize(
    ("read", "error", "worth_reading"),
    [
        pytest.param(read_back(length=12), SizeMismatch, False, id="another length"),
        pytest.param(read_back(size=10), SizeMismatch, True, id="fewer bytes than declared"),
        pytest.param(read_back(sha256="0" * 64), DigestMismatch, True, id="other bytes"),
    ],
)
def test_an_object_that_breaks_its_promise_is_an_error(
    read: ReadBackObject,
    error: type[UploadError],
    worth_reading: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """If the headers alone break the promise, the bytes are not worth reading."""
    assert read.is_worth_reading(SEAL) is worth_reading
    with pytest.raises(error):
        read.stored(SEAL)


def test_an_object_with_another_secrets_promise_is_not_read() -> None:
    """The error is not that of a broken promise, so the object is not removed."""
    for ask in (read_back(OPEN).is_worth_reading, read_back(OPEN).stored):
        with pytest.raises(ObjectMissing):
            ask(SEAL)


def test_an_object_without_a_promise_is_missing() -> None:
    """Another hand-off's object is neither completed nor removed."""
    with pytest.raises(ObjectMissing):
        Promise.from_metadata(SEAL, KEY, "text/plain", {"filename": "UTF-8''a"})


def test_without_a_secret_marks_are_empty() -> None:
    """Without a secret, any mark but the empty one is wrong."""
    assert OPEN.sign("a") == ""
    assert OPEN.holds("", "b")
    assert not OPEN.holds("mark", "b")


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_a_mark_fits_only_its_values(values: list[str], others: list[str]) -> None:
    """Different values have different marks, even if their concatenations are equal."""
    assert SEAL.holds(SEAL.sign(*values), *values)
    assert SEAL.holds(SEAL.sign(*values), *others) is (values == others)


@pytest.mark.parametrize("sha256", [SHA256, "0" * 64])
@pytest.mark.parametrize("size", [10, 11, 12])
def test_bytes_keep_the_promise_or_raise_an_error(size: int, sha256: str) -> None:
    """The check compares the size first, then the SHA-256."""
    if (size, sha256) == (PROMISE.size, PROMISE.sha256):
        PROMISE.check(size, sha256)
        return
    with pytest.raises(SizeMismatch if size != PROMISE.size else DigestMismatch):
        PROMISE.check(size, sha256)


@given(st.integers(0, 100 * GIB))
def test_the_parts_add_up_to_the_file(size: int) -> None:
    """Only an empty file has an empty part; all but the last are full."""
    sizes = PartSizes(8 * MIB, size)
    lengths = part_lengths(size, 8 * MIB)
    assert sum(length for _, length in lengths) == size
    assert [one for one, _ in lengths] == list(range(1, len(lengths) + 1))
    assert all(length for _, length in lengths) or lengths == [(1, 0)]
    assert [length for _, length in lengths[:-1]] == [room for room, _ in zip(sizes, lengths[:-1], strict=False)]


@given(st.integers(8 * MIB + 1, 5 * GIB))
def test_the_pages_have_each_part_once(size: int) -> None:
    """The `next` paths lead through all parts in order, in pages of at most `PAGE_PARTS`."""
    upload, after, listed = PresignedMultipart(KEY, "an id+/=&", size, 8 * MIB), 0, list[Any]()
    whole = part_lengths(size, 8 * MIB)
    while True:
        page = upload.page(after)
        assert 0 < len(page) <= PAGE_PARTS
        answer: Any = parts_answer(SEAL, upload, page, [f"u{one}" for one, _ in page], {})
        listed += [(part["number"], part["size"]) for part in answer["parts"]]
        if answer["next"] is None:
            break
        query = {name: values[0] for name, values in parse_qs(urlsplit(answer["next"]).query).items()}
        assert PresignedMultipart.from_query(SEAL, KEY, query, LIMITS) == upload
        after = number(query["after"], 0)
    assert listed == whole


def test_a_page_beyond_the_last_part_is_empty() -> None:
    """The page has no parts and no next page."""
    upload = PresignedMultipart(KEY, "id", 20 * MIB, 8 * MIB)
    page = upload.page(after=3)
    assert parts_answer(SEAL, upload, page, [], {})["parts"] == page == []
    assert parts_answer(SEAL, upload, page, [], {})["next"] is None


def test_a_part_that_s3_has_is_listed_with_its_etag() -> None:
    """A part of another size has no ETag; a part beyond the file is ignored."""
    upload = PresignedMultipart(KEY, "id", 12 * MIB, 5 * MIB)
    listed = [(1, 5 * MIB), (2, 7), (3, 2 * MIB), (4, 1)]
    etags = upload.etags({"PartNumber": one, "Size": size, "ETag": f"e{one}"} for one, size in listed)
    assert etags == {1: '"e1"', 3: '"e3"'}
    answer: Any = parts_answer(SEAL, upload, upload.page(0), ["a", "b", "c"], etags)
    assert [part["etag"] for part in answer["parts"]] == ['"e1"', None, '"e3"']
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer["abort"]).query).items()}
    assert (urlsplit(answer["abort"]).path, PresignedMultipart.from_query(SEAL, KEY, query, LIMITS)) == (
        f"/uploads/presigned/{KEY}",
        upload,
    )


@given(st.integers(0, LARGEST), st.integers(MIN_PART_BYTES, MAX_PART_BYTES))
def test_every_possible_upload_fits_into_the_parts_of_s3(size: int, part_bytes: int) -> None:
    """Any object size and part size of S3 give no more parts than S3's limit."""
    lengths = PresignedMultipart(KEY, "id", size, part_bytes).lengths
    assert sum(length for _, length in lengths) == size
    assert len(lengths) <= MAX_PARTS


def test_a_query_without_an_upload_id_names_a_single_put() -> None:
    """Without `upload_id`, there is no multipart upload."""
    assert PresignedMultipart.from_query(SEAL, KEY, {}, LIMITS) is None


@pytest.mark.parametrize("size", ["", "-1", "1e3", "²", "9" * 16, str(LIMITS.file_bytes + 1), None])
def test_an_upload_with_an_impossible_size_is_missing(size: str | None) -> None:
    """The size must be a number within the limit, even without a secret."""
    query = {"upload_id": "id", "part_bytes": str(8 * MIB)} | ({} if size is None else {"size": size})
    with pytest.raises(ObjectMissing):
        PresignedMultipart.from_query(OPEN, KEY, query, LIMITS)


@pytest.mark.parametrize("part_bytes", ["", "-1", str(MIN_PART_BYTES - 1), str(MAX_PART_BYTES + 1), None])
def test_an_upload_with_an_impossible_part_size_is_missing(part_bytes: str | None) -> None:
    """The part size must be within S3's limits, even without a secret."""
    query = {"upload_id": "id", "size": "10"} | ({} if part_bytes is None else {"part_bytes": part_bytes})
    with pytest.raises(ObjectMissing):
        PresignedMultipart.from_query(OPEN, KEY, query, LIMITS)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="none"),
        pytest.param([(1, 5)], id="the last one missing"),
        pytest.param([(2, 10)], id="the first one missing"),
        pytest.param([(1, 5), (3, 5)], id="one in the middle missing"),
        pytest.param([(1, 5), (2, 6)], id="one too long"),
    ],
)
def test_an_upload_needs_all_its_parts(parts: list[tuple[int, int]]) -> None:
    """The parts must be consecutive, and their sizes must add up to the file's."""
    PresignedMultipart(KEY, "id", 10, 5 * MIB).check([(1, 5), (2, 5)])
    with pytest.raises(SizeMismatch):
        PresignedMultipart(KEY, "id", 10, 5 * MIB).check(parts)


def test_the_expiry_of_a_url_is_in_utc() -> None:
    """The time has the format of RFC 3339, for a clock in any zone."""
    now = datetime(2026, 1, 31, 13, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1)))
    assert expiry(now, 900) == {"expires_at": "2026-01-31T12:15:00Z", "expires_in": 900}
    assert expiry(now.astimezone(UTC), 1)["expires_at"] == "2026-01-31T12:00:01Z"


def test_a_secret_is_never_shown() -> None:
    """Neither the settings nor the error about a short secret shows it."""
    assert "sixteen letters!" not in repr(Settings(promise_secret="sixteen letters!"))
    with pytest.raises(SettingsError, match="UPLOAD_PROMISE_SECRET is not shown; it must be at least 16") as caught:
        Settings.from_env({"UPLOAD_PROMISE_SECRET": "too short"})
    assert "too short" not in str(caught.value)


def by_flask(settings: Settings, body: dict[str, Any]) -> dict[str, Any]:
    """Return the Flask app's response."""
    app = flask_app.create_app(settings)
    given: dict[str, Any] = app.test_client().post("/uploads/presigned", json=body).get_json()
    app.extensions[EXTENSION].close()
    return given


def by_quart(settings: Settings, body: dict[str, Any]) -> dict[str, Any]:
    """Return the Quart app's response."""

    async def ask() -> dict[str, Any]:
        async with quart_app.create_app(settings).test_app() as app:
            answer = await app.test_client().post("/uploads/presigned", json=body)
            given: dict[str, Any] = await answer.get_json()
            return given

    return asyncio.run(ask())


@pytest.fixture(params=[pytest.param(by_flask, id="flask"), pytest.param(by_quart, id="quart")])
def presign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], dict[str, Any]]:
    """Return each app's response to a request for a small file's URL, without S3."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "none")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    body = {"filename": "a", "size": 1, "sha256": SHA256}
    return lambda settings: request.param(settings, body)


HERE = Settings(s3_endpoint_url="http://127.0.0.1:9")


def flask_pages(settings: Settings, path: str) -> list[dict[str, Any]]:
    """Return the Flask app's pages of URLs, from this one to the last."""
    app, pages = flask_app.create_app(settings), list[Any]()
    while path:
        pages.append(app.test_client().get(path).get_json())
        path = pages[-1]["next"]
    app.extensions[EXTENSION].close()
    return pages


def quart_pages(settings: Settings, path: str) -> list[dict[str, Any]]:
    """Return the Quart app's pages of URLs, from this one to the last."""

    async def ask(path: str) -> list[dict[str, Any]]:
        pages = list[Any]()
        async with quart_app.create_app(settings).test_app() as app:
            while path:
                pages.append(await (await app.test_client().get(path)).get_json())
                path = pages[-1]["next"]
        return pages

    return asyncio.run(ask(path))


def no_parts(*_: object) -> Flow[list[Any]]:
    """Return no part, as S3 does before the first."""
    yield from ()
    return []


@pytest.mark.parametrize("pages_of", [pytest.param(flask_pages, id="flask"), pytest.param(quart_pages, id="quart")])
def test_another_process_returns_the_same_parts_page_by_page(
    monkeypatch: pytest.MonkeyPatch, pages_of: Callable[[Settings, str], list[dict[str, Any]]]
) -> None:
    """With another part size of its own, a process returns the same 201 parts."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setattr("filehandoff.s3.flows.list_parts", no_parts)
    settings = replace(HERE, promise_secret="a secret of all processes", part_bytes=100 * MIB)
    upload = PresignedMultipart(KEY, "an id+/=&", 200 * 6 * MIB + 1, part_bytes=6 * MIB)
    query = upload.query(Seal(settings.promise_secret), after=0)
    pages = pages_of(settings, f"/uploads/presigned/{KEY}/parts?{query}")
    assert [len(page["parts"]) for page in pages] == [100, 100, 1]
    parts = [part for page in pages for part in page["parts"]]
    assert [(part["number"], part["size"]) for part in parts] == upload.lengths
    assert [number for part in parts for number in parse_qs(urlsplit(part["url"]).query)["partNumber"]] == [
        str(number) for number, _ in upload.lengths
    ]


def test_a_url_has_the_public_address_of_s3(presign: Callable[[Settings], dict[str, Any]]) -> None:
    """The URL is signed for the public endpoint and the configured time."""
    public = replace(HERE, s3_public_endpoint_url="https://files.example.com", presign_seconds=60.0)
    given, url = presign(public), urlsplit(presign(public)["url"])
    assert (url.scheme, url.netloc) == ("https", "files.example.com")
    assert "X-Amz-Expires=60&" in url.query
    assert given["expires_in"] == 60
    assert urlsplit(presign(HERE)["url"]).netloc == "127.0.0.1:9"


def test_a_url_signs_the_options_of_the_operator(presign: Callable[[Settings], dict[str, Any]]) -> None:
    """The response has each as a header, which the client must send."""
    given = presign(replace(HERE, s3_options=VALID))
    (signed,) = parse_qs(urlsplit(given["url"]).query)["X-Amz-SignedHeaders"]
    assert options.headers(VALID).items() <= given["headers"].items()
    assert set(options.headers(VALID)) <= set(signed.split(";"))


@pytest.mark.parametrize(
    ("bucket", "region", "address"),
    [
        ("my-bucket", "eu-central-1", "https://my-bucket.s3.eu-central-1.amazonaws.com/"),
        ("my.bucket", "eu-central-1", "https://s3.eu-central-1.amazonaws.com/my.bucket/"),
        ("my-bucket", "cn-north-1", "https://my-bucket.s3.cn-north-1.amazonaws.com.cn/"),
    ],
)
def test_a_url_for_aws_names_the_region_it_is_signed_for(
    presign: Callable[[Settings], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    region: str,
    address: str,
) -> None:
    """The global host redirects a new bucket's URLs to hosts without a valid signature."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    given = presign(Settings(bucket=bucket))
    assert given["url"].startswith(address)
    assert f"%2F{region}%2Fs3%2F" in given["url"]


def test_an_endpoint_of_the_aws_chain_is_not_aws(
    presign: Callable[[Settings], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is in the path, because the store may lack a host per bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9000")
    assert presign(Settings())["url"].startswith("http://localhost:9000/uploads/")
    assert not is_aws("https://amazonaws.com.example.org")


@pytest.mark.parametrize(
    ("secret", "token", "marked"),
    [
        pytest.param(None, None, True, id="credentials that last"),
        pytest.param(None, "a role's", False, id="credentials of a role"),
        pytest.param("a secret of one's own", "a role's", True, id="a secret of one's own"),
    ],
)
def test_a_promise_is_signed_with_a_secret_that_lasts(
    presign: Callable[[Settings], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    secret: str | None,
    token: str | None,
    marked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The configured secret precedes the lasting credentials'; a role's credentials give no mark."""
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    promise = presign(replace(HERE, promise_secret=secret))["headers"]["x-amz-meta-promise"]
    mark = promise.rpartition(".")[2]
    assert bool(mark) is marked
