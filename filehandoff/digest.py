"""Running SHA-256 and CRC-32 of a file, and a client's promised digests (RFC 9530)."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

from filehandoff.errors import DigestMalformed, DigestMismatch

try:
    from zlib_ng.zlib_ng import crc32 as crc32_of  # optional: the same CRC-32, about ten times as fast
except ImportError:
    from zlib import crc32 as crc32_of

#: The form of a SHA-256 in JSON and in form fields.
SHA256_PATTERN = r"[0-9a-f]{64}"
_HEX = re.compile(SHA256_PATTERN)
#: One member of a structured-field dictionary whose value is a byte sequence (RFC 8941, sections 3.2 and 3.3.5).
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:;[^,]*)?\s*")
_SHA256_BYTES = 32


class Digest:
    """The SHA-256 and the number of a file's bytes so far."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, chunks: Iterable[bytes | memoryview]) -> int:
        """Take the file's next bytes; return the CRC-32 (zlib's) of these bytes alone.

        One pass computes both sums while a chunk is in the processor's cache. Both release the GIL for all but the
        smallest chunks.
        """
        crc32 = 0
        for chunk in chunks:
            self._sha256.update(chunk)
            crc32 = crc32_of(chunk, crc32)
            self.size += len(chunk)
        return crc32

    @property
    def sha256(self) -> str:
        """The SHA-256 in lowercase hex."""
        return self._sha256.hexdigest()

    def check(self, promised: str | None) -> None:
        """Compare with a promised digest in lowercase hex, if there is one.

        Raises:
            DigestMismatch: the bytes are not the promised ones.
        """
        if promised is not None and promised != self.sha256:
            raise DigestMismatch(
                f"The {self.size} bytes received have the SHA-256 {self.sha256}, not the promised {promised}. "
                "Nothing was stored."
            )


def crc32_of_all(chunks: Iterable[bytes | memoryview]) -> int:
    """Return the CRC-32 of all chunks."""
    crc32 = 0
    for chunk in chunks:
        crc32 = crc32_of(chunk, crc32)
    return crc32


def md5_of(chunks: Iterable[bytes | memoryview]) -> str:
    """Return the MD5 of all chunks in lowercase hex: the ETag of most puts."""
    md5 = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        md5.update(chunk)
    return md5.hexdigest()


def crc32_header(value: int) -> str:
    """Format a CRC-32 for S3's `x-amz-checksum-crc32`: four bytes, big endian, in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def from_hex(text: str) -> str:
    """Read a promised SHA-256 from the form field `sha256`.

    Raises:
        DigestMalformed: the field is not 64 lowercase hex digits.
    """
    if not _HEX.fullmatch(text):
        raise DigestMalformed("The field 'sha256' must hold the file's SHA-256 as 64 lowercase hex digits.")
    return text


def from_content_digest(header: str) -> str | None:
    """Return the SHA-256 of a `Content-Digest` header in lowercase hex; None for other algorithms.

    Raises:
        DigestMalformed: the header is no dictionary of byte sequences, or its `sha-256` is not 32 bytes long.
    """
    found: str | None = None
    for member in header.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise DigestMalformed("A Content-Digest must look like 'sha-256=:<base64>:' (RFC 9530).")
        if match[1] == "sha-256":
            found = _sha256_from_base64(match[2])
    return found


def to_content_digest(sha256: str) -> str:
    """Format a SHA-256 in lowercase hex as a `Content-Digest` header."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode('ascii')}:"


def _sha256_from_base64(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != _SHA256_BYTES:
        raise DigestMalformed("The sha-256 of a Content-Digest must be 32 bytes in base64 (RFC 9530).")
    return raw.hex()
