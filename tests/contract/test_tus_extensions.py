"""tus 1.0.0: expiration, checksums and termination."""

import hashlib
import os
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from contract.api import check_problem
from contract.tus import GONE, OFFSET_TYPE, Tus, checksum, offset_of

MIB = 1024 * 1024
PART = 5 * MIB
#: A date of HTTP (RFC 9110, section 5.6.7).
HTTP_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}
each_digest = pytest.mark.parametrize("algorithm", DIGESTS)
each_size = pytest.mark.parametrize("size", [pytest.param(100, id="small"), pytest.param(2 * PART + 3, id="parts")])


# Expiration


def test_answers_have_the_time_of_expiration(tus: Tus) -> None:
    """The creation and each PATCH before the last have Upload-Expires, an HTTP date in the future."""
    created = tus.send("POST", headers={"Upload-Length": "3"})
    upload = tus.create(3)
    for answer in (created, upload.patch(0), upload.patch(0, b"ab")):
        expires = answer.headers["Upload-Expires"]
        assert HTTP_DATE.fullmatch(expires)
        assert parsedate_to_datetime(expires) > datetime.now(UTC)


# Checksums


def test_algorithms_have_lowercase_names(tus: Tus) -> None:
    """Tus-Checksum-Algorithm is a list of names without uppercase characters, with sha1."""
    names = tus.send("OPTIONS").headers["Tus-Checksum-Algorithm"].split(",")
    assert "sha1" in names
    assert all(name.isascii() and name == name.lower() and name.strip() == name for name in names)


@each_digest
@each_size
def test_a_right_checksum_is_accepted(tus: Tus, algorithm: str, size: int) -> None:
    """A chunk with its checksum is 204."""
    data = os.urandom(size)
    upload = tus.create(size)
    half = size // 2
    for start, chunk in ((0, data[:half]), (half, data[half:])):
        answer = upload.patch(start, chunk, checksum(algorithm, DIGESTS[algorithm](chunk)))
        assert (answer.status_code, offset_of(answer)) == (204, start + len(chunk))
    tus.check_stored(upload, data)


@each_digest
@each_size
@pytest.mark.every_other
def test_a_chunk_with_a_wrong_checksum_is_discarded(tus: Tus, algorithm: str, size: int) -> None:
    """A wrong checksum is 460 and leaves the offset, in the last chunk too; the right bytes are then accepted."""
    data = os.urandom(size)
    upload = tus.create(size + 10, content=b"0123456789")
    wrong = checksum(algorithm, DIGESTS[algorithm](b"other"))
    check_problem(upload.patch(10, data, wrong), 460, "checksum-mismatch")
    assert upload.offset == 10
    assert "Content-Location" not in upload.head().headers
    assert upload.patch(10, data, checksum(algorithm, DIGESTS[algorithm](data))).is_success
    tus.check_stored(upload, b"0123456789" + data)


@pytest.mark.parametrize("algorithm", ["md5", "SHA1", "sha-1", "sha512", "unknown"])
def test_an_unsupported_algorithm_is_refused(tus: Tus, algorithm: str) -> None:
    """Another algorithm is 400 and discards the chunk."""
    upload = tus.create(3)
    answer = upload.patch(0, b"abc", checksum(algorithm, hashlib.md5(b"abc", usedforsecurity=False).digest()))
    check_problem(answer, 400, "checksum-unsupported")
    assert upload.offset == 0


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("sha1", id="no digest"),
        pytest.param("sha1 ***", id="no base64"),
        pytest.param("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J", id="wrong padding"),
        pytest.param("sha1 YWJj", id="a digest of another length"),
        pytest.param("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0= more", id="a third word"),
        pytest.param("", id="empty"),
    ],
)
def test_a_malformed_checksum_is_refused(tus: Tus, value: str) -> None:
    """A header that is no algorithm and base64 is a refusal that discards the chunk."""
    upload = tus.create(3)
    answer = upload.patch(0, b"abc", {"Upload-Checksum": value})
    assert answer.status_code in {400, 460}
    assert upload.offset == 0


@pytest.mark.parametrize("sent", [pytest.param(10, id="small"), pytest.param(PART + 1, id="parts")])
def test_a_cut_chunk_with_a_checksum_is_discarded(tus: Tus, sent: int) -> None:
    """A checksum cannot be compared before the whole chunk has come, so a cut one leaves no bytes."""
    data = os.urandom(2 * PART)
    upload = tus.create(len(data))
    header = checksum("sha1", DIGESTS["sha1"](data))["Upload-Checksum"]
    with upload.begin(0, len(data), data[:sent], f"Upload-Checksum: {header}"):
        pass
    upload.wait_until_unlocked()
    assert upload.offset == 0
    assert upload.send_rest(data).is_success
    tus.check_stored(upload, data)


@each_digest
def test_a_creation_with_bytes_has_a_checksum(tus: Tus, algorithm: str) -> None:
    """The body of a creation is compared as a chunk is; a wrong one stores no object."""
    right = checksum(algorithm, DIGESTS[algorithm](b"abc"))
    tus.check_stored(tus.create(3, right, content=b"abc"), b"abc")
    before = tus.state()
    headers = {"Upload-Length": "3", "Content-Type": OFFSET_TYPE, **checksum(algorithm, DIGESTS[algorithm](b"x"))}
    check_problem(tus.send("POST", headers=headers, content=b"abc"), 460, "checksum-mismatch")
    assert tus.state() == before


# Termination


@pytest.mark.parametrize(
    ("length", "sent"),
    [
        pytest.param(3, 0, id="new"),
        pytest.param(3, 1, id="a byte"),
        pytest.param(3 * PART, 2 * PART + 1, id="parts and a byte"),
        pytest.param(3, 3, id="complete"),
        pytest.param(PART + 1, PART + 1, id="complete, in parts"),
        pytest.param(0, 0, id="complete, empty"),
    ],
)
def test_a_terminated_upload_leaves_nothing(tus: Tus, length: int, sent: int) -> None:
    """DELETE is 204; the store then has nothing of the upload but a stored file, and the address is gone."""
    before = tus.state()
    upload = tus.create(length, content=bytes(sent))
    assert tus.state() != before
    files = dict.fromkeys(tus.bucket.files(), length)
    assert len(files) == (sent == length)
    assert upload.terminate().status_code == 204
    assert tus.state() == (files, [])
    answers = [upload.head(), upload.patch(sent, b"a"), upload.terminate(), tus.app.send("GET", upload.url)]
    assert [answer.status_code in GONE for answer in answers] == [True] * 4
    assert "Upload-Offset" not in answers[0].headers


def test_termination_of_one_upload_leaves_another(tus: Tus) -> None:
    """Other uploads go on."""
    kept, ended = tus.create(3, content=b"a"), tus.create(3, content=b"a")
    ended.terminate()
    assert kept.send_rest(b"abc").is_success
    tus.check_stored(kept, b"abc")


def test_an_upload_that_is_terminated_while_it_runs_stores_nothing(tus: Tus) -> None:
    """A DELETE during a PATCH is a refusal or ends it; a terminated upload has no object."""
    upload = tus.create(3 * PART)
    before = tus.bucket.stored_keys()
    with upload.begin(0, 3 * PART, bytes(2 * PART)) as running:
        answer = upload.terminate()
        if answer.status_code == 204:
            running.close()
        else:
            check_problem(answer, 423, "locked")
    if answer.status_code != 204:
        upload.wait_until_unlocked()
        assert upload.terminate().status_code == 204
    assert upload.head().status_code in GONE
    assert tus.bucket.stored_keys() <= before
