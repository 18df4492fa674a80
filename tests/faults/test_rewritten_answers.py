"""A store or proxy that rewrites headers of answers causes no loss."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest
from contract.api import Api, form, part
from contract.bucket import Bucket
from faults.behind import Behind
from faults.proxy import Proxy
from faults.script import RewriteAnswerHeader

FRAMEWORKS = ("flask", "quart")
DATA = b"what was promised"
WANTED = {"filename": "a.txt", "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
#: A file of two parts, the second of one byte.
LARGE = os.urandom(5 * 1024**2 + 1)

#: Rewritten headers: the name, and a function of the value.
REWRITTEN = [
    pytest.param("etag", lambda etag: etag.strip('"'), id="an ETag without quotes"),  # boto/boto3#3701
    pytest.param("etag", lambda etag: f"W/{etag}", id="a weak ETag"),  # nginx, where it compresses
    pytest.param("content-type", lambda kind: f"{kind};charset=UTF-8", id="a charset"),
    pytest.param("content-type", lambda kind: kind.title(), id="a type in capitals"),
    pytest.param("content-type", lambda _: None, id="no type"),
    pytest.param("content-type", lambda _: "binary/octet-stream", id="the type of any bytes"),
    pytest.param("content-encoding", lambda _: "aws-chunked", id="S3's own coding"),
    pytest.param("last-modified", lambda _: None, id="no date"),
    pytest.param("last-modified", lambda _: "Sun Nov  6 08:49:37 1994", id="a date in asctime's form"),
    pytest.param("last-modified", lambda _: "784111777", id="a date in seconds"),
    pytest.param("last-modified", lambda _: "yesterday", id="a date that is none"),
    pytest.param("expires", lambda _: "0", id="an Expires of 0"),  # boto/boto3#808
    pytest.param("expires", lambda _: "Fri, 31 Dec 9999 23:59:59 -0500", id="an Expires beyond the calendar"),
]


@pytest.fixture(params=FRAMEWORKS)
def app(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Api]:
    """Each of the apps."""
    with closing(Api(behind.started.apps[request.param].url)) as api:
        yield api


def upload_all(app: Api) -> list[tuple[dict[str, object], bytes]]:
    """The receipts of uploads in one put, in parts, and by presigned URLs."""
    received = []
    for data in (DATA, LARGE):
        answer = app.upload(form(part("file", data, "a.txt", Content_Type="text/plain")), "/uploads/stream")
        received.append((answer, data))
    given = app.send("POST", "/uploads/presigned", json=WANTED | {"content_type": "text/plain"}).json()
    app.put_to_s3(given["url"], DATA, given["headers"]).raise_for_status()
    received.append((app.send("POST", given["complete"]), DATA))
    assert [answer.status_code for answer, _ in received] == [201, 201, 201], [answer.text for answer, _ in received]
    return [(answer.json()["receipts"][0], data) for answer, data in received]


def check_download(app: Api, receipt: dict[str, object], data: bytes) -> None:
    """Assert that the object downloads whole, and gets 304 under its receipt's ETag."""
    path, etag = f"/objects/{receipt['key']}", f'"{receipt["etag"]}"'
    for method in ("GET", "HEAD"):
        answer = app.send(method, path)
        assert (answer.status_code, answer.headers["ETag"]) == (200, etag)
        assert answer.content == (data if method == "GET" else b"")
    assert status(app, path, **{"If-None-Match": etag}) == httpx.codes.NOT_MODIFIED
    assert status(app, path, **{"If-Match": etag}) == httpx.codes.OK
    assert status(app, path, **{"If-Range": etag, "Range": "bytes=0-1"}) == httpx.codes.PARTIAL_CONTENT
    assert status(app, path, **{"If-Modified-Since": "Sun, 06 Nov 1994 08:49:36 GMT"}) == httpx.codes.OK


def status(app: Api, path: str, **headers: str) -> int:
    """The status of a GET."""
    return app.send("GET", path, headers=headers).status_code


@pytest.mark.every_other
@pytest.mark.parametrize(("name", "value"), REWRITTEN)
def test_a_rewritten_header_loses_nothing(
    app: Api, proxy: Proxy, bucket: Bucket, name: str, value: Callable[[str], str | None]
) -> None:
    """Every upload is stored, completed and read back with each form of the header."""
    for operation in ("put_object", "upload_part", "head_object", "get_object"):
        proxy.on(operation, RewriteAnswerHeader(name, value), every=True)
    received = upload_all(app)
    for receipt, data in received:
        check_download(app, receipt, data)
    bucket.check_and_empty({str(receipt["key"]) for receipt, _ in received})


def test_another_type_removes_nothing(app: Api, proxy: Proxy, bucket: Bucket) -> None:
    """A rewritten type prevents a presigned receipt but removes nothing; without the proxy it completes."""
    given = app.send("POST", "/uploads/presigned", json=WANTED | {"content_type": "text/xml"}).json()
    app.put_to_s3(given["url"], DATA, given["headers"]).raise_for_status()
    proxy.on("get_object", RewriteAnswerHeader("content-type", lambda _: "application/xml"), every=True)
    assert app.send("POST", given["complete"]).json()["code"] == "type-mismatch"
    proxy.clear()
    assert app.send("POST", given["complete"]).status_code == httpx.codes.CREATED
    bucket.check_and_empty({given["key"]})
