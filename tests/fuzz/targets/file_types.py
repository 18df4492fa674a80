"""Types by first bytes: no page that a browser would show passes as another type."""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE

from fuzz.inputs import fields, pieces

from filehandoff.errors import TypeNotAllowed
from filehandoff.file_types import (
    FINDABLE,
    HEAD_BYTES,
    ONLY_BY_NAME,
    FileTypes,
    FirstBytes,
    contradicts,
    find,
    media_type,
    objection,
    signatures,
)

WORDS = (
    b"image/png",
    b"image/*",
    b"image/svg+xml",
    b"text/html",
    b"application/octet-stream",
    b"<!doctype html>",
    b"<svg ",
    b"<!--",
    b"<?xml",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"\xff\xd8\xff\xe0",
    b"RIFF\0\0\0\0WEBP",
    b"\0\0\0\x20ftypmif1",
    b"\x1a\x45\xdf\xa3\0webm",
    b"PK\x03\x04",
    b"%PDF-1.7",
    b"{\\rtf",
    BOM_UTF8,
    BOM_UTF16_BE,
    BOM_UTF16_LE,
)
SIGNATURES = signatures()
EVERY_TYPE = FileTypes((), store_found=True)
PICTURES = FileTypes(("image/*",), store_found=False)
#: How a page begins that browsers show without a type (https://mimesniff.spec.whatwg.org/).
_PAGE = re.compile(
    rb"[\t\n\x0c\r ]*(?:<!--|<\?xml|"
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >])",
    re.IGNORECASE,
)


def check(data: bytes) -> None:
    """Find the type of a file that is declared with another one, and read the list of allowed types."""
    declared, allowed, head = fields(data, 3, b"\n")
    check_head(head)
    check_declared(declared.decode("latin-1"), head)
    check_allowed(allowed.decode("latin-1"), head)


def check_head(head: bytes) -> None:
    """Check that the type is a known one, is found in pieces too, and is a page's for a page."""
    found = find(head[:HEAD_BYTES], SIGNATURES)
    assert found in FINDABLE or not head, "a type is not in the list of types"
    first = FirstBytes()
    for piece in pieces(head, head[:3]):
        assert first.receive(piece) is piece, "a piece changes"
    assert bytes(first) == head[:HEAD_BYTES], "the first bytes are other ones"
    if _PAGE.match(head.removeprefix(BOM_UTF8)):
        assert found in ONLY_BY_NAME, "a page counts as another type"


def check_declared(declared: str, head: bytes) -> None:
    """Check which type is stored."""
    found = find(head, SIGNATURES)
    stored = EVERY_TYPE.check(declared, head)
    assert stored == (found if contradicts(declared, found) else declared), "the stored type is another one"
    assert not contradicts(stored, found), "the stored type contradicts the bytes"
    assert media_type(media_type(declared)) == media_type(declared), "a media type has another plain form"
    try:
        kept = PICTURES.check(declared, head)
        PICTURES.check_stored(declared, head)
    except TypeNotAllowed:
        return
    assert kept == declared, "the declared type changes"
    assert found.startswith("image/"), "another file than a picture is stored"
    assert found not in ONLY_BY_NAME, "a picture with scripts is stored"


def check_allowed(allowed: str, head: bytes) -> None:
    """Check that a list that the settings accept admits files of its types only."""
    listed = [one.strip() for one in allowed.split(",")]
    if objection(listed):
        return
    try:
        FileTypes(listed, store_found=True).check("", head)
    except TypeNotAllowed:
        return
    assert head, "an empty file has a type"
