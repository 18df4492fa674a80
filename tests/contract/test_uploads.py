"""Accepted forms: sizes, names, types, several files, promised digests, declared and chunked."""

import base64
import hashlib
import os
import re
from urllib.parse import unquote

import pytest
from contract.api import Api, check_problem, chunked, form, part
from contract.bucket import Bucket

from filehandoff.strategies import FORM_HANDOFFS, HANDOFFS

MIB = 1024**2
PART = 5 * MIB

SIZES = [
    pytest.param(0, id="empty"),
    pytest.param(1, id="one byte"),
    pytest.param(100, id="100 bytes"),
    pytest.param(500_000, id="the most that stays in memory"),
    pytest.param(500_001, id="one more"),
    pytest.param(PART, id="one part"),
    pytest.param(PART + 1, id="one byte over a part"),
    pytest.param(32 * MIB, id="32 MiB, the largest allowed"),
]
NAMES = [
    pytest.param("plain.txt", "plain.txt", id="plain"),
    pytest.param("with spaces and (brackets).txt", "with_spaces_and_brackets_.txt", id="spaces"),
    pytest.param("Übung — 日本語.pdf", "_bung_.pdf", id="unicode"),
    pytest.param("say %22hi%22.txt", "say_hi_.txt", id="quotes, as browsers send them"),
    pytest.param("../../etc/passwd", "passwd", id="climbing"),
    pytest.param("C:\\dir\\a.txt", "a.txt", id="a Windows path"),
    pytest.param("..", "file", id="dots alone"),
    pytest.param("", "file", id="empty"),
    pytest.param("x" * 296 + ".bin", "x" * 96 + ".bin", id="300 bytes"),
    pytest.param("é" * 900, "_", id="far too long for S3's metadata"),
]


@pytest.mark.every_other
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_every_size_is_stored_whole(app: Api, bucket: Bucket, handoff: str, size: int) -> None:
    """A file of any allowed size is stored byte for byte, in parts if needed."""
    data = os.urandom(size)
    (receipt,) = app.upload_file(data, handoff).json()["receipts"]
    assert receipt["parts"] == max(1, -(-size // PART))
    bucket.check_receipt(receipt, data)


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_an_empty_file_does_not_hold_up_the_next(app: Api, handoff: str) -> None:
    """After an empty file, the connection to S3 takes the next file without a timeout."""
    app.upload_file(b"", handoff)
    (receipt,) = app.upload_file(b"1", handoff).json()["receipts"]
    assert receipt["elapsed_ms"] < 180_000  # the suite's UPLOAD_S3_READ_TIMEOUT


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_a_body_without_a_declared_length_is_stored_whole(app: Api, bucket: Bucket, handoff: str) -> None:
    """A chunked body is stored like one with a Content-Length."""
    data = os.urandom(PART + 1)
    answer = app.upload(chunked(form(part("file", data, "name"))), f"/uploads/{handoff}")
    (receipt,) = answer.json()["receipts"]
    bucket.check_receipt(receipt, data)


@pytest.mark.parametrize("handoff", HANDOFFS)
def test_no_name_deceives(app: Api, bucket: Bucket, handoff: str) -> None:
    """Control characters and direction marks reach no receipt, key, metadata or download.

    An emoji's joiner does.
    """
    filename = "invoice\u202egpj\x1b[2J\x00\u2066\u2028👩\u200d🚀.exe"
    clean = "invoicegpj[2J👩\u200d🚀.exe"
    if handoff == "presigned":
        given = app.presign(b"data", filename).json()
        app.send_to_s3(given, b"data")
        answer = app.send("POST", given["complete"])
    else:
        answer = app.upload(form(part("file", b"data", filename)), f"/uploads/{handoff}")
    (receipt,) = answer.json()["receipts"]
    assert (receipt["filename"], receipt["key"].rpartition("/")[2]) == (clean, "invoicegpj_2J_.exe")
    bucket.check_receipt(receipt, b"data")
    disposition = app.send("HEAD", f"/objects/{receipt['key']}").headers["Content-Disposition"]
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == clean


@pytest.mark.parametrize(("filename", "safe"), NAMES)
def test_a_filename_never_steers_the_key(app: Api, filename: str, safe: str) -> None:
    """The key ends in a safe form of the name.

    The receipt has the name as sent.
    """
    (receipt,) = app.upload(form(part("file", b"data", filename))).json()["receipts"]
    key = re.fullmatch(r"some/prefix/\d{4}/\d\d/\d\d/[0-9a-f-]{36}/([A-Za-z0-9._-]{1,100})", receipt["key"])
    assert key is not None, receipt["key"]
    assert key[1].lstrip("_") in {safe.lstrip("_"), "file"}
    assert receipt["filename"].split("\\")[-1] == filename.replace("%22", '"').split("\\")[-1]
    assert app.send("GET", f"/objects/{receipt['key']}").content == b"data"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("image/png", "image/png", id="a plain type"),
        pytest.param("text/plain; charset=utf-8", "text/plain; charset=utf-8", id="with a parameter"),
        pytest.param("nonsense", "application/octet-stream", id="no type"),
        pytest.param("text/plän", "application/octet-stream", id="not ASCII"),
        pytest.param(None, "application/octet-stream", id="none"),
    ],
)
def test_the_content_type_is_kept_if_it_is_one(app: Api, sent: str | None, kept: str) -> None:
    """A part's media type is stored with the object; anything else becomes application/octet-stream."""
    headers = {"Content_Type": sent} if sent else {}
    (receipt,) = app.upload(form(part("file", b"data", "name", **headers))).json()["receipts"]
    assert receipt["content_type"] == kept
    assert app.send("GET", f"/objects/{receipt['key']}").headers["Content-Type"] == kept


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_an_old_client_is_understood(app: Api, bucket: Bucket, handoff: str) -> None:
    """A boundary outside the grammar, `filename*` alone and base64 give the intended file."""
    data = os.urandom(1000)
    disposition = b"form-data; name=filepond; filename*=utf-8''%E2%82%AC%20rates.txt"
    head = b"Content-Disposition: " + disposition + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    body = b"--=a/b&{c}=\r\n" + head + base64.encodebytes(data) + b"\r\n--=a/b&{c}=--"
    headers = {"Content-Type": "multipart/form-data; boundary==a/b&{c}="}
    (receipt,) = app.upload(body, f"/uploads/{handoff}", headers).json()["receipts"]
    assert receipt["filename"] == "€ rates.txt"
    bucket.check_receipt(receipt, data)


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_a_chunk_of_a_file_is_refused(app: Api, handoff: str) -> None:
    """A chunk of a file, declared by form, query or Content-Range, is refused.

    Nothing is stored.
    """
    file = part("file", b"data", "name")
    path = f"/uploads/{handoff}"
    before = form(part("dzchunkindex", b"0"), part("dztotalchunkcount", b"3"), file)
    behind = form(file, part("chunk", b"0"), part("chunks", b"3"))
    for answer in (
        app.upload(before, path),
        app.upload(behind, path),
        app.upload(form(file), path, flowChunkNumber="1", flowTotalChunks="2"),
        app.upload(form(file), path, {"Content-Range": "bytes 0-3/8"}),
    ):
        assert "presigned" in check_problem(answer, 400, "chunked-form")["detail"]
    assert app.upload(form(file), path, {"Content-Range": "bytes 0-3/4"}).status_code == 201


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_several_files_are_stored_in_order(app: Api, bucket: Bucket, handoff: str) -> None:
    """Each file in a field for files gets a receipt, in order.

    Other fields and files are ignored.
    """
    files = [os.urandom(size) for size in (10, PART + 1, 0, 600_000)]
    fields = ("file", "files[]", "file[1]", "file")
    parts = [part(field, data, f"{number}.bin") for number, (field, data) in enumerate(zip(fields, files, strict=True))]
    body = form(part("before", b"a field"), part("other", b"not stored", "other.bin"), *parts, part("after", b"x"))
    answer = app.upload(body, f"/uploads/{handoff}")
    receipts = answer.json()["receipts"]
    assert [receipt["filename"] for receipt in receipts] == ["0.bin", "1.bin", "2.bin", "3.bin"]
    assert answer.headers["Location"] == f"/objects/{receipts[0]['key']}"
    for receipt, data in zip(receipts, files, strict=True):
        bucket.check_receipt(receipt, data)


@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_with_several_files_a_copied_hook_closes_the_ones_to_come(app: Api, handoff: str) -> None:
    """The copied hook of the first file closes, and so loses, all files."""
    body = form(part("file", b"first", "1"), part("file", b"second", "2"))
    answer = app.upload(body, f"/uploads/{handoff}", hook="copied")
    if handoff == "stream":
        assert [receipt["size"] for receipt in answer.json()["receipts"]] == [5, 6]
    else:
        check_problem(answer, 500, "file-closed")


def digest_field(data: bytes) -> bytes:
    """The field that promises the next file's digest."""
    return part("sha256", hashlib.sha256(data).hexdigest().encode())


def digest_header(data: bytes) -> str:
    """The part header that promises the file's digest (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(PART + 1, id="multipart")])
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_a_kept_promise_is_stored(app: Api, bucket: Bucket, handoff: str, size: int) -> None:
    """A file that matches its promised digest, by field or header, is stored."""
    first, second = os.urandom(size), os.urandom(size)
    body = form(
        digest_field(first), part("file", first, "a"), part("file", second, "b", Content_Digest=digest_header(second))
    )
    receipts = app.upload(body, f"/uploads/{handoff}").json()["receipts"]
    bucket.check_receipt(receipts[0], first)
    bucket.check_receipt(receipts[1], second)


@pytest.mark.parametrize("size", [pytest.param(100, id="put"), pytest.param(PART + 1, id="multipart")])
@pytest.mark.parametrize("handoff", FORM_HANDOFFS)
def test_a_broken_promise_leaves_nothing(app: Api, handoff: str, size: int) -> None:
    """A file that breaks its promise is refused, with the form's earlier files."""
    data = os.urandom(size)
    body = form(
        part("file", b"small, stored at once", "a"),
        part("file", os.urandom(PART + 1), "b"),
        digest_field(data),
        part("file", data[:-1] + bytes([data[-1] ^ 1]), "c"),
        part("file", b"after it", "d"),
    )
    problem = check_problem(app.upload(body, f"/uploads/{handoff}"), 422, "digest-mismatch")
    assert hashlib.sha256(data).hexdigest() in problem["detail"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("a-Client.id_1", True, id="a safe one"),
        pytest.param("x" * 64, True, id="64 characters"),
        pytest.param("x" * 65, False, id="65 characters"),
        pytest.param("two words", False, id="a space"),
        pytest.param("", False, id="empty"),
        pytest.param(None, False, id="none"),
    ],
)
def test_a_safe_request_id_is_kept(app: Api, bucket: Bucket, sent: str | None, kept: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """A safe request id is on the answer, in the receipt and on the object.

    An unsafe one is replaced.
    """
    answer = app.upload(form(part("file", b"data", "name")), headers={"X-Request-Id": sent} if sent is not None else {})
    (receipt,) = answer.json()["receipts"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", receipt["request_id"])
    assert (receipt["request_id"] == sent) is kept
    assert answer.headers["X-Request-Id"] == receipt["request_id"] == bucket.request_id(receipt["key"])
