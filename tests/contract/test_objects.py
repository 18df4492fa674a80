"""Objects by key: GET, HEAD, Range, conditions, DELETE, and keys that are not ours."""

import os
from email.utils import parsedate_to_datetime

import pytest
from contract.api import Api, check_bytes, check_problem, form, part
from contract.bucket import Bucket
from contract.store_differences import Behaviour

SIZE = 700_000


@pytest.fixture(scope="module")
def data() -> bytes:
    """The object's bytes."""
    return os.urandom(SIZE)


@pytest.fixture
def receipt(app: Api, data: bytes) -> dict[str, str]:
    """A stored object."""
    answer = app.upload(form(part("file", data, "Übung 1.bin", Content_Type="application/x-test")))
    return dict(answer.json()["receipts"][0])


def test_get_returns_the_bytes_with_their_headers(app: Api, receipt: dict[str, str], data: bytes) -> None:
    """GET returns the bytes as a download with length, type, ETag, date and nosniff."""
    answer = app.send("GET", f"/objects/{receipt['key']}")
    check_bytes(answer, 200, data)
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Content-Type"] == "application/x-test"
    assert answer.headers["ETag"] == f'"{receipt["etag"]}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert parsedate_to_datetime(answer.headers["Last-Modified"]).tzinfo is not None
    disposition = answer.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"_bung_1.bin\"; filename*=UTF-8''%C3%9Cbung%201.bin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_head_says_the_same_without_the_bytes(app: Api, receipt: dict[str, str]) -> None:
    """HEAD returns GET's headers without a body."""
    get = app.send("GET", f"/objects/{receipt['key']}")
    head = app.send("HEAD", f"/objects/{receipt['key']}")
    check_bytes(head, 200, b"")
    volatile = {"date", "x-request-id", "connection", "server"}
    assert {name: value for name, value in head.headers.items() if name not in volatile} == {
        name: value for name, value in get.headers.items() if name not in volatile
    }


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        pytest.param("bytes=0-0", 0, 0, id="the first byte"),
        pytest.param("bytes=10-19", 10, 19, id="ten bytes"),
        pytest.param("bytes=600000-", 600_000, SIZE - 1, id="from an offset"),
        pytest.param("bytes=-5", SIZE - 5, SIZE - 1, id="a suffix"),
        pytest.param(f"bytes=5-{SIZE * 2}", 5, SIZE - 1, id="beyond the end"),
        pytest.param("bytes=0-", 0, SIZE - 1, id="the whole"),
        pytest.param(f"bytes=-{SIZE}", 0, SIZE - 1, id="the whole as a suffix"),
    ],
)
def test_a_range_gives_that_part(
    app: Api, receipt: dict[str, str], data: bytes, header: str, first: int, last: int
) -> None:
    """A range gets 206 with exactly its bytes."""
    answer = app.send("GET", f"/objects/{receipt['key']}", headers={"Range": header})
    check_bytes(answer, 206, data[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", [f"-{SIZE * 2}", f"0-{10**18}", f"0-{10**19 - 1}"], ids=["suffix", "last", "vast"])
def test_a_range_longer_than_the_object_gives_the_whole(
    app: Api, receipt: dict[str, str], data: bytes, asked: str
) -> None:
    """A range longer than the object gets the whole object from any store."""
    answer = app.send("GET", f"/objects/{receipt['key']}", headers={"Range": f"bytes={asked}"})
    check_bytes(answer, 206, data)
    assert answer.headers["Content-Range"] == f"bytes 0-{SIZE - 1}/{SIZE}"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("bytes=0-1,5-6", id="several ranges"),
        pytest.param("bytes=9-3", id="backwards"),
        pytest.param("lines=1-2", id="another unit"),
        pytest.param("bytes=a-b", id="no numbers"),
        pytest.param("bytes=-", id="nothing"),
    ],
)
def test_a_range_we_do_not_serve_is_ignored(app: Api, receipt: dict[str, str], data: bytes, header: str) -> None:
    """An unsupported Range is ignored (RFC 9110, section 14.2): 200, the whole object."""
    answer = app.send("GET", f"/objects/{receipt['key']}", headers={"Range": header})
    check_bytes(answer, 200, data)
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("header", [pytest.param(f"bytes={SIZE}-", id="at the end"), pytest.param("bytes=-0", id="-0")])
def test_a_range_outside_the_object_is_an_error(app: Api, receipt: dict[str, str], header: str) -> None:
    """A range without a byte of the object gets 416 with the object's length."""
    answer = app.send("GET", f"/objects/{receipt['key']}", headers={"Range": header})
    check_problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


LONG_AGO, LONG_AFTER = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


def state_of(app: Api, receipt: dict[str, str]) -> dict[str, str]:
    """The object's state, by the names in the conditions below."""
    head = app.send("HEAD", f"/objects/{receipt['key']}").headers
    return {"its ETag": head["ETag"], "its weak ETag": f"W/{head['ETag']}", "its date": head["Last-Modified"]}


def under(app: Api, receipt: dict[str, str], conditions: dict[str, str]) -> dict[str, str]:
    """The conditions as headers about this object."""
    state = state_of(app, receipt)
    return {name: state.get(value, value) for name, value in conditions.items()}


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"If-None-Match": "its ETag"}, id="its ETag"),
        pytest.param({"If-None-Match": "its weak ETag"}, id="its ETag, weakly"),
        pytest.param({"If-None-Match": "*"}, id="any ETag"),
        pytest.param({"If-Modified-Since": "its date"}, id="its date"),
        pytest.param({"If-None-Match": "its ETag", "If-Modified-Since": LONG_AGO}, id="its ETag, not its date"),
        pytest.param({"If-None-Match": "its ETag", "Range": "bytes=0-9"}, id="its ETag and a range"),
        pytest.param({"If-None-Match": "its ETag", "Range": f"bytes={SIZE}-"}, id="its ETag and no such range"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_object_the_client_has_is_not_sent_again(
    app: Api, receipt: dict[str, str], method: str, conditions: dict[str, str]
) -> None:
    """A client that has the object gets 304 without a body (RFC 9110, 15.4.5)."""
    whole = app.send("HEAD", f"/objects/{receipt['key']}").headers
    answer = app.send(method, f"/objects/{receipt['key']}", headers=under(app, receipt, conditions))
    check_bytes(answer, 304, b"")
    for name in ("ETag", "Cache-Control"):
        assert answer.headers[name] == whole[name]
    assert "Content-Type" not in answer.headers
    assert answer.headers.get("Content-Length", whole["Content-Length"]) == whole["Content-Length"]


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"If-Match": '"other"'}, id="another ETag"),
        pytest.param({"If-Match": "its weak ETag"}, id="its ETag, which is not to be compared weakly"),
        pytest.param({"If-Match": '"other"', "If-Unmodified-Since": LONG_AFTER}, id="another ETag, its date"),
        pytest.param({"If-Match": '"other"', "If-None-Match": "its ETag"}, id="another ETag, and it has it"),
        pytest.param({"If-Match": '"other"', "Range": f"bytes={SIZE}-"}, id="another ETag, and no such range"),
        pytest.param({"If-Unmodified-Since": LONG_AGO}, id="a date before it"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_object_in_another_state_is_not_touched(
    app: Api, bucket: Bucket, receipt: dict[str, str], method: str, conditions: dict[str, str]
) -> None:
    """A failed precondition gets 412; nothing is sent or deleted."""
    answer = app.send(method, f"/objects/{receipt['key']}", headers=under(app, receipt, conditions))
    if method == "HEAD":
        check_bytes(answer, 412, b"")
    else:
        check_problem(answer, 412, "precondition-failed")
    assert receipt["key"] in bucket.stored_keys()


@pytest.mark.parametrize(
    "conditions",
    [
        pytest.param({"If-None-Match": '"other"'}, id="another is known"),
        pytest.param({"If-None-Match": '"other"', "If-Modified-Since": LONG_AFTER}, id="another, with any date"),
        pytest.param({"If-Modified-Since": LONG_AGO}, id="a date before it"),
        pytest.param({"If-Modified-Since": "nonsense"}, id="no date"),
        pytest.param({"If-Match": "its ETag", "If-Unmodified-Since": LONG_AGO}, id="this one, with any date"),
        pytest.param({"If-Match": "*"}, id="any is meant"),
        pytest.param({"If-Unmodified-Since": "its date"}, id="its date"),
        pytest.param({"If-Range": "its ETag"}, id="about no range"),
    ],
)
def test_a_condition_that_holds_changes_nothing(
    app: Api, receipt: dict[str, str], data: bytes, conditions: dict[str, str]
) -> None:
    """A condition that holds does not change the answer, whole or range, GET or HEAD."""
    path, headers = f"/objects/{receipt['key']}", under(app, receipt, conditions)
    check_bytes(app.send("GET", path, headers=headers), 200, data)
    check_bytes(app.send("HEAD", path, headers=headers), 200, b"")
    check_bytes(app.send("GET", path, headers=headers | {"Range": "bytes=5-9"}), 206, data[5:10])


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        pytest.param("its ETag", True, id="its ETag"),
        pytest.param("its date", True, id="its date"),
        pytest.param("its weak ETag", False, id="its ETag, weakly"),
        pytest.param('"other"', False, id="another ETag"),
        pytest.param(LONG_AGO, False, id="a date before it"),
        pytest.param(LONG_AFTER, False, id="a date after it"),
        pytest.param("nonsense", False, id="neither"),
    ],
)
def test_a_range_is_of_the_object_that_the_client_means(
    app: Api, receipt: dict[str, str], data: bytes, condition: str, *, applies: bool
) -> None:
    """If-Range gets the range of the named object, or the whole of a changed one."""
    path, headers = f"/objects/{receipt['key']}", under(app, receipt, {"If-Range": condition})
    answer = app.send("GET", path, headers=headers | {"Range": "bytes=5-9"})
    check_bytes(answer, 206 if applies else 200, data[5:10] if applies else data)
    answer = app.send("GET", path, headers=headers | {"Range": f"bytes={SIZE}-"})
    if applies:
        check_problem(answer, 416, "range-not-satisfiable")
    else:
        check_bytes(answer, 200, data)


def test_head_has_no_ranges(app: Api, receipt: dict[str, str]) -> None:
    """HEAD ignores Range (RFC 9110, section 14.2)."""
    answer = app.send("HEAD", f"/objects/{receipt['key']}", headers={"Range": "bytes=0-9"})
    check_bytes(answer, 200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_missing_object_ignores_conditions(app: Api, method: str) -> None:
    """A missing object gets 404 under any condition (RFC 9110, section 13.2.1)."""
    path = "/objects/some/prefix/2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
    for conditions in ({"If-None-Match": "*"}, {"If-Match": "*"}, {"If-Match": '"other"'}):
        assert app.send(method, path, headers=conditions).status_code == 404


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript"])
def test_an_uploaded_page_is_a_file(app: Api, content_type: str) -> None:
    """An uploaded page is a download of its type, without rights if shown."""
    uploaded = app.upload(form(part("file", b"<script>1</script>", "a.html", Content_Type=content_type)))
    answer = app.send("GET", f"/objects/{uploaded.json()['receipts'][0]['key']}")
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_delete_removes_the_object(app: Api, bucket: Bucket, receipt: dict[str, str]) -> None:
    """DELETE gets 204 without a body, and the object is gone."""
    path = f"/objects/{receipt['key']}"
    answer = app.send("DELETE", path)
    check_bytes(answer, 204, b"")
    assert receipt["key"] not in bucket.stored_keys()
    check_problem(app.send("GET", path), 404, "object-missing")
    check_problem(app.send("DELETE", path), 404, "object-missing")
    assert app.send("HEAD", path).status_code == 404


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("secret.txt", id="beside our prefix"),
        pytest.param("some/prefix/secret.txt", id="under our prefix, of another form"),
        pytest.param("some/prefix/2026/01/01/0190a8c0-0000-7000-8000-000000000000/..", id="dots for a name"),
    ],
)
def test_no_route_reaches_another_object_of_the_bucket(
    app: Api, bucket: Bucket, behaviour: Behaviour, key: str
) -> None:
    """An object that is not our upload is neither shown nor deleted.

    An impossible key is not looked up.
    """
    there = behaviour.takes_dots_in_keys or not key.endswith("..")
    if there:
        bucket.put(key, b"not yours")
    try:
        for method in ("GET", "DELETE"):
            # httpx would resolve the dots
            path = key.replace("..", "%2E%2E")
            check_problem(app.send(method, f"/objects/{path}"), 404, "object-missing")
        assert (key in bucket.stored_keys()) is there
    finally:
        if there:
            bucket.delete(key)


def test_health_and_readiness_answer(app: Api) -> None:
    """/healthz reports a live process, /readyz that S3 has the bucket."""
    assert app.send("GET", "/healthz").json() == {"status": "ok"}
    assert app.send("GET", "/readyz").json() == {"status": "ready"}
