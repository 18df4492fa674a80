"""`presigned`: the client sends to S3, and the app verifies before it answers."""

import hashlib
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from contract.api import TLS, Api, check_problem
from contract.bucket import Bucket
from contract.store_differences import Behaviour

from filehandoff.form import DEFAULT_CONTENT_TYPE

DATA = b"what was promised"
SHA256 = hashlib.sha256(DATA).hexdigest()
WANTED: dict[str, Any] = {"filename": "a.txt", "content_type": "text/plain", "size": len(DATA), "sha256": SHA256}


def put(app: Api, given: dict[str, Any], data: bytes = DATA, **headers: str) -> httpx.Response:
    """PUT to a given URL, with some of its headers replaced."""
    return app.put_to_s3(given["url"], data, {**given["headers"], **headers})


def complete(app: Api, given: dict[str, Any]) -> httpx.Response:
    """Complete the upload."""
    return app.send("POST", given["complete"])


def two_parts(app: Api) -> tuple[bytes, dict[str, Any]]:
    """A file of two parts, and its URLs."""
    data = os.urandom(app.limits["part_bytes"] + 5)
    return data, app.presign(data).json()


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_small_file_is_sent_by_one_put(app: Api, bucket: Bucket, size: int) -> None:
    """One URL stores a file of at most one part.

    The receipt has the id of the request for the URL.
    """
    data = os.urandom(size)
    answer = app.presign(data, "ünïcode.bin", headers={"X-Request-Id": "the-first"})
    given = answer.json()
    assert given["method"] == "PUT"
    assert given["size"] == size
    assert answer.headers["Location"] == f"/objects/{given['key']}"
    put(app, given, data).raise_for_status()
    done = app.send("POST", given["complete"], headers={"X-Request-Id": "the-second"})
    (receipt,) = done.json()["receipts"]
    assert (done.status_code, done.headers["X-Request-Id"], receipt["request_id"]) == (201, "the-second", "the-first")
    assert (receipt["key"], receipt["filename"], receipt["parts"]) == (given["key"], "ünïcode.bin", 1)
    bucket.check_receipt(receipt, data)


@pytest.mark.parametrize("more", [0, 1], ids=["exactly one part", "one byte over a part"])
def test_more_than_a_part_is_sent_in_parts(app: Api, bucket: Bucket, more: int) -> None:
    """A file of one part gets one URL, one byte more gets two.

    Both are stored byte for byte.
    """
    data = os.urandom(app.limits["part_bytes"] + more)
    answer = app.upload_file(data, "presigned")
    (receipt,) = answer.json()["receipts"]
    assert receipt["parts"] == 1 + more
    bucket.check_receipt(receipt, data)


def test_the_urls_of_a_page_can_be_had_anew(app: Api, bucket: Bucket) -> None:
    """The URLs of any page can be requested again, because URLs expire before uploads."""
    data, given = two_parts(app)
    query = {name: value[0] for name, value in parse_qs(urlsplit(given["complete"]).query).items()}
    page = app.send("GET", f"/uploads/presigned/{given['key']}/parts", params={**query, "after": "1"}).json()
    assert [part["number"] for part in page["parts"]] == [2]
    assert page["next"] is None
    part_bytes = app.limits["part_bytes"]
    app.put_to_s3(given["parts"][0]["url"], data[:part_bytes]).raise_for_status()
    app.put_to_s3(page["parts"][0]["url"], data[part_bytes:]).raise_for_status()
    (receipt,) = complete(app, page).json()["receipts"]
    bucket.check_receipt(receipt, data)


def test_the_parts_that_s3_has_are_listed(app: Api) -> None:
    """After an interruption, the listed parts need not be sent again."""
    data, given = two_parts(app)
    part_bytes = app.limits["part_bytes"]
    assert [part["etag"] for part in given["parts"]] == [None, None]
    sent = app.put_to_s3(given["parts"][0]["url"], data[:part_bytes])
    parts = app.send("GET", given["complete"].replace("/complete?", "/parts?")).json()["parts"]
    assert [part["etag"] for part in parts] == [sent.headers["ETag"], None]
    app.put_to_s3(parts[1]["url"], data[part_bytes:]).raise_for_status()
    assert complete(app, given).status_code == 201


def test_an_upload_in_parts_can_be_aborted(app: Api, bucket: Bucket) -> None:
    """An aborted upload leaves nothing; its URLs are gone, and a second abort gets 404."""
    data, given = two_parts(app)
    app.put_to_s3(given["parts"][0]["url"], data[: app.limits["part_bytes"]]).raise_for_status()
    aborted = app.send("DELETE", given["abort"])
    assert (aborted.status_code, aborted.content) == (204, b"")
    assert bucket.unfinished() == []
    for method, name in (("DELETE", "abort"), ("POST", "complete")):
        check_problem(app.send(method, given[name]), 404, "object-missing")
    check_problem(app.send("GET", given["complete"].replace("/complete?", "/parts?")), 404, "object-missing")


def test_an_abort_leaves_a_completed_upload(app: Api, bucket: Bucket, behaviour: Behaviour) -> None:
    """Neither a completed upload in parts nor an upload of one put can be aborted.

    The objects stay.
    """
    data, given = two_parts(app)
    app.send_to_s3(given, data)
    (receipt,) = complete(app, given).json()["receipts"]
    if behaviour.keeps_completed_objects:
        check_problem(app.send("DELETE", given["abort"]), 404, "object-missing")
    bucket.check_receipt(receipt, data)
    small = app.presign(DATA).json()
    check_problem(app.send("DELETE", f"/uploads/presigned/{small['key']}"), 404, "object-missing")
    put(app, small).raise_for_status()
    assert complete(app, small).status_code == 201


def test_the_part_size_is_announced(app: Api) -> None:
    """The part size is announced before a client requests URLs."""
    announced = app.strategies["presigned"]
    _, given = two_parts(app)
    assert given["parts"][0]["size"] == announced["part_bytes"] == app.limits["part_bytes"]
    assert announced["expires_in"] == given["expires_in"]
    assert app.send("DELETE", given["abort"]).status_code == 204


def test_another_process_can_complete(apps: list[Api], app: Api, bucket: Bucket) -> None:
    """Each app can complete an upload that another app began."""
    data, given = two_parts(app)
    small = app.presign(DATA).json()
    app.send_to_s3(given, data)
    app.send_to_s3(small, DATA)
    for other in apps:
        for sent, wanted in ((given, data), (small, DATA)):
            (receipt,) = complete(other, sent).json()["receipts"]
            assert receipt["framework"] == other.framework
            bucket.check_receipt(receipt, wanted)


def test_a_url_is_bound_to_all_that_is_known(app: Api) -> None:
    """The signature (version 4) expires as set, and covers length, type, metadata, checksum and condition."""
    given = app.presign(DATA).json()
    query = {name: value[0] for name, value in parse_qs(urlsplit(given["url"]).query).items()}
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert int(query["X-Amz-Expires"]) == given["expires_in"] == 900
    signed = set(query["X-Amz-SignedHeaders"].split(";"))
    assert signed == {"host", "content-length", *(name.lower() for name in given["headers"])}
    assert {"content-type", "if-none-match", "x-amz-checksum-sha256", "x-amz-meta-promise"} <= signed
    assert {"x-amz-meta-filename", "x-amz-meta-request-id"} <= signed


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        pytest.param(DATA + b"!", {}, id="another length"),
        pytest.param(DATA, {"x-amz-meta-request-id": "another"}, id="another request's id"),
        pytest.param(DATA, {"x-amz-meta-filename": "UTF-8''b.txt"}, id="another name"),
    ],
)
def test_a_request_unlike_the_signed_one_is_no_upload(
    app: Api, behaviour: Behaviour, data: bytes, headers: dict[str, str]
) -> None:
    """S3 refuses a request that differs from the signed one.

    If a store accepts it, `complete` removes it.
    """
    given = app.presign(DATA).json()
    sent = put(app, given, data, **headers)
    if behaviour.binds_presigned_urls:
        assert sent.status_code == 403, sent.text
        check_problem(complete(app, given), 404, "object-missing")
    else:
        assert sent.status_code == 200, sent.text
        code = "size-mismatch" if data != DATA else "digest-mismatch"
        check_problem(complete(app, given), 422, code)
        check_problem(complete(app, given), 404, "object-missing")


def test_right_bytes_of_another_type_are_left(app: Api, bucket: Bucket, behaviour: Behaviour) -> None:
    """Another type is refused by the signature.

    If a store accepts it, `complete` gets 422 and leaves it.
    """
    given = app.presign(DATA).json()
    sent = put(app, given, DATA, **{"Content-Type": "text/html"})
    if behaviour.binds_presigned_urls:
        assert sent.status_code == 403, sent.text
        check_problem(complete(app, given), 404, "object-missing")
        return
    for _ in range(2):
        assert "text/html" in check_problem(complete(app, given), 422, "type-mismatch")["detail"]
    assert bucket.stored_keys() == {given["key"]}
    bucket.delete(given["key"])


def test_the_digest_may_be_left_out(app: Api, bucket: Bucket) -> None:
    """A client without SHA-256 promises only the size; the receipt has the digest."""
    for data in (DATA, os.urandom(app.limits["part_bytes"] + 1)):
        given = app.send("POST", "/uploads/presigned", json={"filename": "a", "size": len(data)}).json()
        assert "x-amz-checksum-sha256" not in given.get("headers", {})
        app.send_to_s3(given, data)
        (receipt,) = complete(app, given).json()["receipts"]
        bucket.check_receipt(receipt, data)


def test_a_size_alone_is_a_promise_too(app: Api, behaviour: Behaviour) -> None:
    """A promised size refuses a file of another length, with or without a digest."""
    given = app.send("POST", "/uploads/presigned", json={"filename": "a", "size": len(DATA)}).json()
    if put(app, given, DATA + b"!").is_success:
        assert not behaviour.binds_presigned_urls
        check_problem(complete(app, given), 422, "size-mismatch")
    check_problem(complete(app, given), 404, "object-missing")


@pytest.mark.parametrize("expires", ["0", "-1", "never", "Sun Nov  6 08:49:37 1994", "Sunday, 06-Nov-94 08:49:37 GMT"])
def test_an_expires_of_the_clients_breaks_nothing(app: Api, bucket: Bucket, expires: str) -> None:
    """An `Expires` header that S3 stores does not prevent complete, read and delete (boto/boto3#808)."""
    given = app.presign(DATA).json()
    put(app, given, Expires=expires).raise_for_status()
    (receipt,) = complete(app, given).json()["receipts"]
    assert app.send("HEAD", f"/objects/{given['key']}").status_code == 200
    assert app.send("GET", f"/objects/{given['key']}").content == DATA
    bucket.check_receipt(receipt, DATA)
    assert app.send("DELETE", f"/objects/{given['key']}").status_code == 204


def test_a_whole_forgery_is_no_upload(app: Api, behaviour: Behaviour) -> None:
    """Other bytes with a matching promise are refused, because no client can sign our metadata."""
    given = app.presign(DATA).json()
    forged = b"what was not promised"
    was = given["headers"]["x-amz-meta-promise"]
    promise = was.replace(SHA256, hashlib.sha256(forged).hexdigest()).replace(f".{len(DATA)}.", f".{len(forged)}.")
    assert was != promise
    assert put(app, given, forged, **{"x-amz-meta-promise": promise}).is_success is not behaviour.binds_presigned_urls
    code = 404 if behaviour.binds_presigned_urls else 422
    assert complete(app, given).status_code == code


def test_a_promise_of_another_secret_is_left(app: Api, bucket: Bucket, behaviour: Behaviour) -> None:
    """An object that another secret signed stays, for it may be another process's upload."""
    given = app.presign(DATA).json()
    *fields, _, mark = given["headers"]["x-amz-meta-promise"].split(".")
    sent = put(app, given, DATA, **{"x-amz-meta-promise": ".".join([*fields, "another0", mark])})
    assert sent.is_success is not behaviour.binds_presigned_urls
    check_problem(complete(app, given), 404, "object-missing")
    assert bucket.stored_keys() == (set() if behaviour.binds_presigned_urls else {given["key"]})
    bucket.delete(given["key"])


def test_other_bytes_are_found_by_reading_back(app: Api, behaviour: Behaviour) -> None:
    """Other bytes of the same length are refused by the store or by `complete`."""
    given = app.presign(DATA).json()
    sent = put(app, given, DATA.swapcase())
    if behaviour.checks_sha256:
        assert sent.status_code == 400, sent.text
        check_problem(complete(app, given), 404, "object-missing")
    else:
        assert sent.status_code == 200, sent.text
        problem = check_problem(complete(app, given), 422, "digest-mismatch")
        assert hashlib.sha256(DATA.swapcase()).hexdigest() in problem["detail"]
        check_problem(complete(app, given), 404, "object-missing")


def test_a_url_stores_once(app: Api, bucket: Bucket, behaviour: Behaviour) -> None:
    """A used URL replaces nothing, before and after `complete`, if the store supports If-None-Match."""
    given = app.presign(DATA).json()
    put(app, given).raise_for_status()
    again = 412 if behaviour.heeds_if_none_match else 200
    assert put(app, given).status_code == again
    (receipt,) = complete(app, given).json()["receipts"]
    assert put(app, given).status_code == again
    bucket.check_receipt(receipt, DATA)


def test_a_part_can_be_replaced_until_it_is_completed(app: Api, behaviour: Behaviour) -> None:
    """A part that is replaced before `complete`, if the store allows it, breaks the promise."""
    data, given = two_parts(app)
    app.send_to_s3(given, data)
    again = app.put_to_s3(given["parts"][1]["url"], data[:5])
    assert again.status_code == behaviour.answers_a_part_again, again.text
    if again.is_success:
        check_problem(complete(app, given), 422, "digest-mismatch")
    else:
        assert complete(app, given).status_code == 201


def test_a_part_cannot_be_replaced_afterwards(app: Api, bucket: Bucket, behaviour: Behaviour) -> None:
    """A part sent after `complete` changes nothing; in Swift it breaks the object."""
    data, given = two_parts(app)
    app.send_to_s3(given, data)
    (receipt,) = complete(app, given).json()["receipts"]
    late = app.put_to_s3(given["parts"][1]["url"], data[:5])
    assert late.status_code == behaviour.answers_a_part_after_completion, late.text
    if behaviour.keeps_completed_objects:
        bucket.check_receipt(receipt, data)
    else:
        assert complete(app, given).status_code == 503
    app.send("DELETE", f"/objects/{given['key']}")


def test_a_url_is_good_for_its_key_alone(app: Api, behaviour: Behaviour) -> None:
    """A URL stores only under its key.

    If a store allows another key, `complete` finds a wrong promise.
    """
    given, other = app.presign(DATA).json(), app.presign(DATA).json()
    url = given["url"].replace(given["key"].split("/")[-2], other["key"].split("/")[-2])
    sent = app.put_to_s3(url, DATA, given["headers"])
    assert sent.status_code == (403 if behaviour.binds_presigned_urls else 200)
    assert complete(app, other).status_code == (404 if behaviour.binds_presigned_urls else 422)


def test_a_missing_object_cannot_be_completed(app: Api) -> None:
    """`complete` before the file was sent gets 404 and changes nothing."""
    given = app.presign(DATA).json()
    check_problem(complete(app, given), 404, "object-missing")
    put(app, given).raise_for_status()
    assert complete(app, given).status_code == 201


def test_an_object_of_another_handoff_is_not_touched(app: Api, bucket: Bucket) -> None:
    """An object of another hand-off cannot be completed, and stays."""
    (receipt,) = app.upload_file(DATA, "stream").json()["receipts"]
    check_problem(app.send("POST", f"/uploads/presigned/{receipt['key']}/complete"), 404, "object-missing")
    bucket.check_receipt(receipt, DATA)


@pytest.mark.parametrize("sent", [[], [1], [2]], ids=["no part", "only the first", "only the last"])
def test_an_upload_with_a_part_missing_is_aborted(app: Api, sent: list[int]) -> None:
    """`complete` with a missing part gets 422 `size-mismatch` and removes the upload."""
    data, given = two_parts(app)
    part_bytes = app.limits["part_bytes"]
    for number in sent:
        part = data[:part_bytes] if number == 1 else data[part_bytes:]
        app.put_to_s3(given["parts"][number - 1]["url"], part).raise_for_status()
    check_problem(complete(app, given), 422, "size-mismatch")
    check_problem(complete(app, given), 404, "object-missing")


def test_a_part_is_bound_to_its_length(app: Api, behaviour: Behaviour) -> None:
    """A part of another length is refused by S3 or by `complete`; nothing is left."""
    data, given = two_parts(app)
    app.put_to_s3(given["parts"][0]["url"], data[: app.limits["part_bytes"]]).raise_for_status()
    sent = app.put_to_s3(given["parts"][1]["url"], b"more than five bytes")
    assert sent.status_code == (403 if behaviour.binds_presigned_urls else 200)
    check_problem(complete(app, given), 422, "size-mismatch")


def test_parts_of_other_bytes_are_removed(app: Api) -> None:
    """Parts with other bytes are found when the object is read back; nothing is left."""
    data, given = two_parts(app)
    app.send_to_s3(given, data[::-1])
    check_problem(complete(app, given), 422, "digest-mismatch")
    check_problem(complete(app, given), 404, "object-missing")


@pytest.mark.parametrize("name", ["upload_id", "size", "part_bytes", "signature"])
@pytest.mark.parametrize("value", ["", "9", "x" * 43])
def test_an_upload_is_known_by_our_mark(app: Api, name: str, value: str) -> None:
    """A request with another id, size or mark finds no upload."""
    _, given = two_parts(app)
    query = {key: value[0] for key, value in parse_qs(urlsplit(given["complete"]).query).items()} | {name: value}
    for method, path in (("GET", "/parts"), ("POST", "/complete"), ("DELETE", "")):
        answer = app.send(method, f"/uploads/presigned/{given['key']}{path}", params=query)
        check_problem(answer, 404, "object-missing")
    check_problem(complete(app, given), 422, "size-mismatch")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        pytest.param(b"", 400, "form-malformed", id="nothing"),
        pytest.param(b"{", 400, "form-malformed", id="half an object"),
        pytest.param(b"\xff", 400, "form-malformed", id="not UTF-8"),
        pytest.param(b"[" * 60_000, 400, "form-malformed", id="too deep"),
        pytest.param(b"[]", 400, "form-malformed", id="a list"),
        pytest.param(b" " * 65_537, 413, "body-too-large", id="too long"),
        pytest.param(WANTED | {"filename": None}, 400, "form-malformed", id="no name"),
        pytest.param(WANTED | {"size": "17"}, 400, "form-malformed", id="a size in words"),
        pytest.param(WANTED | {"size": -1}, 400, "form-malformed", id="less than nothing"),
        pytest.param(WANTED | {"size": 1.5}, 400, "form-malformed", id="half a byte"),
        pytest.param(WANTED | {"size": True}, 400, "form-malformed", id="a truth"),
        pytest.param(WANTED | {"size": 32 * 1024**2 + 1}, 413, "file-too-large", id="too large"),
        pytest.param(WANTED | {"content_type": "text"}, 400, "form-malformed", id="no media type"),
        pytest.param(
            WANTED | {"content_type": "text/plain\r\nX: y"}, 400, "form-malformed", id="a line end in the type"
        ),
        pytest.param(WANTED | {"sha256": None}, 400, "form-malformed", id="no promise"),
        pytest.param(WANTED | {"sha256": "0" * 63}, 400, "digest-malformed", id="a short promise"),
        pytest.param(WANTED | {"sha256": SHA256.upper()}, 400, "digest-malformed", id="upper case"),
    ],
)
def test_a_malformed_promise_is_refused(app: Api, content: Any, status: int, code: str) -> None:
    """A malformed request for URLs gets its error."""
    body = {"content": content} if isinstance(content, bytes) else {"json": content}
    answer = app.send("POST", "/uploads/presigned", headers={"Content-Type": "application/json"}, **body)
    check_problem(answer, status, code)


def test_a_url_is_asked_for_by_json(app: Api) -> None:
    """A form gets 415, an unknown hook 404; a missing type gets the default."""
    answer = app.send("POST", "/uploads/presigned", files={"file": ("a", b"a")})
    check_problem(answer, 415, "unsupported-media-type")
    check_problem(app.send("POST", "/uploads/presigned", json=WANTED, params={"hook": "none"}), 404, "unknown-hook")
    given = app.send("POST", "/uploads/presigned", json={**WANTED, "content_type": ""}).json()
    assert given["headers"]["Content-Type"] == DEFAULT_CONTENT_TYPE


@pytest.mark.parametrize("path", ["complete", "parts"])
def test_only_keys_of_ours_are_looked_for(app: Api, bucket: Bucket, path: str) -> None:
    """A key of another form is no upload, even with an object under it."""
    bucket.put("not/ours.txt", b"something")
    method = "POST" if path == "complete" else "GET"
    check_problem(app.send(method, f"/uploads/presigned/not/ours.txt/{path}"), 404, "object-missing")
    bucket.delete("not/ours.txt")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_the_app_may_send(app: Api, behaviour: Behaviour, host: str) -> None:
    """A page may send by a presigned URL: first a preflight, then the PUT.

    A store without rules for origins refuses the preflight, so that no page can send to it.
    """
    given, origin = app.presign(DATA).json(), app.url.replace("127.0.0.1", host)
    names = sorted(name.lower() for name in given["headers"])
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": ",".join(names)}
    preflight = httpx.options(given["url"], headers={"Origin": origin, **asked}, verify=TLS)
    if not behaviour.knows_origins:
        assert preflight.status_code == 403, preflight.text
        return
    assert preflight.status_code in {200, 204}, preflight.text
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed == {"*"} or set(names) <= allowed
    sent = put(app, given, Origin=origin)
    assert (sent.status_code, sent.headers["Access-Control-Allow-Origin"]) == (200, origin)
    assert "etag" in sent.headers["Access-Control-Expose-Headers"].lower()  # Uppy needs it
    assert complete(app, given).status_code == 201
    stranger = httpx.options(given["url"], headers={"Origin": "https://evil.example", **asked}, verify=TLS)
    assert stranger.status_code in {401, 403}
