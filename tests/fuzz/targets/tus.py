"""Heads of resumable uploads: any header gives a value within its limits, or one of the documented errors."""

import base64
import binascii
from typing import Any

from fuzz.inputs import fields, number, texts

from filehandoff.errors import UploadError
from filehandoff.form import is_media_type
from filehandoff.parts import PartSizes
from filehandoff.s3.upload_state import PartChecksums, State
from filehandoff.tus import CONTENT_TYPE, Chunk, Creation, read_metadata

WORDS = (
    b"filename YS50eHQ=",
    b"filetype dGV4dC9wbGFpbg==",
    b"sha256 ",
    b",",
    b"partial",
    b"final;/files/a /files/b",
    b"sha1 ",
    b"crc32 AAAAAA==",
    b"9" * 40,
    CONTENT_TYPE.encode(),
)
NAMES = (
    *("Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Offset"),
    *("Upload-Checksum", "Content-Type"),
)
LIMIT = 10_000_000
CODES = {
    *("tus-header-malformed", "checksum-unsupported", "unsupported-media-type", "file-too-large", "digest-malformed"),
}


def check(data: bytes) -> None:
    """Read the input as headers, as metadata, and as a state's values."""
    options, *values = fields(data, len(NAMES) + 1, b"\n")
    headers = {name: texts(value, 1)[0] for name, value in zip(NAMES, values, strict=True) if value}
    size = number(options[:2])
    check_creation(headers, size)
    check_chunk(headers, size)
    check_metadata(headers.get("Upload-Metadata", ""))
    check_state(headers, size)
    check_checksums(data, 1 + size % 300)


def check_creation(headers: dict[str, str], size: int) -> None:
    """Check the head of a new upload."""
    try:
        made = Creation.of(headers, size, LIMIT)
        _ = made.promised
    except UploadError as error:
        assert error.code in CODES, "the error is another one"
        return
    assert made.length is None or 0 <= made.length <= LIMIT, "a length is outside its limits"
    assert is_media_type(made.content_type), "a type is none that S3 accepts"
    assert not (made.parts and made.chunk), "a final upload has bytes"


def check_chunk(headers: dict[str, str], size: int) -> None:
    """Check the head of a chunk."""
    try:
        chunk = Chunk.of(headers, size)
    except UploadError as error:
        assert error.code in CODES, "the error is another one"
        return
    assert chunk.offset == int(headers["Upload-Offset"]) >= 0, "an offset is another one"


def check_metadata(text: str) -> None:
    """Compare with another reading: all pairs at once."""
    try:
        found: Any = read_metadata(text)
    except UploadError:
        found = None
    assert found == plain_metadata(text), "metadata is read in another way"


def plain_metadata(text: str) -> dict[str, str] | None:
    """Read the metadata by the words of the protocol."""
    pairs = [pair.strip(" ").split(" ", 1) for pair in text.split(",")] if text else []
    keys = [pair[0] for pair in pairs]
    if len(set(keys)) < len(keys) or not all(key and key.isascii() and key.isprintable() for key in keys):
        return None
    try:
        decoded = [base64.b64decode("".join(pair[1:]), validate=True) for pair in pairs]
    except (binascii.Error, ValueError):
        return None
    return {key: value.decode("utf-8", "replace") for key, value in zip(keys, decoded, strict=True)}


def check_state(values: dict[str, str], size: int) -> None:
    """Check that a state is read as it was written, and that no other byte is."""
    texts_of = [values.get(name, "") for name in NAMES]
    named: dict[str, Any] = dict(
        zip(("key", "filename", "content_type", "user", "request_id", "metadata", "concat"), texts_of, strict=True)
    )
    state = State(**named, promised=None, length=size, part_bytes=5, largest_file=9, parts=(("e", "c"),))
    written = state.as_bytes()
    assert State.from_bytes(written) == state, "a state is read as another one"
    changed = bytearray(written)
    changed[size % len(changed)] ^= 1
    try:
        State.from_bytes(bytes(changed))
    except UploadError as error:
        assert error.code == "store-unavailable", "the error is another one"
    else:
        raise AssertionError("a changed state is used")


def check_checksums(data: bytes, piece: int) -> None:
    """Check that the checksums of parts do not depend on the pieces of a read."""
    sizes = PartSizes(7, 100_000)
    whole, split = PartChecksums(sizes), PartChecksums(sizes)
    whole.receive(data)
    for at in range(0, len(data), piece):
        split.receive(data[at : at + piece])
    split.check(whole.found)
