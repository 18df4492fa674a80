"""The resumable uploads of tus 1.0.0 (https://tus.io/protocols/resumable-upload), without I/O: heads and checksums.

A client creates an upload by `POST /files`, sends its bytes by one or more `PATCH` requests, and after an interruption
asks by `HEAD` for the offset from which to continue. `filehandoff.s3.resumable` keeps the bytes and the state in S3.
"""

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol, Self

from filehandoff.digest import from_hex
from filehandoff.errors import (
    ChecksumMismatch,
    ChecksumUnsupported,
    FileTooLarge,
    TusMalformed,
    TusVersionUnsupported,
    UnsupportedMediaType,
    shorten,
)
from filehandoff.form import DEFAULT_CONTENT_TYPE, is_media_type

VERSION = "1.0.0"
EXTENSIONS = (
    *("creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination"),
    "concatenation",
)
#: The type of the body of `PATCH`, and of a `POST` with the first bytes.
CONTENT_TYPE = "application/offset+octet-stream"
METHOD_OVERRIDE = "X-HTTP-Method-Override"
#: Methods of an upload's address that a `POST` may name in `METHOD_OVERRIDE`.
METHODS = frozenset({"PATCH", "HEAD", "DELETE"})

#: A longer number is no length of any file.
_NUMBER = re.compile(r"\d{1,40}", re.ASCII)
_METADATA_KEY = re.compile(r"[!-+\--~]+")
#: Keys of a file's name and media type; Uppy sends the second ones.
_NAMES, _TYPES = ("filename", "name"), ("filetype", "type")

PARTIAL, FINAL = "partial", "final;"


class _Checksum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


#: The checksums of a chunk; the protocol demands `sha1`.
_ALGORITHMS: dict[str, Callable[[], _Checksum]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "crc32": _Crc32,
}


def options_headers(max_file_bytes: int) -> dict[str, str]:
    """Return the headers of the answer to `OPTIONS`."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Max-Size": str(max_file_bytes),
        "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
    }


def check_version(headers: Mapping[str, str]) -> None:
    """Check the version of a request.

    Raises:
        TusVersionUnsupported: it is not ours.
    """
    if headers.get("Tus-Resumable") != VERSION:
        raise TusVersionUnsupported(
            f"This address speaks the protocol tus; send the header 'Tus-Resumable: {VERSION}'.",
            headers={"Tus-Version": VERSION},
        )


class ChunkChecksum:
    """The checksum that a client has promised for one chunk, computed while the chunk arrives."""

    def __init__(self, algorithm: str, promised: bytes) -> None:
        self._algorithm = algorithm
        self._promised = promised
        self._computed = _ALGORITHMS[algorithm]()
        self.update = self._computed.update

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Read `Upload-Checksum`; return None without one.

        Raises:
            ChecksumUnsupported: the service does not know the algorithm.
            TusMalformed: the value is not the base64 of such a checksum.
        """
        if "Upload-Checksum" not in headers:
            return None
        algorithm, _, text = headers["Upload-Checksum"].partition(" ")
        if algorithm not in _ALGORITHMS:
            known = ", ".join(_ALGORITHMS)
            raise ChecksumUnsupported(f"The service knows the checksums {known}, not {shorten(algorithm)}.")
        promised = _from_base64(text)
        if promised is None or len(promised) != len(_ALGORITHMS[algorithm]().digest()):
            _refuse("Upload-Checksum", headers["Upload-Checksum"], f"a name such as '{algorithm}', a space and base64")
        return cls(algorithm, promised)

    def check(self) -> None:
        """Compare the checksums after the chunk's last byte.

        Raises:
            ChecksumMismatch: they differ.
        """
        if self._computed.digest() != self._promised:
            raise ChecksumMismatch(
                f"The chunk has another {self._algorithm} than its Upload-Checksum; send it again from the same offset."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The head of a request with bytes for an upload.

    Attributes:
        offset: the number of bytes before the chunk.
        size: the declared number of bytes in the body; None for a chunked body.
        length: the length of the whole file, if this request declares it.
        checksum: the promised checksum.
    """

    offset: int
    size: int | None
    length: int | None
    checksum: ChunkChecksum | None

    @classmethod
    def of(cls, headers: Mapping[str, str], size: int | None) -> Self:
        """Read the head of a `PATCH`; `size` is its declared length.

        Raises:
            UnsupportedMediaType: the body is of another type.
            TusMalformed, ChecksumUnsupported: a header cannot be used.
        """
        check_content_type(headers)
        if "Upload-Offset" not in headers:
            raise TusMalformed("A PATCH needs the header Upload-Offset.")
        length = _number(headers, "Upload-Length") if "Upload-Length" in headers else None
        return cls(_number(headers, "Upload-Offset"), size, length, ChunkChecksum.of(headers))


@dataclass(frozen=True, slots=True)
class Creation:
    """The head of a request for a new upload.

    Attributes:
        length: the file's length in bytes; None if a later request declares it.
        metadata: the value of `Upload-Metadata`.
        values: its decoded entries.
        partial: whether the upload becomes a part of a final one.
        parts: the ids of the partial uploads of a final one.
        chunk: the head of the first bytes, if the request has some.
    """

    length: int | None
    metadata: str
    values: Mapping[str, str]
    partial: bool
    parts: tuple[str, ...]
    chunk: Chunk | None

    @classmethod
    def of(cls, headers: Mapping[str, str], size: int | None, max_file_bytes: int) -> Self:
        """Read the head of a `POST`; `size` is its declared length, None for a chunked body.

        Raises:
            UnsupportedMediaType: the body is of another type.
            TusMalformed, ChecksumUnsupported: a header cannot be used.
            FileTooLarge: the declared length exceeds the limit.
            DigestMalformed: the metadata's `sha256` is malformed.
        """
        metadata = headers.get("Upload-Metadata", "")
        concat = headers.get("Upload-Concat", "")
        parts = _final_parts(concat)
        if concat and not parts and concat != PARTIAL:
            _refuse("Upload-Concat", concat, "'partial', or 'final;' and the addresses of partial uploads")
        length = None if parts else _length(headers)
        if length is not None and length > max_file_bytes:
            raise FileTooLarge(f"The file has more than {max_file_bytes} bytes.")
        if parts and "Upload-Length" in headers:
            raise TusMalformed("A final upload has no Upload-Length: its parts have lengths.")
        chunk = None
        if not parts and (size != 0 or headers.get("Content-Type") == CONTENT_TYPE):
            check_content_type(headers)
            chunk = Chunk(0, size, None, ChunkChecksum.of(headers))
        return cls(length, metadata, read_metadata(metadata), concat == PARTIAL, parts, chunk)

    @property
    def filename(self) -> str:
        """The file's name; may be empty."""
        return next((self.values[name] for name in _NAMES if self.values.get(name)), "")

    @property
    def content_type(self) -> str:
        """The file's media type."""
        declared = next((self.values[name] for name in _TYPES if name in self.values), "")
        return declared if is_media_type(declared) else DEFAULT_CONTENT_TYPE

    @property
    def promised(self) -> str | None:
        """The SHA-256 in lowercase hex that the client promises for the file.

        Raises:
            DigestMalformed: it has another form.
        """
        return from_hex(self.values["sha256"]) if "sha256" in self.values else None


def check_content_type(headers: Mapping[str, str]) -> None:
    """Check the type of a chunk's body.

    Raises:
        UnsupportedMediaType: it is not `CONTENT_TYPE`.
    """
    if headers.get("Content-Type", "") != CONTENT_TYPE:
        raise UnsupportedMediaType(f"The bytes of an upload need the header 'Content-Type: {CONTENT_TYPE}'.")


def read_metadata(text: str) -> dict[str, str]:
    """Decode `Upload-Metadata`: pairs of a key and base64, separated by commas; a value may be missing.

    Raises:
        TusMalformed: a key is empty or repeated, or a value is no base64.
    """
    values: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, encoded = pair.strip(" ").partition(" ")
        value = _from_base64(encoded)
        if not _METADATA_KEY.fullmatch(key) or value is None or key in values:
            _refuse("Upload-Metadata", text, "pairs of a unique key and a value in base64, separated by commas")
        values[key] = value.decode("utf-8", "replace")
    return values


def _final_parts(concat: str) -> tuple[str, ...]:
    """Return the ids of the partial uploads, the last segments of their addresses."""
    if not concat.startswith(FINAL):
        return ()
    return tuple(address.rpartition("/")[2] for address in concat.removeprefix(FINAL).split())


def _length(headers: Mapping[str, str]) -> int | None:
    deferred = headers.get("Upload-Defer-Length")
    if ("Upload-Length" in headers) == (deferred is not None):
        raise TusMalformed("A new upload needs either Upload-Length or 'Upload-Defer-Length: 1'.")
    if deferred is None:
        return _number(headers, "Upload-Length")
    if deferred != "1":
        _refuse("Upload-Defer-Length", deferred, "1")
    return None


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers[name]
    if not _NUMBER.fullmatch(text):
        _refuse(name, text, "a number of bytes")
    return int(text)


def _refuse(name: str, value: str, wanted: str) -> NoReturn:
    raise TusMalformed(f"{name} is {shorten(value)}; it must be {wanted}.")


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
