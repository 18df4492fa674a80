"""Object keys and filenames: a client's filename cannot choose the place of its object."""

import hashlib
import re
import time
from datetime import UTC, datetime
from unicodedata import category
from urllib.parse import unquote
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.keys import (
    clean_name,
    common_prefix,
    content_disposition,
    decode_name,
    encode_name,
    is_anyones_key,
    is_key,
    new_key,
    prefix_of,
    safe_name,
    user_segment,
    uuid7,
)
from filehandoff.presigned import Promise, Seal
from filehandoff.receipt import Incoming

SAFE = re.compile(r"[A-Za-z0-9._-]{1,100}")
UUID7 = "0198c5a0-1234-7abc-8def-0123456789ab"
KEY = f"2026/01/31/{UUID7}/a.txt"

#: Unicode's Bidi_Control, and the deprecated format controls.
DIRECTION = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x2070))}
#: Characters with a meaning for a file system, a URL or a terminal.
STEERING = ["/", "\\", "..", ".", "//", "\x00", "\r\n", "%2e%2e%2f", "?", "#", "~", " ", "é", "a", "_", "-", "\u202e"]
filenames = st.text(max_size=40) | st.lists(st.sampled_from(STEERING), max_size=300).map("".join)
prefixes = st.sampled_from(["", "uploads/", "a/b/", "a-"])


def test_a_uuid7_is_that_of_the_rfc() -> None:
    """Time and entropy of RFC 9562's example (appendix A.6) give its UUID."""
    made = uuid7(0x017F22E279B0, bytes.fromhex("0cc318c4dc0c0c07398f"))
    assert made == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@given(st.integers(0, (1 << 50) - 1), st.binary(min_size=10, max_size=12))
def test_a_uuid7_keeps_its_time_version_and_variant(milliseconds: int, entropy: bytes) -> None:
    """A UUID has the 48 bits of time, the version, the variant and the entropy."""
    made = uuid7(milliseconds, entropy)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == milliseconds % (1 << 48)
    random = int.from_bytes(entropy[:10], "big")
    assert made.int >> 64 & 0xFFF == random >> 64 & 0xFFF
    assert made.int & (1 << 62) - 1 == random & (1 << 62) - 1


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        pytest.param("a.txt", "a.txt", id="a plain name"),
        pytest.param("", "file", id="no name"),
        pytest.param("..", "file", id="two dots"),
        pytest.param("../../etc/passwd", "passwd", id="up and away"),
        pytest.param("C:\\dir\\a.txt", "a.txt", id="a Windows path"),
        pytest.param("dir/", "file", id="a folder"),
        pytest.param("a\x00.txt", "a_.txt", id="a NUL"),
        pytest.param("Übung 1.pdf", "_bung_1.pdf", id="a word and a space"),
        pytest.param("漢字", "file", id="nothing safe in it"),
        pytest.param("漢字.png", "_.png", id="nothing safe but the extension"),
        pytest.param(".bashrc", ".bashrc", id="a hidden file"),
        pytest.param("x" * 97 + ".txt", "x" * 96 + ".txt", id="one byte too long: the extension stays"),
        pytest.param("_" * 300, "file", id="300 underscores"),
    ],
)
def test_a_safe_name_keeps_the_safe_characters(filename: str, expected: str) -> None:
    """The safe characters of a filename's last segment are kept, the end before the beginning."""
    assert safe_name(filename) == expected


@given(filenames)
def test_a_safe_name_is_safe(filename: str) -> None:
    """A safe name has 1 to 100 safe characters, and is its own safe name."""
    name = safe_name(filename)
    assert SAFE.fullmatch(name)
    assert name.strip("._")
    assert safe_name(name) == name


@given(prefixes, filenames)
def test_no_filename_leaves_the_prefix(prefix: str, filename: str) -> None:
    """A new key is prefix, day, UUID and safe name, for any filename."""
    before = time.time_ns() // 1_000_000
    key = new_key(prefix, filename)
    after = time.time_ns() // 1_000_000
    assert key.startswith(prefix)
    year, month, day, unique, name = key.removeprefix(prefix).split("/")
    milliseconds = UUID(unique).int >> 80
    assert before <= milliseconds <= after
    assert f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y %m %d}" == f"{year} {month} {day}"
    assert name == safe_name(filename)
    assert is_key(prefix, key)


def test_a_key_is_new_each_time() -> None:
    """A thousand keys for one filename are a thousand keys."""
    assert len({new_key("", "a.txt") for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("a.txt", id="a name alone"),
        pytest.param(KEY + "/b", id="a segment more"),
        pytest.param("/" + KEY, id="a slash before it"),
        pytest.param(KEY + "\n", id="a line end behind it"),
        pytest.param(f"2026/01/31/{UUID7}/", id="no name"),
        pytest.param(f"2026/01/31/{UUID7}/..", id="dots alone"),
        pytest.param(f"2026/01/31/{UUID7}/_._", id="dots and underscores alone"),
        pytest.param(f"2026/01/31/{UUID7}/a b", id="a space in the name"),
        pytest.param(f"2026/01/31/{UUID7}/{'x' * 101}", id="a name of 101 bytes"),
        pytest.param(f"2026/01/31/{UUID7.upper()}/a", id="an upper case UUID"),
        pytest.param(f"2026/01/31/{UUID7.replace('-7', '-4', 1)}/a", id="a random UUID"),
        pytest.param(f"2026/01/31/{UUID7.replace('-8', '-c', 1)}/a", id="another variant"),
        pytest.param(f"2026/1/31/{UUID7}/a", id="a month of one digit"),
        pytest.param(f"\u0662\u0660\u0662\u0666/01/31/{UUID7}/a", id="digits of another script"),
        pytest.param(f"2026/01/31/../{UUID7}/a", id="a way up"),
    ],
)
def test_another_form_of_key_is_refused(key: str) -> None:
    """`is_key` accepts only the form of `new_key`."""
    assert is_key("", KEY)
    assert not is_key("", key)


@given(st.text("Ab9._-", min_size=1, max_size=4) | st.text("Ab9._-", min_size=99, max_size=102))
def test_a_key_ends_in_a_safe_name(name: str) -> None:
    """A key is accepted exactly if its name is a result of `safe_name`."""
    assert is_key("", f"2026/01/31/{UUID7}/{name}") == (safe_name(name) == name)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        pytest.param("uploads/", KEY, id="no prefix"),
        pytest.param("uploads/", "other/" + KEY, id="another prefix"),
        pytest.param("", "uploads/" + KEY, id="a prefix where there is none"),
        pytest.param("a.b/", "axb/" + KEY, id="a dot is a dot"),
    ],
)
def test_another_prefix_is_refused(prefix: str, key: str) -> None:
    """A key elsewhere in the bucket is rejected."""
    assert is_key(prefix, prefix + KEY)
    assert not is_key(prefix, key)


@given(st.text(min_size=1, max_size=126))
def test_a_short_name_survives_the_metadata(filename: str) -> None:
    """A name of 126 characters, of 12 bytes each when encoded, fits unchanged."""
    assert decode_name(encode_name(filename)) == clean_name(filename)


@given(st.text(st.characters(codec=None), max_size=50))
def test_a_clean_name_has_no_character_that_deceives(filename: str) -> None:
    """Deceptive characters are removed, and all others stay in order."""
    kept = [c for c in filename if category(c) not in {"Cc", "Cs", "Zl", "Zp"} and c not in DIRECTION]
    assert clean_name(filename) == "".join(kept)


@pytest.mark.parametrize(
    ("filename", "clean"),
    [
        pytest.param("invoice\u202egpj.exe", "invoicegpj.exe", id="a right-to-left override"),
        pytest.param("\u2067a\u2066b\u2069\u061c\u200e\u200f", "ab", id="isolates and marks"),
        pytest.param("a\x00\x1b[2J\r\n\x7f\x9b\u2028b", "a[2Jb", id="controls"),
        pytest.param("a\ud800b\udfff", "ab", id="lone surrogates"),
        pytest.param("می\u200cخواهم.txt", "می\u200cخواهم.txt", id="Persian needs a non-joiner"),  # noqa: RUF001 - Persian
        pytest.param("👩\u200d🚀.png", "👩\u200d🚀.png", id="an emoji needs a joiner"),
        pytest.param("חשבון.pdf", "חשבון.pdf", id="Hebrew needs no mark"),
        pytest.param("\u202e", "", id="nothing else"),
    ],
)
def test_a_name_is_cleaned(filename: str, clean: str) -> None:
    """A name keeps all visible characters, and those that its script needs."""
    assert clean_name(filename) == clean


@given(st.text(max_size=2000) | st.text(st.characters(min_codepoint=0x10000), min_size=120, max_size=300))
def test_an_encoded_name_fits_the_metadata(filename: str) -> None:
    """An encoded name has at most 1,408 bytes, cut only where necessary."""
    encoded = encode_name(filename)
    assert re.fullmatch(r"UTF-8''(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*", encoded)
    assert len(encoded) <= 1408
    kept = unquote(encoded.removeprefix("UTF-8''"), errors="strict")
    assert filename.startswith(kept)
    if kept != filename:
        longer = encode_name(filename[len(kept)]).removeprefix("UTF-8''")
        assert len(encoded) + len(longer) > 1408


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        pytest.param("a" * 1401, "a" * 1401, id="1,408 bytes once encoded"),
        pytest.param("a" * 1402, "a" * 1401, id="one byte more"),
        pytest.param("a" * 1395 + "é", "a" * 1395 + "é", id="1,408 bytes with a character of six"),
        pytest.param("a" * 1396 + "é", "a" * 1396, id="a character that would be cut in two"),
    ],
)
def test_a_long_name_is_cut_at_a_whole_character(filename: str, kept: str) -> None:
    """A character that would exceed 1,408 bytes is omitted completely."""
    assert decode_name(encode_name(filename)) == kept


def test_a_lone_surrogate_is_replaced() -> None:
    """A character that UTF-8 cannot encode is stored as a question mark."""
    assert encode_name("a\ud800b") == "UTF-8''a%3Fb"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("UTF-8''a%20b", "a b", id="ours"),
        pytest.param("utf-8''%C3%A9", "é", id="the charset in lower case"),
        pytest.param("", None, id="none"),
        pytest.param("UTF-8''", None, id="empty"),
        pytest.param("a.txt", None, id="a plain name"),
        pytest.param("ISO-8859-1''%E9", None, id="another charset"),
        pytest.param("UTF-8'en'a", None, id="a language"),
        pytest.param("UTF-8''a%E2%80%AEb%00%0Ac", "abc", id="another writer's, which deceives"),
    ],
)
def test_only_our_own_names_are_decoded(value: str, expected: str | None) -> None:
    """Metadata that is no extended value in UTF-8 without a language holds no filename."""
    assert decode_name(value) == expected


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        pytest.param(None, 'attachment; filename="a.txt"', id="no name"),
        pytest.param("", 'attachment; filename="a.txt"', id="an empty name"),
        pytest.param("é.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A9.txt", id="a name"),
        pytest.param("../a/é", "attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A9", id="a path"),
        pytest.param("C:\\a\\b", "attachment; filename=\"a.txt\"; filename*=UTF-8''b", id="a Windows path"),
        pytest.param("a/", 'attachment; filename="a.txt"', id="a folder"),
        pytest.param("a/..", 'attachment; filename="a.txt"', id="dots for a name"),
    ],
)
def test_a_download_is_an_attachment(filename: str | None, expected: str) -> None:
    """A download has the key's plain name and the known original name (RFC 6266)."""
    assert content_disposition(filename, KEY) == expected


@given(filenames)
def test_no_filename_breaks_out_of_its_header(filename: str) -> None:
    """No filename can end a header line or a quoted string."""
    value = content_disposition(filename, new_key("", filename))
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        pytest.param("ann", "ann", id="a word"),
        pytest.param("ann@example.org", "ann_40example.org", id="an address"),
        pytest.param("a/../b", "a_2f.._2fb", id="a path"),
        pytest.param("..", "_2e.", id="dots"),
        pytest.param("_2e.", "_5f2e.", id="what encodes another"),
        pytest.param("é", "_c3_a9", id="not ASCII"),
        pytest.param("{user}", "_7buser_7d", id="the template"),
        pytest.param("x" * 100, "x" * 100, id="the longest plain name"),
        pytest.param("x" * 101, "_-" + hashlib.sha256(b"x" * 101).hexdigest(), id="a long name"),
    ],
)
def test_a_senders_name_is_one_segment(name: str, segment: str) -> None:
    """The segment shows most of the name, and holds no separator."""
    assert user_segment(name) == segment


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_two_senders_share_a_part_of_the_bucket(one: str, other: str) -> None:
    """No name reaches the part of another, or begins with it."""
    own, foreign = prefix_of("in/{user}/", one), prefix_of("in/{user}/", other)
    assert (own == foreign) == (one == other)
    if one != other:
        assert not foreign.startswith(own)
        assert not is_key(own, new_key(foreign, "a"))
    assert is_key(own, new_key(own, "a"))
    assert is_anyones_key("in/{user}/", new_key(own, "a"))
    assert common_prefix("in/{user}/") == "in/"


def test_a_prefix_without_senders_is_the_same_for_all() -> None:
    """The dot of a prefix is no pattern."""
    assert prefix_of("a.b/", "ann") == common_prefix("a.b/") == "a.b/"
    assert is_anyones_key("a.b/", new_key("a.b/", "c"))
    assert not is_anyones_key("a.b/", new_key("axb/", "c"))
    assert not is_anyones_key("in/{user}/", new_key("in/", "c"))


def test_all_metadata_fits_the_limit_of_s3() -> None:
    """The longest filename, sender, promise and request's id have at most 2 KB together."""
    incoming = Incoming(new_key("", "a"), "é" * 2000, "text/plain", "f" * 64, "x" * 100)
    promise = Promise(10**15 - 1, 10_000, "f" * 64, "snapshot", "x" * 64, "x" * 100)
    metadata = {**promise.metadata(Seal("a secret of sixteen"), incoming), "request-id": "x" * 64}
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
