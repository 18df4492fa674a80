"""tus 1.0.0: creation, creation with upload, and creation with a deferred length."""

import hashlib
import os
from typing import Any

import pytest
from contract.api import check_bytes, check_problem, chunked
from contract.tus import FILES, OFFSET_TYPE, Tus, metadata, offset_of

MIB = 1024 * 1024
PART = 5 * MIB
LIMIT = 32 * MIB


# Creation


def test_a_created_upload_has_an_address(tus: Tus) -> None:
    """The answer to a creation is 201, and its Location, absolute for clients that need it, is at offset 0."""
    answer = tus.send("POST", headers={"Upload-Length": "3"})
    assert answer.status_code == 201
    assert answer.headers["Location"].startswith(f"{tus.app.url}{FILES}/")
    assert offset_of(tus.send("HEAD", answer.headers["Location"])) == 0


def test_two_uploads_have_two_addresses(tus: Tus) -> None:
    """Bytes of one upload are not those of another."""
    first, second = tus.create(3), tus.create(3)
    assert first.url != second.url
    assert first.patch(0, b"abc").is_success
    assert second.patch(0, b"xyz").is_success
    tus.check_stored(first, b"abc")
    tus.check_stored(second, b"xyz")


def test_an_upload_of_an_empty_file_is_complete_at_once(tus: Tus) -> None:
    """An upload of length 0 stores an empty object without a PATCH."""
    answer = tus.send("POST", headers={"Upload-Length": "0", **metadata(filename="empty.txt")})
    assert answer.status_code == 201
    check_bytes(tus.app.send("GET", answer.headers["Content-Location"]), 200, b"")


def test_creation_ignores_the_type_of_no_body(tus: Tus) -> None:
    """A creation without a body may have any Content-Type, as one of aiohttp has."""
    assert tus.create(3, {"Content-Type": "application/octet-stream"}).offset == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="neither"),
        pytest.param({"Upload-Length": "3", "Upload-Defer-Length": "1"}, id="both"),
        *(
            pytest.param({"Upload-Length": value}, id=f"length '{value}'")
            for value in ("-1", "+1", "1.0", "1e3", "0x1", "abc", "1 2", "")
        ),
        *(
            pytest.param({"Upload-Defer-Length": value}, id=f"defer '{value}'")
            for value in ("0", "2", "true", "01", "-1", "")
        ),
    ],
)
def test_a_length_is_needed(tus: Tus, headers: dict[str, str]) -> None:
    """A creation needs either a length or 1 for a deferred one; another is 400 and creates nothing."""
    before = tus.state()
    check_problem(tus.send("POST", headers=headers), 400, "tus-header-malformed")
    assert tus.state() == before


@pytest.mark.parametrize("length", [LIMIT + 1, 10**30])
def test_a_length_over_the_limit_is_refused(tus: Tus, length: int) -> None:
    """A file above Tus-Max-Size is 413 and creates nothing."""
    before = tus.state()
    check_problem(tus.send("POST", headers={"Upload-Length": str(length)}), 413, "file-too-large")
    assert tus.state() == before


def test_a_length_at_the_limit_is_accepted(tus: Tus) -> None:
    """A file of Tus-Max-Size may be created."""
    assert tus.create(LIMIT).head().headers["Upload-Length"] == str(LIMIT)


# Metadata


@pytest.mark.parametrize(
    "value",
    [
        "filename d29ybGQucGRm",
        "filename d29ybGQucGRm,is_confidential",
        "is_confidential",
        "is_confidential ,filename d29ybGQucGRm",
        "a YQ==,b Yg==,c Yw==",
        "any-key.of_ASCII!/~ /+8=",
    ],
)
def test_head_returns_the_metadata_as_given(tus: Tus, value: str) -> None:
    """HEAD has Upload-Metadata character for character, before and after the completion."""
    upload = tus.create(1, {"Upload-Metadata": value})
    assert upload.head().headers["Upload-Metadata"] == value
    assert upload.patch(0, b"a").is_success
    assert upload.head().headers["Upload-Metadata"] == value


@pytest.mark.parametrize("headers", [{}, {"Upload-Metadata": ""}])
def test_metadata_may_be_absent(tus: Tus, headers: dict[str, str]) -> None:
    """Without metadata, or with the empty header of tuspy, HEAD has none."""
    upload = tus.create(1, headers, content=b"a")
    assert not upload.head().headers.get("Upload-Metadata")
    assert tus.check_stored(upload, b"a")["filename"] == ""


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("filename YQ", id="wrong padding"),
        pytest.param("filename Y Q==", id="a third word"),
        pytest.param("filename *", id="no base64"),
        pytest.param("filename _-8=", id="base64 for URLs"),
        pytest.param("a YQ==,a Yg==", id="a key twice"),
        pytest.param("a YQ==,,b Yg==", id="an empty pair"),
        pytest.param("a YQ==,", id="an empty last pair"),
        pytest.param(",", id="a comma"),
    ],
)
def test_malformed_metadata_is_refused(tus: Tus, value: str) -> None:
    """Metadata that is no list of unique keys with base64 is 400 and creates nothing."""
    before = tus.state()
    headers = {"Upload-Length": "1", "Upload-Metadata": value}
    check_problem(tus.send("POST", headers=headers), 400, "tus-header-malformed")
    assert tus.state() == before


@pytest.mark.parametrize(
    "names", [pytest.param(("filename", "filetype"), id="as tuspy"), pytest.param(("name", "type"), id="as Uppy")]
)
def test_the_receipt_has_name_and_type_of_the_metadata(tus: Tus, names: tuple[str, str]) -> None:
    """The file's name and its type come from the metadata, the name in UTF-8."""
    upload = tus.create(3, metadata(**dict(zip(names, ("Größe €.png", "image/png"), strict=True))), content=b"abc")
    receipt = tus.check_stored(upload, b"abc")
    assert (receipt["filename"], receipt["content_type"]) == ("Größe €.png", "image/png")


@pytest.mark.every_other
@pytest.mark.parametrize("name", ["filename", "filetype", "other"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"x\r\nX-Smuggled: 1\r\n", id="a line break"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"x" * 3000, id="long"),
        pytest.param(b"../../../etc/passwd", id="a path"),
    ],
)
def test_hostile_metadata_reaches_no_header(tus: Tus, name: str, value: bytes) -> None:
    """Any bytes are refused or stored; none becomes a header of an answer, or leaves the key's folder."""
    answer = tus.send("POST", headers={"Upload-Length": "1", **metadata(**{name: value})})
    if answer.status_code != 201:
        assert answer.is_client_error
        return
    completed = tus.send("PATCH", answer.headers["Location"], {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}, b"a")
    stored = tus.app.send("GET", completed.headers["Content-Location"])
    check_bytes(stored, 200, b"a")
    for one in (answer, completed, stored, tus.send("HEAD", answer.headers["Location"])):
        assert "X-Smuggled" not in one.headers
    assert ".." not in completed.headers["Content-Location"]


# A promised digest


@pytest.mark.parametrize("size", [pytest.param(3, id="small"), pytest.param(PART + 1, id="parts")])
def test_a_promised_digest_is_compared(tus: Tus, size: int) -> None:
    """A file is stored only if it has the SHA-256 of its metadata."""
    data = os.urandom(size)
    kept = tus.create(size, metadata(sha256=hashlib.sha256(data).hexdigest()), content=data)
    tus.check_stored(kept, data)
    before = tus.state()
    broken = tus.create(size, metadata(sha256=hashlib.sha256(b"another").hexdigest()))
    check_problem(broken.patch(0, data), 422, "digest-mismatch")
    assert "Content-Location" not in broken.head().headers
    broken.terminate()
    assert tus.state() == before


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "g" * 64, "0" * 65])
def test_a_malformed_digest_is_refused(tus: Tus, digest: str) -> None:
    """A promised digest that is no lowercase hexadecimal SHA-256 is 400 and creates nothing."""
    before = tus.state()
    answer = tus.send("POST", headers={"Upload-Length": "1", **metadata(sha256=digest)})
    check_problem(answer, 400, "digest-malformed")
    assert tus.state() == before


# Creation with upload


@pytest.mark.parametrize(
    ("length", "sent"),
    [(3, 3), (3, 1), (PART, PART), (PART + 1, PART), (PART + 1, PART + 1), (2 * PART, PART - 1), (13 * MIB, 12 * MIB)],
)
def test_a_creation_takes_the_first_bytes(tus: Tus, length: int, sent: int) -> None:
    """A POST with a body has the offset behind it; the rest comes by PATCH."""
    data = os.urandom(length)
    answer = tus.send("POST", headers={"Upload-Length": str(length), "Content-Type": OFFSET_TYPE}, content=data[:sent])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, str(sent))
    assert ("Content-Location" in answer.headers) == (sent == length)
    url = tus.address(answer)
    if sent < length:
        rest = tus.send("PATCH", url, {"Upload-Offset": str(sent), "Content-Type": OFFSET_TYPE}, data[sent:])
        assert offset_of(rest) == length
    place = tus.send("HEAD", url).headers["Content-Location"]
    check_bytes(tus.app.send("GET", place), 200, data)


def test_a_creation_takes_bytes_without_a_declared_length(tus: Tus) -> None:
    """A POST in chunked framing is stored."""
    data = os.urandom(PART + 1)
    tus.check_stored(tus.create(len(data), content=chunked(data)), data)


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain"])
def test_a_body_of_another_type_has_no_bytes_of_the_file(tus: Tus, content_type: str | None) -> None:
    """A POST with a body of another type is refused, or creates an upload at offset 0, as tusd does."""
    headers = {"Upload-Length": "3"} | ({} if content_type is None else {"Content-Type": content_type})
    answer = tus.send("POST", headers=headers, content=b"abc")
    if answer.status_code == 201:
        assert answer.headers.get("Upload-Offset", "0") == "0"
        assert offset_of(tus.send("HEAD", tus.address(answer))) == 0
    else:
        check_problem(answer, 415, "unsupported-media-type")


def test_a_creation_with_more_bytes_than_its_length_is_refused(tus: Tus) -> None:
    """A POST with a body beyond Upload-Length is refused and creates nothing."""
    before = tus.state()
    answer = tus.send("POST", headers={"Upload-Length": "3", "Content-Type": OFFSET_TYPE}, content=b"abcd")
    assert answer.is_client_error
    assert tus.state() == before


# Creation with a deferred length


def deferred(tus: Tus, **more: Any) -> Any:
    """Create an upload of an unknown length."""
    return tus.create(None, {"Upload-Defer-Length": "1"}, **more)


def test_head_of_a_deferred_length(tus: Tus) -> None:
    """HEAD has Upload-Defer-Length: 1 and no length until the length is known, then the reverse."""
    upload = deferred(tus)
    for _ in range(2):
        headers = upload.head().headers
        assert (headers["Upload-Defer-Length"], "Upload-Length" in headers) == ("1", False)
        assert upload.patch(upload.offset, b"ab").is_success
    assert upload.patch(4, b"e", {"Upload-Length": "6"}).is_success
    headers = upload.head().headers
    assert (headers["Upload-Length"], "Upload-Defer-Length" in headers) == ("6", False)
    assert upload.patch(5, b"f").is_success
    tus.check_stored(upload, b"ababef")


@pytest.mark.every_other
@pytest.mark.parametrize("size", [pytest.param(0, id="empty"), 3, PART, 2 * PART, pytest.param(2 * PART + 1, id="11")])
@pytest.mark.parametrize("at", ["first", "last", "after"])
def test_a_length_comes_with_any_patch(tus: Tus, size: int, at: str) -> None:
    """A deferred length may come with the first bytes, with the last ones, and after them without bytes."""
    data = os.urandom(size)
    length = {"Upload-Length": str(size)}
    upload = deferred(tus)
    half = size // 2
    assert upload.patch(0, data[:half], length if at == "first" else None).is_success
    assert upload.patch(half, data[half:], length if at == "last" else None).is_success
    if at == "after":
        assert "Content-Location" not in upload.head().headers
        assert "Content-Location" in upload.patch(size, headers=length).headers
    tus.check_stored(upload, data)


def test_a_creation_with_bytes_may_defer_the_length(tus: Tus) -> None:
    """A POST with a body and a deferred length keeps the bytes."""
    upload = deferred(tus, content=b"abc")
    assert upload.offset == 3
    assert upload.patch(3, b"de", {"Upload-Length": "5"}).is_success
    tus.check_stored(upload, b"abcde")


@pytest.mark.parametrize("deferred_first", [True, False])
def test_a_known_length_does_not_change(tus: Tus, deferred_first: bool) -> None:  # noqa: FBT001 - a case
    """Another Upload-Length in a PATCH is refused and changes nothing."""
    upload = deferred(tus) if deferred_first else tus.create(5)
    assert upload.patch(0, b"ab", {"Upload-Length": "5"} if deferred_first else None).is_success
    assert upload.patch(2, b"c", {"Upload-Length": "3"}).is_client_error
    assert upload.head().headers["Upload-Length"] == "5"
    assert upload.send_rest(b"abcde").is_success
    tus.check_stored(upload, b"abcde")


@pytest.mark.parametrize("length", ["-1", "abc", "", "1.0"])
def test_a_malformed_deferred_length_is_refused(tus: Tus, length: str) -> None:
    """An Upload-Length in a PATCH that is no integer is 400 and changes nothing."""
    upload = deferred(tus)
    check_problem(upload.patch(0, b"ab", {"Upload-Length": length}), 400, "tus-header-malformed")
    assert (upload.offset, upload.head().headers["Upload-Defer-Length"]) == (0, "1")


def test_a_deferred_length_below_the_offset_is_refused(tus: Tus) -> None:
    """A length that the bytes exceed already is refused and changes nothing."""
    upload = deferred(tus, content=b"abc")
    assert upload.patch(3, headers={"Upload-Length": "2"}).is_client_error
    assert (upload.offset, upload.head().headers["Upload-Defer-Length"]) == (3, "1")


def test_a_deferred_length_over_the_limit_is_refused(tus: Tus) -> None:
    """A length above Tus-Max-Size in a PATCH is 413 and changes nothing."""
    upload = deferred(tus, content=b"abc")
    check_problem(upload.patch(3, b"d", {"Upload-Length": str(LIMIT + 1)}), 413, "file-too-large")
    assert (upload.offset, upload.head().headers["Upload-Defer-Length"]) == (3, "1")


def test_bytes_over_the_limit_are_refused(tus: Tus) -> None:
    """An upload of unknown length cannot grow above Tus-Max-Size."""
    upload = deferred(tus)
    check_problem(upload.patch(0, bytes(LIMIT + 1)), 413, "file-too-large")
    assert upload.offset <= LIMIT
