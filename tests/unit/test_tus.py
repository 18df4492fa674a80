"""The heads of resumable uploads: the protocol's headers, and the errors for all others."""

import base64
import hashlib
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from filehandoff.errors import (
    ChecksumMismatch,
    ChecksumUnsupported,
    DigestMalformed,
    FileTooLarge,
    TusMalformed,
    TusVersionUnsupported,
    UnsupportedMediaType,
    UploadError,
)
from filehandoff.settings import MIB
from filehandoff.tus import (
    CONTENT_TYPE,
    EXTENSIONS,
    VERSION,
    Chunk,
    ChunkChecksum,
    Creation,
    check_version,
    options_headers,
    read_metadata,
)

BYTES = {"Content-Type": CONTENT_TYPE}


def b64(data: bytes | str) -> str:
    """Encode as the protocol's headers do."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def creation(size: int = 0, /, **headers: str) -> Creation:
    """Read the head of a POST, whose header names have underscores here."""
    named: Any = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return Creation.of(named, size, 10 * MIB)


def test_options_names_what_the_service_supports() -> None:
    """The version, every extension, the limit and the checksums."""
    assert options_headers(5) == {
        "Tus-Resumable": "1.0.0",
        "Tus-Version": "1.0.0",
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Max-Size": "5",
        "Tus-Checksum-Algorithm": "sha1,sha256,crc32",
    }


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0", "1.0.0 "])
def test_another_version_is_refused(version: str | None) -> None:
    """The error names the supported one."""
    headers = {} if version is None else {"Tus-Resumable": version}
    with pytest.raises(TusVersionUnsupported) as refused:
        check_version(headers)
    assert refused.value.headers == {"Tus-Version": VERSION}
    check_version({"Tus-Resumable": VERSION})


def test_a_creation_declares_length_and_metadata() -> None:
    """The metadata names the file, its type and its digest."""
    digest = hashlib.sha256(b"").hexdigest()
    text = f"filename {b64('ä.png')},filetype {b64('image/png')},sha256 {b64(digest)},is_confidential"
    made = creation(Upload_Length="11", Upload_Metadata=text)
    assert (made.length, made.filename, made.content_type, made.promised) == (11, "ä.png", "image/png", digest)
    assert (made.metadata, made.values["is_confidential"]) == (text, "")
    assert (made.partial, made.parts, made.chunk) == (False, (), None)


def test_uppy_names_the_file_by_other_keys() -> None:
    """The keys `name` and `type` count where the usual ones are missing or empty."""
    text = f"name {b64('b.txt')},filename,type {b64('text/plain')}"
    made = creation(Upload_Length="1", Upload_Metadata=text)
    assert (made.filename, made.content_type) == ("b.txt", "text/plain")
    assert creation(Upload_Length="1").filename == ""


@pytest.mark.parametrize("declared", ["", "a b", "text/html\r\nx: y", "ä/b"])
def test_an_invalid_type_is_unknown(declared: str) -> None:
    """S3 would refuse it."""
    made = creation(Upload_Length="1", Upload_Metadata=f"filetype {b64(declared)}")
    assert made.content_type == "application/octet-stream"


def test_the_length_may_be_deferred() -> None:
    """A later request declares it."""
    assert creation(Upload_Defer_Length="1").length is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no length"),
        pytest.param({"Upload_Length": "1", "Upload_Defer_Length": "1"}, id="two lengths"),
        pytest.param({"Upload_Defer_Length": "0"}, id="not deferred"),
        *(pytest.param({"Upload_Length": text}, id=f"length {text}") for text in ("", "-1", "1.5", "x", "1" * 41, "²")),
        *(
            pytest.param({"Upload_Length": "1", "Upload_Metadata": text}, id=f"metadata {text}")
            for text in ("a b c", "a =", "a ä", " , ", ",", "a YQ==,a YQ==", "ä YQ==", "a YQ")
        ),
        *(
            pytest.param({"Upload_Length": "1", "Upload_Concat": text}, id=f"concat {text}")
            for text in ("", "Partial", "final", "final;", "final; ", "other")
            if text
        ),
        pytest.param({"Upload_Length": "1", "Upload_Concat": "final;/files/a"}, id="a final upload with a length"),
    ],
)
def test_a_malformed_creation_is_refused(headers: dict[str, str]) -> None:
    """The error names the header."""
    with pytest.raises(TusMalformed, match="Upload-"):
        creation(**headers)


def test_the_largest_file_is_a_limit() -> None:
    """The declared length alone exceeds it."""
    with pytest.raises(FileTooLarge):
        creation(Upload_Length=str(10 * MIB + 1))
    with pytest.raises(FileTooLarge):
        creation(Upload_Length="1" + "0" * 30)
    assert creation(Upload_Length=str(10 * MIB)).length == 10 * MIB


def test_a_malformed_promise_is_refused() -> None:
    """The digest has the form of the form field `sha256`."""
    made = creation(Upload_Length="1", Upload_Metadata=f"sha256 {b64('abc')}")
    with pytest.raises(DigestMalformed):
        _ = made.promised


def test_a_creation_may_have_the_first_bytes() -> None:
    """A body of another type is refused."""
    made = creation(5, Upload_Length="11", Content_Type=CONTENT_TYPE)
    assert made.chunk == Chunk(0, 5, None, None)
    assert creation(Upload_Length="11", Content_Type="text/plain").chunk is None
    with pytest.raises(UnsupportedMediaType):
        creation(5, Upload_Length="11", Content_Type="text/plain")


def test_a_final_upload_names_its_parts() -> None:
    """By absolute or relative addresses, whose last segment is the id."""
    made = creation(Upload_Concat="final;/files/a https://example.org/app/files/b", Content_Type=CONTENT_TYPE)
    assert (made.parts, made.length, made.chunk, made.partial) == (("a", "b"), None, None, False)
    assert creation(Upload_Concat="partial", Upload_Length="5").partial


def test_a_chunk_has_an_offset_and_a_type() -> None:
    """It may declare the length of the file."""
    assert Chunk.of({**BYTES, "Upload-Offset": "7"}, 5) == Chunk(7, 5, None, None)
    assert Chunk.of({**BYTES, "Upload-Offset": "7", "Upload-Length": "12"}, None) == Chunk(7, None, 12, None)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        pytest.param({"Upload-Offset": "0"}, UnsupportedMediaType, id="no type"),
        pytest.param({"Upload-Offset": "0", "Content-Type": "text/plain"}, UnsupportedMediaType, id="another type"),
        pytest.param(BYTES, TusMalformed, id="no offset"),
        pytest.param({**BYTES, "Upload-Offset": "-1"}, TusMalformed, id="a negative offset"),
        pytest.param({**BYTES, "Upload-Offset": "0", "Upload-Length": "x"}, TusMalformed, id="a wrong length"),
        pytest.param({**BYTES, "Upload-Offset": "0", "Upload-Checksum": "md5 YQ=="}, ChecksumUnsupported, id="md5"),
        pytest.param({**BYTES, "Upload-Offset": "0", "Upload-Checksum": "sha1"}, TusMalformed, id="no checksum"),
        pytest.param({**BYTES, "Upload-Offset": "0", "Upload-Checksum": "sha1 YQ=="}, TusMalformed, id="a short one"),
        pytest.param({**BYTES, "Upload-Offset": "0", "Upload-Checksum": "sha1 %%"}, TusMalformed, id="no base64"),
    ],
)
def test_a_malformed_chunk_is_refused(headers: dict[str, str], error: type[UploadError]) -> None:
    """Before its first byte."""
    with pytest.raises(error):
        Chunk.of(headers, 5)


@given(st.binary(), st.integers(0, 200))
def test_a_checksum_is_that_of_all_bytes(data: bytes, cut: int) -> None:
    """By each algorithm, however the bytes arrive."""
    digests: dict[str, Any] = {
        "sha1": hashlib.sha1(data, usedforsecurity=False).digest(),
        "sha256": hashlib.sha256(data).digest(),
        "crc32": zlib.crc32(data).to_bytes(4, "big"),
    }
    for name, digest in digests.items():
        checksum = ChunkChecksum.of({"Upload-Checksum": f"{name} {b64(digest)}"})
        assert checksum is not None
        checksum.update(data[:cut])
        checksum.update(data[cut:])
        checksum.check()
        checksum.update(b"x")
        with pytest.raises(ChecksumMismatch, match=name):
            checksum.check()


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(), max_size=5))
def test_metadata_of_any_values_is_read(values: dict[str, str]) -> None:
    """Keys and values, in any language."""
    text = ",".join(f"{key} {b64(value.encode('utf-8', 'replace'))}" for key, value in values.items())
    assert read_metadata(text) == {key: value.encode("utf-8", "replace").decode() for key, value in values.items()}
