"""A body that is no form is one file, as curl and Uppy send it."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from contract.api import CONTENT_TYPE, Api, check_problem, chunked, form, part
from contract.bucket import Bucket

from filehandoff.digest import to_content_digest

MIB = 1024 * 1024
PART = 5 * MIB


def declared(body: bytes) -> bytes:
    """A body as bytes; httpx declares its length."""
    return body


def digest(data: bytes) -> str:
    """The Content-Digest of a body."""
    return to_content_digest(hashlib.sha256(data).hexdigest())


def receipt_of(answer: httpx.Response) -> dict[str, Any]:
    """The only receipt of a 201."""
    assert answer.status_code == httpx.codes.CREATED, answer.text[:300]
    (receipt,) = answer.json()["receipts"]
    assert answer.headers["Location"] == f"/objects/{receipt['key']}"
    assert (receipt["handoff"], receipt["hook"]) == ("stream", "bound")
    return dict(receipt)


@pytest.mark.parametrize("framing", [pytest.param(declared, id="declared"), pytest.param(chunked, id="chunked")])
@pytest.mark.parametrize(
    "size",
    [pytest.param(0, id="empty"), pytest.param(1000, id="put"), pytest.param(PART + 1, id="parts")],
)
def test_put_stores_the_body_under_the_name_of_the_path(
    app: Api, bucket: Bucket, size: int, framing: Callable[[bytes], Any]
) -> None:
    """PUT stores a body of any size and framing under the path's name."""
    data = os.urandom(size)
    headers = {"Content-Type": "image/png"}
    receipt = receipt_of(app.send("PUT", "/uploads/a%20cat.png", content=framing(data), headers=headers))
    assert (receipt["filename"], receipt["content_type"]) == ("a cat.png", "image/png")
    bucket.check_receipt(receipt, data)


def test_put_stores_a_form_as_bytes(app: Api, bucket: Bucket) -> None:
    """PUT stores a form as plain bytes."""
    body = form(part("file", b"data", "name"))
    answer = app.send("PUT", "/uploads/form.bin", content=body, headers={"Content-Type": CONTENT_TYPE})
    bucket.check_receipt(receipt_of(answer), body)


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(
    ("headers", "filename", "content_type"),
    [
        pytest.param({}, "", "application/octet-stream", id="curl -T -"),
        pytest.param(
            {"Content-Type": "application/x-www-form-urlencoded"}, "", "application/octet-stream", id="--data-binary"
        ),
        pytest.param(
            {"Content-Type": "image/png", "Content-Disposition": 'attachment; filename="cat.png"'},
            "cat.png",
            "image/png",
            id="a name",
        ),
        pytest.param(
            {"Content-Disposition": "attachment; filename=\"x\"; filename*=UTF-8''%E2%82%AC.txt"},
            "€.txt",
            "application/octet-stream",
            id="an extended name",
        ),
    ],
)
def test_a_body_without_a_name_in_the_path_is_stored(
    app: Api, bucket: Bucket, method: str, headers: dict[str, str], filename: str, content_type: str
) -> None:
    """PUT and POST to /uploads store any body but a form, named by Content-Disposition."""
    receipt = receipt_of(app.send(method, "/uploads", content=b"the bytes", headers=headers))
    assert (receipt["filename"], receipt["content_type"]) == (filename, content_type)
    bucket.check_receipt(receipt, b"the bytes")


def test_a_form_to_uploads_is_parsed(app: Api, bucket: Bucket) -> None:
    """POST /uploads stores a form's files, not the form."""
    answer = app.upload(form(part("file", b"data", "name")), "/uploads")
    bucket.check_receipt(receipt_of(answer), b"data")


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(PART + 1, id="parts")])
def test_a_promise_is_kept_or_nothing_is_stored(app: Api, bucket: Bucket, header: str, size: int) -> None:
    """A body is stored only if it has the promised SHA-256 (RFC 9530)."""
    data = os.urandom(size)
    kept = app.send("PUT", "/uploads/a", content=data, headers={header: digest(data)})
    bucket.check_receipt(receipt_of(kept), data)
    broken = app.send("PUT", "/uploads/a", content=data, headers={header: digest(b"another")})
    check_problem(broken, 422, "digest-mismatch")


def test_a_post_without_body_and_type_misses_its_file(apps: list[Api]) -> None:
    """A POST without body and type gets the same error from every app."""
    for app in apps:
        check_problem(app.send("POST", "/uploads"), 400, "file-missing")


@pytest.mark.parametrize("framing", [pytest.param(declared, id="declared"), pytest.param(chunked, id="chunked")])
def test_a_body_over_the_limit_of_a_file_is_refused(app: Api, framing: Callable[[bytes], Any]) -> None:
    """A body above a file's limit is refused, declared or chunked."""
    answer = app.send("PUT", "/uploads/large", content=framing(bytes(33 * MIB)))
    check_problem(answer, 413, "file-too-large")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_compressed_body_is_refused(app: Api, method: str) -> None:
    """A body with a Content-Encoding is refused, like a compressed form."""
    answer = app.send(method, "/uploads", content=b"data", headers={"Content-Encoding": "gzip"})
    check_problem(answer, 415, "unsupported-media-type")
