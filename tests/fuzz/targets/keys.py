"""Keys and names: every name has a legal key, and returns from S3's metadata and from a download's header."""

import re

from fuzz.inputs import texts
from werkzeug.http import parse_options_header

from filehandoff.keys import (
    KEY_PATTERN,
    clean_name,
    common_prefix,
    content_disposition,
    decode_name,
    encode_name,
    id_of,
    is_anyones_key,
    is_key,
    new_key,
    prefix_of,
    safe_name,
    user_segment,
)
from filehandoff.part_head import read_filename

WORDS = (
    b"..",
    b"/",
    b"\\",
    b"{user}",
    b"UTF-8''",
    b"%E9",
    b"%2F",
    "\u202e".encode(),
    "\u200d".encode(),
    "\U0001f600".encode(),
    b"\xff\x0fa",
    b"_-",
    b"2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a",
)
_PREFIX = re.compile(r"[A-Za-z0-9._/-]{0,9}")


def check(data: bytes) -> None:
    """Use the input as a prefix, as two senders, as a filename and as an object's metadata."""
    prefix, user, other, value, filename = texts(data, 5, b"\n")
    check_key(filename)
    check_metadata(filename, value)
    if _encodable(user) and _encodable(other):
        check_users(prefix if _PREFIX.fullmatch(prefix) else "", user, other)
    check_foreign_key(prefix, value)


def check_key(filename: str) -> None:
    """Check the key of a file of this name."""
    key = new_key("a/", filename)
    assert is_key("a/", key), "a new key is no key"
    assert key.encode("ascii").decode() == key, "a key is not ASCII"
    assert len(key) < 1024, "a key is too long for S3"
    assert id_of(key) in key, "a key has no id"
    assert safe_name(safe_name(filename)) == safe_name(filename), "a safe name has another safe name"


def check_metadata(filename: str, value: str) -> None:
    """Check that a name returns from its metadata, and that no metadata breaks a header."""
    clean = clean_name(filename)
    encoded = encode_name(clean)
    assert encoded.isascii(), "metadata are not ASCII"
    assert encoded.isprintable(), "metadata have a control character"
    assert len(encoded) <= 1408, "a name is too long for S3's metadata"
    decoded = decode_name(encoded)
    if len(encoded) < 1390:
        assert (decoded or "") == clean, "a name changes in S3's metadata"
    else:
        assert clean.startswith(decoded or "\0"), "a name changes in S3's metadata"
    for name in (decoded, decode_name(value)):
        header = content_disposition(name, "a/b/plain.txt")
        assert header.isascii(), "a header is not ASCII"
        assert header.isprintable(), "a header has a control character"
        _, parameters = parse_options_header(header)
        last = re.split(r"[/\\]", name or "")[-1]
        if len(encode_name(last)) < 1390:
            expected = last if last.strip(".") else "plain.txt"
            assert read_filename(header) == expected, "a name changes in the header of a download"
            assert parameters["filename"] == expected, "werkzeug reads another name in the header of a download"


def check_users(prefix: str, user: str, other: str) -> None:
    """Check that each sender has a part of the key space."""
    mine, theirs = user_segment(user), user_segment(other)
    assert (user == other) == (mine == theirs), "two senders share their keys"
    assert len(mine) <= 100, "a sender's segment is too long"
    if not user:
        return
    pattern = prefix + "{user}/"
    key = new_key(prefix_of(pattern, user), "a")
    assert is_anyones_key(pattern, key), "a sender's key is no key"
    assert key.startswith(common_prefix(pattern)), "a key is outside the prefix"
    assert is_key(prefix_of(pattern, user), key), "a sender's key is not the sender's"
    assert user == other or not other or not is_key(prefix_of(pattern, other), key), "a key is another sender's too"


def check_foreign_key(prefix: str, key: str) -> None:
    """Check that the routes reach no object of another form."""
    if is_key(prefix, key):
        rest = key[len(prefix) :]
        assert re.fullmatch(KEY_PATTERN, rest, re.ASCII), "a key has another form"
        assert ".." not in rest.split("/"), "a key leaves its folder"
        assert rest.isascii(), "a key is not ASCII"
        assert rest.isprintable(), "a key has a control character"
    is_anyones_key(prefix, key)


def _encodable(name: str) -> bool:
    return not re.search(r"[\ud800-\udfff]", name)
