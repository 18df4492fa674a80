"""The checks of S3's responses against the bytes sent."""

import re
from base64 import b64decode
from hashlib import md5
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.digest import crc32_header
from filehandoff.errors import StoreRejected
from filehandoff.verify import (
    Completed,
    bare_etag,
    check_crc32,
    check_etag,
    check_multipart_crc32,
    check_multipart_etag,
    check_size,
    quoted_etag,
    require,
)

PARTS = [md5(part, usedforsecurity=False).hexdigest() for part in (b"one", b"two", b"three")]
#: An ETag as S3 makes it.
ETAG = md5(bytes.fromhex("".join(PARTS)), usedforsecurity=False).hexdigest() + "-3"


@pytest.mark.parametrize("answered", [pytest.param(None, id="none"), pytest.param("y/Q5Jg==", id="the same")])
def test_a_checksum_that_is_right_or_missing_passes(answered: str | None) -> None:
    """A missing checksum passes, and a returned one must equal the bytes' own."""
    check_crc32("y/Q5Jg==", answered)


def test_another_checksum_is_another_file() -> None:
    """Another checksum means other bytes; the error has both."""
    with pytest.raises(StoreRejected, match=r"AAAAAA==, not y/Q5Jg=="):
        check_crc32("y/Q5Jg==", "AAAAAA==")


def test_the_etag_of_a_multipart_upload_is_made_of_its_parts() -> None:
    """A multipart upload's ETag is its parts' MD5s' MD5 and their number."""
    check_multipart_etag(ETAG, PARTS, None)
    check_multipart_etag(ETAG, PARTS, "AES256")


@pytest.mark.parametrize(
    ("etag", "parts"),
    [
        pytest.param(ETAG, PARTS[:2], id="a part more"),
        pytest.param(ETAG, [*PARTS, PARTS[0]], id="a part less"),
        pytest.param(ETAG, PARTS[::-1], id="another order"),
        pytest.param(ETAG.replace("-3", "-2"), PARTS, id="another number"),
        pytest.param("0" * 32 + "-3", PARTS, id="other parts"),
        pytest.param("g" + ETAG[1:], PARTS, id="damaged so that it is no MD5"),
        pytest.param("-3", PARTS, id="cut short"),
    ],
)
def test_an_object_of_other_parts_is_refused(etag: str, parts: list[str]) -> None:
    """An ETag of other parts is an error with both ETags."""
    with pytest.raises(StoreRejected, match=etag):
        check_multipart_etag(etag, parts, None)


@pytest.mark.parametrize(
    ("etag", "parts", "encryption"),
    [
        pytest.param("0" * 32, PARTS, None, id="the object's plain MD5, as rclone has it"),
        pytest.param("CJ3Ro+P8vY8DEAE=", PARTS, None, id="one that does not tell of parts"),
        pytest.param(ETAG[:-2] + "-3", ["an-etag", *PARTS[1:]], None, id="parts whose ETags are no MD5"),
        pytest.param("0" * 32 + "-3", PARTS, "aws:kms", id="encrypted by KMS"),
        pytest.param("0" * 32 + "-3", PARTS, "aws:kms:dsse", id="encrypted by KMS twice"),
    ],
)
def test_an_etag_that_is_no_md5_is_not_compared(etag: str, parts: list[str], encryption: str | None) -> None:
    """A store with ETags of another form passes."""
    check_multipart_etag(etag, parts, encryption)


#: The CRC-32s of three parts, and S3's CRC-32 of an object of them.
CHECKSUMS = [crc32_header(crc32(part)) for part in (b"one", b"two", b"three")]
CHECKSUM = crc32_header(crc32(b"".join(map(b64decode, CHECKSUMS)))) + "-3"


@pytest.mark.parametrize("answered", [None, CHECKSUM, CHECKSUMS[0]], ids=["none", "the parts'", "the whole's"])
def test_the_checksum_of_a_multipart_upload_is_made_of_its_parts(answered: str | None) -> None:
    """A multipart upload's CRC-32 is that of its parts' CRC-32s, and their number."""
    check_multipart_crc32(answered, CHECKSUMS)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(CHECKSUMS[:2], id="a part more"),
        pytest.param(CHECKSUMS[::-1], id="another order"),
        pytest.param([*CHECKSUMS[:2], CHECKSUMS[0]], id="another part"),
    ],
)
def test_a_checksum_of_other_parts_is_refused(parts: list[str]) -> None:
    """A checksum of other parts is an error with both checksums."""
    with pytest.raises(StoreRejected, match=re.escape(CHECKSUM)):
        check_multipart_crc32(CHECKSUM, parts)


def test_all_that_s3_says_of_a_completed_upload_is_compared() -> None:
    """The ETag and the checksum of a completed upload are compared with its parts."""
    answer = {"ETag": f'"{ETAG}"', "ChecksumCRC32": CHECKSUM}
    parts = [{"ETag": f'"{etag}"', "ChecksumCRC32": own} for etag, own in zip(PARTS, CHECKSUMS, strict=True)]
    completed = Completed.from_s3(answer)
    assert completed == Completed(ETAG, None, CHECKSUM)
    completed.check(parts)
    Completed.from_s3({"ETag": ETAG, "ServerSideEncryption": "aws:kms"}).check(parts[:1])
    for name, wrong in (("ETag", "0" * 32 + "-3"), ("ChecksumCRC32", "AAAAAA==-3")):
        with pytest.raises(StoreRejected, match=wrong):
            Completed.from_s3(answer | {name: wrong}).check(parts)


@pytest.mark.parametrize(("stored", "parts"), [(PARTS[0], 1), (ETAG, 3), (PARTS[0], 3)])
def test_an_object_has_the_etag_that_was_answered(stored: str, parts: int) -> None:
    """The later ETag equals the first one, except rclone's for several parts."""
    check_etag(PARTS[0] if parts == 1 else ETAG, stored, parts)


@pytest.mark.parametrize(("stored", "parts"), [(PARTS[1], 1), ("an-etag", 1), ("0" * 32 + "-3", 3)])
def test_another_etag_is_another_object(stored: str, parts: int) -> None:
    """Another ETag is an error with both ETags."""
    with pytest.raises(StoreRejected, match=f"{stored}, not {PARTS[0]}"):
        check_etag(PARTS[0], stored, parts)


@given(st.integers(0), st.integers(0))
def test_an_object_has_the_size_of_the_bytes_sent(sent: int, stored: int) -> None:
    """Another size is an error with both sizes."""
    if sent == stored:
        check_size(sent, stored)
    else:
        with pytest.raises(StoreRejected, match=f"{stored} bytes instead of {sent}"):
            check_size(sent, stored)


def test_a_success_without_its_members_is_an_error() -> None:
    """The error names a missing member; a present one is returned."""
    assert require({"ETag": "e"}, "ETag") == "e"
    with pytest.raises(StoreRejected, match="no ETag"):
        require({"ResponseMetadata": {}}, "ETag")


@pytest.mark.parametrize("etag", ['"a-3"', "a-3", 'W/"a-3"', "W/a-3", ' w/"a-3" '])
def test_an_etag_is_read_however_it_was_written(etag: str) -> None:
    """Missing quotes and the mark of a weak tag make no difference to the result."""
    assert (quoted_etag({"ETag": etag}), bare_etag({"ETag": etag})) == ('"a-3"', "a-3")
    assert Completed.from_s3({"ETag": etag}).etag == "a-3"


@pytest.mark.parametrize("answer", [{}, {"ETag": ""}, {"ETag": '""'}, {"ETag": 'W/""'}])
def test_an_answer_without_an_etag_is_an_error(answer: dict[str, str]) -> None:
    """An empty ETag is an error."""
    with pytest.raises(StoreRejected, match="ETag"):
        quoted_etag(answer)
