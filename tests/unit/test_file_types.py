"""The type of a file by its first bytes."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from filehandoff.errors import SettingsError, TypeNotAllowed
from filehandoff.file_types import (
    FINDABLE,
    HEAD_BYTES,
    ONLY_BY_NAME,
    UNKNOWN,
    FileTypes,
    FirstBytes,
    contradicts,
    find,
    signatures,
)
from filehandoff.service import Service
from filehandoff.settings import Settings

#: The signatures of the library.
KNOWN = signatures()
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def matroska(doctype: bytes) -> bytes:
    """Return the head of a Matroska file."""
    return b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82" + bytes([0x80 + len(doctype)]) + doctype


#: The first bytes of files of each type that can be found.
HEADS = {
    "image/jpeg": [b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"\xff\xd8\xff\xdb\0C\0"],
    "image/png": [PNG],
    "image/gif": [b"GIF89a\x01\0\x01\0", b"GIF87a\x01\0\x01\0"],
    "image/webp": [b"RIFF\x24\0\0\0WEBPVP8 "],
    "image/avif": [b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif"],
    "image/heif": [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"],
    "image/tiff": [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"],
    "image/bmp": [b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0"],
    "image/jxl": [b"\xff\x0a\0\x10", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "image/jp2": [b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 "],
    "image/vnd.microsoft.icon": [b"\0\0\x01\0\x01\0\x10\x10\0\0"],
    "image/vnd.adobe.photoshop": [b"8BPS\0\x01\0\0"],
    "video/mp4": [
        b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42",
        b"\0\0\0\x1cftypiso5\0\0\0\0",
    ],
    "video/quicktime": [b"\0\0\0\x14ftypqt  \0\0\0\0"],
    "video/3gpp": [b"\0\0\0\x18ftyp3gp4\0\0\0\0"],
    "video/mpeg": [b"\0\0\x01\xba\x44\0"],
    "video/x-msvideo": [b"RIFF\0\0\0\0AVI LIST"],
    "video/x-matroska": [matroska(b"matroska")],
    "video/webm": [matroska(b"webm")],
    "audio/mpeg": [b"ID3\x03\0\0\0\0\0\x21", b"\xff\xfb\x90\x64\0\0"],
    "audio/mp4": [b"\0\0\0\x20ftypM4A \0\0\0\0"],
    "audio/aac": [b"\xff\xf1\x50\x80\0", b"\xff\xf9\x50\x80\0"],
    "audio/flac": [b"fLaC\0\0\0\x22"],
    "audio/wav": [b"RIFF\x24\0\0\0WAVEfmt \x10\0"],
    "audio/aiff": [b"FORM\0\0\0\0AIFFCOMM"],
    "audio/midi": [b"MThd\0\0\0\x06"],
    "application/ogg": [b"OggS\0\x02"],
    "application/pdf": [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\0", b"%PDF-1.4\n1 0 obj\n"],
    "application/rtf": [b"{\\rtf1\\ansi"],
    "application/postscript": [b"%!PS-Adobe-3.0\n"],
    "application/zip": [b"PK\x03\x04\x14\0\x06\0", b"PK\x05\x06" + bytes(18)],
    "application/x-ole-storage": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)],
    "application/gzip": [b"\x1f\x8b\x08\0\0\0"],
    "application/zstd": [b"\x28\xb5\x2f\xfd\x04"],
    "application/x-bzip2": [b"BZh91AY&SY\0"],
    "application/x-xz": [b"\xfd7zXZ\0"],
    "application/x-tar": [b"name" + bytes(253) + b"ustar\x0000"],
    "application/x-7z-compressed": [b"7z\xbc\xaf\x27\x1c\0\x04"],
    "application/vnd.rar": [b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\x01\0"],
    "application/x-sqlite3": [b"SQLite format 3\0"],
    "font/woff": [b"wOFF\0\x01\0\0"],
    "font/woff2": [b"wOF2\0\x01\0\0"],
    "text/html": [
        b"<!DOCTYPE html><title>a</title>",
        b"\xef\xbb\xbf\r\n <HTML>",
        b"<script>alert(1)</script>",
        b"<body\tonload=alert(1)>",
        b"<!--ftypavif--><script>",
        "<html>".encode("utf-16"),
        b"<html>\0\0" + PNG,
    ],
    "image/svg+xml": [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
        b'<?xml version="1.0"?>\n<!-- a --><svg/>',
        b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "">\n<svg>',
        b"<!-- a -->\n<s:svg xmlns:s=''>",
        b"\xff\xfe<\0?\0x\0m\0l\0?\0>\0<\0s\0v\0g\0>\0",
    ],
    "application/xml": [
        b'<?xml version="1.0"?><a/>',
        b"<rss version='2.0'>",
        b"<img src=x onerror=alert(1)>",
        b"<?php",
    ],
    "text/plain": [
        b"a,b\n1,2\n",
        b'{"a": 1}',
        b"#!/bin/sh\n",
        b"alert(1)",
        b"BM is the name of a car",
        b"1 < 2",
        b"<3 you",
        b"GIF89a<script>alert(1)</script>",
        b"xxxxftypavif",
        "K\u00e4se".encode(),
        "K\u00e4se".encode("latin-1"),
        "K\u00e4se".encode("utf-16"),
        "\ufeffa".encode(),
    ],
    UNKNOWN: [
        b"MZ\x90\0\x03\0\0\0",
        b"MZ\0\0ftypavif\0\0",
        b"\x01\0\0\0ftypavif\0\0",
        b"RIFF\0\0\0\0CDXAfmt ",
        b"\0\0\0\x18ftypcrx \0\0\0\x01",
        b"\x7fELF\x02\x01\x01\0",
        b"\xca\xfe\xba\xbe\0\0",
        b"\0asm\x01\0\0\0",
        b"\xff\xfe\0\0\x01",
        b"\0",
    ],
}


@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in HEADS.items() for head in heads])
def test_a_type_is_found_by_the_first_bytes(name: str, head: bytes) -> None:
    """A cut file has the type of the whole one."""
    assert find(head, KNOWN) == name
    assert find(head + b"\nmore" * HEAD_BYTES, KNOWN) == name


def test_each_type_that_settings_may_name_is_found() -> None:
    """No entry of a list is without effect."""
    assert HEADS.keys() == FINDABLE


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")),
        *(("TIFF", "image/tiff"), ("BMP", "image/bmp"), ("ICO", "image/vnd.microsoft.icon")),
        *(("JPEG2000", "image/jp2"), ("AVIF", "image/avif"), ("PDF", "application/pdf")),
    ],
)
def test_a_real_file_is_found(form: str, name: str) -> None:
    """Pillow writes each of these formats."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, form)
    assert find(file.getvalue()[:HEAD_BYTES], KNOWN) == name


def test_the_last_bytes_decide_nothing() -> None:
    """A client chooses them freely: a TGA image has its signature at its end."""
    assert find(b"\x01\x02" + b"TRUEVISION-XFILE.\0", KNOWN) == UNKNOWN


@given(st.binary())
def test_any_bytes_have_one_type(head: bytes) -> None:
    """Only an empty file has none."""
    found = find(head, KNOWN)
    assert found in FINDABLE if head else found == ""


@given(st.lists(st.binary(max_size=HEAD_BYTES)))
def test_the_first_bytes_are_those_of_all_chunks(chunks: list[bytes]) -> None:
    """The chunks pass unchanged."""
    head = FirstBytes()
    assert [head.receive(chunk) for chunk in chunks] == chunks
    assert bytes(head) == b"".join(chunks)[:HEAD_BYTES]
    assert head.are_complete is (len(b"".join(chunks)) >= HEAD_BYTES)


def check(allowed: list[str], head: bytes, declared: str = "image/png") -> str:
    """Check a file without a replacement of its type."""
    return FileTypes(allowed, store_found=False).check(declared, head)


@pytest.mark.parametrize(
    ("allowed", "head"),
    [
        pytest.param(["image/png"], PNG, id="a type"),
        pytest.param(["IMAGE/PNG"], PNG, id="in any case"),
        pytest.param(["application/pdf", "image/*"], PNG, id="a wildcard"),
        pytest.param(["image/jpg"], HEADS["image/jpeg"][0], id="a client's name"),
        pytest.param(["image/*", "image/svg+xml"], b"<svg>", id="SVG by its name"),
        pytest.param(["text/*"], b"a", id="text"),
        pytest.param([UNKNOWN], b"\0", id="unknown bytes by their name"),
    ],
)
def test_an_allowed_file_keeps_its_declared_type(allowed: list[str], head: bytes) -> None:
    """The first bytes decide about the file, and not about its name."""
    assert check(allowed, head, "a/b; c=d") == "a/b; c=d"


@pytest.mark.parametrize(
    ("allowed", "head", "detail"),
    [
        pytest.param(
            ["image/*", "application/pdf"],
            b"a",
            "The file is text/plain by its first bytes; allowed are image/*, application/pdf.",
            id="another type",
        ),
        pytest.param(
            ["image/*"],
            b"<svg>",
            "The file is image/svg+xml by its first bytes, which no wildcard includes; allowed are image/*.",
            id="SVG",
        ),
        pytest.param(
            ["text/*"],
            b"<html>",
            "The file is text/html by its first bytes, which no wildcard includes; allowed are text/*.",
            id="HTML",
        ),
        pytest.param(
            ["image/png"], b"", "The file is empty, so it has no type; allowed are image/png.", id="an empty file"
        ),
    ],
)
def test_a_file_of_another_type_is_refused(allowed: list[str], head: bytes, detail: str) -> None:
    """The error names the found type and the allowed ones; the declared type has no effect."""
    with pytest.raises(TypeNotAllowed) as caught:
        check(allowed, head)
    assert caught.value.detail == detail


@pytest.mark.parametrize("name", sorted(ONLY_BY_NAME))
def test_a_wildcard_admits_no_type_that_may_run(name: str) -> None:
    """The operator must name such a type."""
    kind = name.partition("/")[0]
    with pytest.raises(TypeNotAllowed):
        check([f"{kind}/*"], HEADS[name][0])
    check([name], HEADS[name][0])


@pytest.mark.parametrize(
    ("declared", "found", "expected"),
    [
        pytest.param("image/png", "image/png", False, id="the same"),
        pytest.param("Image/PNG; a=b", "image/png", False, id="the same with a parameter"),
        pytest.param("image/jpg", "image/jpeg", False, id="another name"),
        pytest.param("image/png", "image/jpeg", True, id="another image"),
        pytest.param("image/png", "text/html", True, id="a page"),
        pytest.param("image/png", "text/plain", True, id="text instead of an image"),
        pytest.param("image/png", UNKNOWN, True, id="unknown bytes instead of an image"),
        pytest.param(UNKNOWN, "image/png", True, id="a type that says nothing"),
        pytest.param("text/csv", "text/plain", False, id="a kind of text"),
        pytest.param("application/json", "text/plain", False, id="text with another name"),
        pytest.param("text/html", "text/plain", True, id="text without a tag"),
        pytest.param("text/csv", UNKNOWN, True, id="unknown bytes instead of text"),
        pytest.param("text/csv", "image/png", True, id="an image instead of text"),
        pytest.param("model/gltf-binary", UNKNOWN, False, id="a type without a signature here"),
        pytest.param("application/vnd.oasis.opendocument.text", "application/zip", False, id="a kind of ZIP"),
        pytest.param("application/pdf", "application/zip", True, id="ZIP instead of PDF"),
        pytest.param("application/atom+xml", "application/xml", False, id="a kind of XML"),
        pytest.param("image/svg+xml", "application/xml", True, id="XML without an image"),
        pytest.param("audio/x-m4a", "audio/mp4", False, id="a browser's name"),
        pytest.param("audio/mp4", "video/mp4", False, id="sound in a container for video"),
        pytest.param("video/mp4", "audio/mp4", True, id="sound instead of video"),
        pytest.param("image/png", "", False, id="an empty file"),
    ],
)
def test_a_declared_type_contradicts_the_bytes_or_not(declared: str, found: str, *, expected: bool) -> None:
    """A more special name for the same bytes is no contradiction."""
    assert contradicts(declared, found) is expected


def test_the_found_type_is_stored_if_the_declared_one_contradicts() -> None:
    """Without a list, every type is stored."""
    types = FileTypes([], store_found=True)
    assert types.check("image/png", b"<html>") == "text/html"
    assert types.check("text/csv; charset=utf-8", b"a,b") == "text/csv; charset=utf-8"
    assert types.check("image/png", b"") == "image/png"


def test_a_stored_object_of_another_type_is_refused() -> None:
    """Its type cannot be changed; a type that says nothing may stay."""
    types = FileTypes([], store_found=True)
    with pytest.raises(TypeNotAllowed, match="The object is text/html by its first bytes, but image/png was declared"):
        types.check_stored("image/png", b"<html>")
    types.check_stored(UNKNOWN, b"<html>")
    types.check_stored("image/png", PNG)
    FileTypes(["text/html"], store_found=False).check_stored("image/png", b"<html>")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(",", "types such as 'image/*", id="no type"),
        pytest.param("image", "types such as image/png and wildcards", id="half a type"),
        pytest.param("*/*", "types such as image/png and wildcards", id="everything"),
        pytest.param("image/p*", "types such as image/png and wildcards", id="a wildcard within a name"),
        pytest.param("image/png; q=1", "types such as image/png and wildcards", id="a parameter"),
        pytest.param("text/csv", "without text/csv, which no file's first bytes show (text such as CSV is", id="CSV"),
        pytest.param(
            "image/png, model/*", "without model/*, which no file's first bytes show", id="a wildcard of none"
        ),
    ],
)
def test_a_list_that_admits_no_file_is_an_error_of_one_line(text: str, wanted: str) -> None:
    """The error has the valid forms, or all types that can be found."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"UPLOAD_ALLOWED_TYPES": text})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"UPLOAD_ALLOWED_TYPES is '{text}'; it must be {wanted}")


@pytest.mark.parametrize(
    ("environ", "begin"),
    [
        (
            {"UPLOAD_ALLOWED_TYPES": "image/*,image/svg+xml"},
            "UPLOAD_ALLOWED_TYPES is 'image/*, image/svg+xml'",
        ),
        (
            {"UPLOAD_STORE_FOUND_TYPE": "on"},
            "UPLOAD_STORE_FOUND_TYPE is 'on'",
        ),
    ],
)
def test_a_missing_library_ends_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], begin: str
) -> None:
    """The line names the extra that installs the library."""
    settings = Settings.from_env(environ)
    monkeypatch.setitem(sys.modules, "puremagic.main", None)
    with pytest.raises(SettingsError) as caught:
        Service("flask", settings)
    wanted = "it must be empty without the library puremagic, which the extra 'types' of this package installs"
    assert str(caught.value) == f"{begin}; {wanted}"


def test_without_a_setting_the_library_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that checks no type needs no library."""
    monkeypatch.setitem(sys.modules, "puremagic.main", None)
    assert Service("flask", Settings()).file_types is None
