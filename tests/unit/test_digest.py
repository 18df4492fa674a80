"""Digests: the running sums, and the digests that a client promises."""

import base64
import hashlib
import runpy
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import filehandoff.digest
from filehandoff.digest import Digest, crc32_header, from_content_digest, from_hex, to_content_digest
from filehandoff.errors import DigestMalformed, DigestMismatch

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
IN_BASE64 = base64.b64encode(bytes.fromhex(EMPTY)).decode()


@given(st.lists(st.binary(max_size=20)))
def test_the_sums_of_the_chunks_are_those_of_the_whole(chunks: list[bytes]) -> None:
    """SHA-256 and size cover the whole file, each CRC-32 covers one call."""
    whole = b"".join(chunks)
    by_bytes, by_views, at_once = Digest(), Digest(), Digest()
    crc32s = [by_bytes.update([chunk]) for chunk in chunks]
    assert crc32s == [zlib.crc32(chunk) for chunk in chunks]
    assert crc32s == [by_views.update([memoryview(chunk)]) for chunk in chunks]
    assert at_once.update(chunks) == zlib.crc32(whole)
    for digest in (by_bytes, by_views, at_once):
        assert (digest.sha256, digest.size) == (hashlib.sha256(whole).hexdigest(), len(whole))


def test_without_zlib_ng_the_sums_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fast CRC-32, the standard library's is used."""
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    plain = runpy.run_path(filehandoff.digest.__file__)
    assert plain["crc32_of"] is zlib.crc32
    assert plain["Digest"]().update([b"some ", b"bytes"]) == Digest().update([b"some bytes"])


@pytest.mark.parametrize("promised", [pytest.param(None, id="none"), pytest.param(EMPTY, id="the right one")])
def test_a_kept_promise_passes(promised: str | None) -> None:
    """Without a promise, or with a kept one, nothing is raised."""
    Digest().check(promised)


def test_a_broken_promise_names_both_digests() -> None:
    """The error for a broken promise has both digests and says that nothing was stored."""
    digest = Digest()
    digest.update([b"abc"])
    with pytest.raises(DigestMismatch) as caught:
        digest.check(EMPTY)
    assert digest.sha256 in caught.value.detail
    assert EMPTY in caught.value.detail
    assert "3 bytes received" in caught.value.detail
    assert "Nothing was stored" in caught.value.detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(zlib.crc32(b"123456789"), "y/Q5Jg==", id="the check value of the CRC catalogue, 0xCBF43926"),
        pytest.param(0, "AAAAAA==", id="nothing"),
        pytest.param(0xFFFFFFFF, "/////w==", id="the largest"),
    ],
)
def test_a_crc_header_is_four_bytes_big_endian(value: int, expected: str) -> None:
    """A CRC-32 for S3 is four bytes, big endian, in base64."""
    assert crc32_header(value) == expected


@given(st.binary(min_size=32, max_size=32))
def test_a_content_digest_is_read_as_it_is_written(raw: bytes) -> None:
    """A SHA-256 survives the conversion to a header and back."""
    assert from_content_digest(to_content_digest(raw.hex())) == raw.hex()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(f"sha-256=:{IN_BASE64}:", EMPTY, id="alone"),
        pytest.param(f" sha-256=:{IN_BASE64}: ", EMPTY, id="white space around"),
        pytest.param(f"sha-512=:AAAA:,sha-256=:{IN_BASE64}:", EMPTY, id="after another algorithm"),
        pytest.param(f"sha-256=:{IN_BASE64}:, sha-512=:AAAA:", EMPTY, id="before another algorithm"),
        pytest.param(f"sha-256=:{IN_BASE64}:;a=1", EMPTY, id="with a parameter"),
        pytest.param(f"sha-256=:AAAA{'A' * 38}A=:,sha-256=:{IN_BASE64}:", EMPTY, id="twice: the last one counts"),
        pytest.param("sha-512=:AAAA:", None, id="only another algorithm"),
        pytest.param("md5=::", None, id="another algorithm without bytes"),
    ],
)
def test_the_sha256_of_a_content_digest_is_found(header: str, expected: str | None) -> None:
    """The member `sha-256` of a Content-Digest's dictionary is returned (RFC 9530)."""
    assert from_content_digest(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param(EMPTY, id="bare hex"),
        pytest.param(IN_BASE64, id="bare base64"),
        pytest.param(f"sha-256={IN_BASE64}", id="no colons"),
        pytest.param(f"sha-256=:{EMPTY}:", id="hex between the colons"),
        pytest.param(f"sha-256=:{IN_BASE64[:-4]}:", id="too short"),
        pytest.param(f"sha-256=:{IN_BASE64[:-1]}AAAA=:", id="too long"),
        pytest.param(f"sha-256=:{IN_BASE64[:-1]}:", id="no padding"),
        pytest.param(f"SHA-256=:{IN_BASE64}:", id="an upper case key"),
        pytest.param(f"sha-256=:{IN_BASE64}:,", id="a comma at the end"),
        pytest.param(f"sha-512=x, sha-256=:{IN_BASE64}:", id="another member is no byte sequence"),
        pytest.param(f"sha-256=:AAAA:, sha-256=:{IN_BASE64}:", id="twice, the first one broken"),
    ],
)
def test_a_broken_content_digest_is_refused(header: str) -> None:
    """A malformed Content-Digest is an error, never a missing promise."""
    with pytest.raises(DigestMalformed, match="RFC 9530"):
        from_content_digest(header)


@given(st.text() | st.text("sha-256=:,;/+ ABab01") | st.from_regex(r"sha-256=:[A-Za-z0-9+/]{40,44}={0,2}:"))
def test_any_header_is_a_digest_or_an_error(header: str) -> None:
    """Every header gives 64 hex digits, None or DigestMalformed."""
    try:
        found = from_content_digest(header)
    except DigestMalformed:
        return
    assert found is None or from_hex(found) == found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(EMPTY[:-1], id="one digit short"),
        pytest.param(EMPTY + "0", id="one digit long"),
        pytest.param(EMPTY.upper(), id="upper case"),
        pytest.param(EMPTY[:-1] + "g", id="no hex digit"),
        pytest.param(EMPTY + "\n", id="a line end behind it"),
        pytest.param(" " + EMPTY, id="a space before it"),
    ],
)
def test_a_field_must_hold_64_hex_digits(text: str) -> None:
    """A field `sha256` of another form is an error that describes the right form."""
    with pytest.raises(DigestMalformed, match="64 lowercase hex digits"):
        from_hex(text)
