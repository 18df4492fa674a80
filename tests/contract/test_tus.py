"""tus 1.0.0, the core protocol: versions, OPTIONS, HEAD and PATCH."""

import os
import random
import socket
import struct
from functools import partial

import pytest
from contract.api import RECEIPT_MEMBERS, check_bytes, check_problem, chunked
from contract.tus import FILES, GONE, OFFSET_TYPE, VERSION, Tus, Upload, offset_of
from patience import wait_until

MIB = 1024 * 1024
PART = 5 * MIB
EXTENSIONS = {
    *("creation", "creation-with-upload", "creation-defer-length", "expiration"),
    *("checksum", "termination", "concatenation"),
}
#: Values of a header of bytes that are no non-negative integer.
NO_INTEGERS = ["-1", "+1", "1.0", "1e3", "0x1", "abc", "1 2", "1,2", ""]


def check_same(upload: Upload, offset: int) -> None:
    """Assert that an upload is still at an offset, and accepts bytes."""
    assert upload.offset == offset
    assert offset_of(upload.patch(offset)) == offset


# Versions and OPTIONS


def test_options_describes_the_server(tus: Tus) -> None:
    """OPTIONS names the versions, the extensions, the limit and the algorithms."""
    answer = tus.send("OPTIONS", version=None)
    assert answer.status_code in {200, 204}
    assert answer.headers["Tus-Version"] == VERSION
    assert set(answer.headers["Tus-Extension"].split(",")) == EXTENSIONS
    assert int(answer.headers["Tus-Max-Size"]) == 32 * MIB
    assert set(answer.headers["Tus-Checksum-Algorithm"].split(",")) == {"sha1", "sha256", "crc32"}


@pytest.mark.parametrize("version", ["0.2.2", "2.0.0", "nonsense"])
def test_options_ignores_the_version(tus: Tus, version: str) -> None:
    """OPTIONS answers a client of any version."""
    answer = tus.send("OPTIONS", version=version)
    assert (answer.is_success, answer.headers["Tus-Version"]) == (True, VERSION)


def test_options_of_an_upload_describes_the_server(tus: Tus) -> None:
    """OPTIONS of an upload's address names the versions too."""
    answer = tus.send("OPTIONS", tus.create(1).url, version=None)
    assert (answer.is_success, answer.headers["Tus-Version"]) == (True, VERSION)


def test_every_answer_has_the_version(tus: Tus) -> None:
    """Successes and refusals have Tus-Resumable."""
    upload = tus.create(2)
    answers = [
        *(tus.send("POST", headers={"Upload-Length": "1"}), tus.send("POST"), tus.send("POST", version="0.0.1")),
        *(
            upload.head(),
            upload.patch(0, b"a"),
            upload.patch(0, b"a"),
            upload.patch(1, headers={"Content-Type": "x/y"}),
        ),
        *(tus.send(method, f"{FILES}/unknown") for method in ("HEAD", "PATCH", "DELETE")),
        *(upload.terminate(), upload.head()),
    ]
    assert [answer.headers.get("Tus-Resumable") for answer in answers] == [VERSION] * len(answers)


@pytest.mark.every_other
@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", "1.0.1", "2.0.0", ""])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD"])
def test_another_version_is_refused_and_does_nothing(tus: Tus, method: str, version: str | None) -> None:
    """A request of another version, or without one, is 412 and names ours."""
    upload = tus.create(3, content=b"a")
    before = tus.state()
    headers = {"Upload-Length": "3"} if method == "POST" else {"Upload-Offset": "1", "Content-Type": OFFSET_TYPE}
    content = b"bc" if method == "PATCH" else b""
    answer = tus.send(method, FILES if method == "POST" else upload.url, headers, content, version)
    assert (answer.status_code, answer.headers["Tus-Version"]) == (412, VERSION)
    assert "Upload-Offset" not in answer.headers
    if method != "HEAD":
        check_problem(answer, 412, "tus-version-unsupported")
    assert tus.state() == before
    assert upload.offset == 1


# HEAD


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_head_has_the_offset_and_the_length(tus: Tus, sent: int) -> None:
    """HEAD of a new, a partly sent and a complete upload has both, and is never cached."""
    answer = tus.create(3, content=b"abc"[:sent]).head()
    assert answer.status_code in {200, 204}
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == (str(sent), "3")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Upload-Defer-Length" not in answer.headers


@pytest.mark.parametrize(
    "name", ["unknown", "a" * 500, "%2e%2e", pytest.param("%00", id="NUL"), "a%2Fb", "%C3%BC", "0" * 32, "a.b", "~"]
)
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_unknown_upload_is_not_found(tus: Tus, method: str, name: str) -> None:
    """No address but a created one is an upload."""
    headers = {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
    answer = tus.send(method, f"{FILES}/{name}", headers)
    assert (answer.status_code, "Upload-Offset" in answer.headers) == (404, False)
    assert method == "HEAD" or check_problem(answer, 404, "not-found")


# PATCH


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "application/offset", "text/plain"])
def test_another_content_type_is_refused(tus: Tus, content_type: str) -> None:
    """A PATCH of another type is 415 and changes nothing."""
    upload = tus.create(3)
    check_problem(upload.patch(0, b"abc", {"Content-Type": content_type}), 415, "unsupported-media-type")
    check_same(upload, 0)


@pytest.mark.parametrize("offset", [0, 1, 3, 4, 10**6, 10**30])
def test_another_offset_is_a_conflict(tus: Tus, offset: int) -> None:
    """A PATCH at another offset is 409, and the bytes before it stay as they were."""
    upload = tus.create(4, content=b"ab")
    check_problem(upload.patch(offset, b"xx"), 409, "offset-conflict")
    check_same(upload, 2)
    assert upload.patch(2, b"cd").is_success
    tus.check_stored(upload, b"abcd")


@pytest.mark.parametrize("offset", NO_INTEGERS)
def test_a_malformed_offset_is_refused(tus: Tus, offset: str) -> None:
    """An Upload-Offset that is no non-negative integer is 400 and changes nothing."""
    upload = tus.create(3)
    check_problem(upload.patch(offset, b"abc"), 400, "tus-header-malformed")
    check_same(upload, 0)


def test_a_missing_offset_is_refused(tus: Tus) -> None:
    """A PATCH without Upload-Offset is 400 and changes nothing."""
    upload = tus.create(3)
    answer = tus.send("PATCH", upload.url, {"Content-Type": OFFSET_TYPE}, b"abc")
    check_problem(answer, 400, "tus-header-malformed")
    check_same(upload, 0)


def cuts(length: int, chunk: int) -> list[int]:
    """The ends of chunks of one size."""
    return [*range(chunk, length, chunk), length]


def random_cuts(length: int, seed: int) -> list[int]:
    """The ends of chunks of random sizes."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    return [*sorted(chance.randrange(length) for _ in range(12)), length]


@pytest.mark.every_other
@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(cuts(20, 1), id="one byte"),
        pytest.param(cuts(11 * MIB, 3 * MIB), id="below a part"),
        pytest.param(cuts(2 * PART, PART), id="a part"),
        pytest.param(cuts(PART, PART), id="one part"),
        pytest.param([PART, PART + 1], id="a part and a byte"),
        pytest.param([1, PART], id="a byte and the rest of a part"),
        pytest.param([1, PART + 1], id="a byte and a part"),
        pytest.param([PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART], id="around a part"),
        pytest.param(cuts(19 * MIB, 6 * MIB), id="over a part"),
        pytest.param(cuts(24 * MIB + 1, 12 * MIB), id="over two parts"),
        pytest.param(random_cuts(100, 1), id="random, small"),
        pytest.param(random_cuts(17 * MIB, 2), id="random"),
        pytest.param(random_cuts(17 * MIB, 3), id="random again"),
    ],
)
def test_chunks_of_any_size_become_one_object(tus: Tus, ends: list[int]) -> None:
    """Each PATCH is 204 with the sum of the offset and its bytes; the last one names the object of all bytes."""
    data = os.urandom(ends[-1])
    upload = tus.create(len(data))
    for start, end in zip([0, *ends], ends, strict=False):
        answer = upload.patch(start, data[start:end])
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(end)), answer.text[:300]
        assert ("Content-Location" in answer.headers) == (end == len(data))
        assert upload.offset == end
    receipt = tus.check_stored(upload, data)
    assert set(receipt) >= RECEIPT_MEMBERS
    check_bytes(tus.app.send("GET", answer.headers["Content-Location"]), 200, data)


@pytest.mark.parametrize("size", [pytest.param(1000, id="small"), pytest.param(2 * PART + 1, id="parts")])
def test_a_chunk_needs_no_declared_length(tus: Tus, size: int) -> None:
    """A PATCH in chunked framing is stored."""
    data = os.urandom(size)
    upload = tus.create(size)
    assert offset_of(upload.patch(0, chunked(data))) == size
    tus.check_stored(upload, data)


def test_a_patch_of_no_bytes_changes_nothing(tus: Tus) -> None:
    """A client that lost an answer may send the rest again, which is empty, to a complete upload too."""
    upload = tus.create(3)
    assert offset_of(upload.patch(0)) == 0
    assert offset_of(upload.patch(0, b"abc")) == offset_of(upload.patch(3)) == 3
    tus.check_stored(upload, b"abc")


def test_a_complete_upload_takes_no_more_bytes(tus: Tus) -> None:
    """Bytes for a complete upload are refused and leave its object as it is."""
    upload = tus.create(3, content=b"abc")
    check_problem(upload.patch(0, b"xyz"), 409, "offset-conflict")
    assert upload.patch(3, b"d").is_client_error
    tus.check_stored(upload, b"abc")


@pytest.mark.parametrize("size", [pytest.param(4, id="small"), pytest.param(PART + 4, id="parts")])
def test_more_bytes_than_the_length_are_refused(tus: Tus, size: int) -> None:
    """A declared body beyond Upload-Length is refused and changes nothing."""
    upload = tus.create(size - 1)
    assert upload.patch(0, bytes(size)).is_client_error
    check_same(upload, 0)


def test_an_undeclared_body_beyond_the_length_stores_no_longer_object(tus: Tus) -> None:
    """A body in chunked framing is refused where it passes Upload-Length."""
    data = os.urandom(1000)
    upload = tus.create(999)
    assert upload.patch(0, chunked(data)).is_client_error
    upload.wait_until_unlocked()
    if upload.offset < 999:
        assert upload.send_rest(data[:999]).is_success
    tus.check_stored(upload, data[:999])


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(1, id="one byte"),
        pytest.param(1000, id="below a part"),
        pytest.param(PART, id="a part"),
        pytest.param(2 * PART + 7, id="over two parts"),
    ],
)
def test_a_cut_patch_keeps_the_bytes_that_arrived(tus: Tus, sent: int) -> None:
    """After a connection that ends in a body, the upload goes on behind the last byte."""
    data = os.urandom(3 * PART)
    upload = tus.create(len(data), content=data[:10])
    with upload.begin(10, len(data) - 10, data[10 : 10 + sent]):
        pass
    upload.wait_for_offset(10 + sent)
    upload.wait_until_unlocked()
    assert upload.send_rest(data).status_code == 204
    tus.check_stored(upload, data)


def test_a_reset_connection_leaves_a_whole_upload(tus: Tus) -> None:
    """After a reset, the offset counts no byte that was not sent, and the upload goes on."""
    data = os.urandom(2 * PART)
    upload = tus.create(len(data))
    with upload.begin(0, len(data), data[: PART + 100]) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    upload.wait_until_unlocked()
    assert upload.offset <= PART + 100
    assert upload.send_rest(data).status_code == 204
    tus.check_stored(upload, data)


def test_a_second_patch_at_once_is_locked(tus: Tus) -> None:
    """While a PATCH runs, another is 423 and HEAD is not; both clients' bytes stay apart."""
    data = os.urandom(3 * PART)
    upload = tus.create(len(data))
    with upload.begin(0, len(data), data[: 2 * PART + 1]) as first:
        wait_until(tus.bucket.part_sizes, tus.state)
        offset = upload.offset
        check_problem(upload.patch(offset, b"other"), 423, "locked")
        assert upload.head().is_success
        first.sendall(data[2 * PART + 1 :])
        assert first.recv(100).startswith(b"HTTP/1.1 204")
    tus.check_stored(upload, data)


# X-HTTP-Method-Override


def test_another_method_may_stand_in_a_header(tus: Tus) -> None:
    """X-HTTP-Method-Override is the method: PATCH, HEAD and DELETE work for a client that has only POST."""
    upload = tus.create(3)
    override = partial(tus.send, "POST", upload.url)
    headers = {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE, "X-HTTP-Method-Override": "PATCH"}
    patched = override(headers, b"ab")
    assert (patched.status_code, patched.headers["Upload-Offset"]) == (204, "2")
    headed = override({"X-HTTP-Method-Override": "HEAD"})
    assert (headed.is_success, headed.headers["Upload-Offset"]) == (True, "2")
    assert override({"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert upload.head().status_code in GONE


# GET


def test_an_unfinished_upload_has_no_receipt(tus: Tus) -> None:
    """GET of an unfinished upload is a refusal, and its HEAD names no object."""
    upload = tus.create(3, content=b"a")
    assert tus.app.send("GET", upload.url).is_client_error
    assert "Content-Location" not in upload.head().headers
