"""What S3 answers, compared with what it was sent: an object that is not the file is no upload.

S3 itself compares the CRC-32 that every put and part goes with. These are the checks of its answers, for stores that
say more than they check, and for what gets lost between the parts and the object.
"""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any, Self
from zlib import crc32

from filehandoff.digest import crc32_header
from filehandoff.errors import StoreRejected

#: An ETag that is the MD5 of what was sent (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html): not so
#: with encryption by KMS or by the client's own key, whose ETags have the same form.
_MD5 = re.compile(r"[0-9a-f]{32}")
#: What S3 answers for an object of several parts: something made of all of them, and their number.
_OF_PARTS = re.compile(r"(.*)-(\d+)", re.ASCII | re.DOTALL)
_OTHER_ENCRYPTION = frozenset({"aws:kms", "aws:kms:dsse", "customer"})


def require(answer: Mapping[str, Any], name: str) -> Any:
    """What an answer of S3's says under this name of boto's.

    Raises:
        StoreRejected: nothing, though it is a success; it may come from something else than S3, such as a proxy.
    """
    if name not in answer:
        raise StoreRejected(f"S3 answered without {name}.")
    return answer[name]


def quoted_etag(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer of S3's as an entity tag (RFC 9110, section 8.8.3), however a store or a proxy wrote it.

    Some stores leave the quotes out. A proxy that compresses calls an ETag weak; S3's are strong, and the bytes under a
    key of ours never change.

    Raises:
        StoreRejected: the answer has none.
    """
    etag = str(require(answer, "ETag")).strip()
    opaque = etag[2:] if etag[:2].upper() == "W/" else etag
    if not opaque.strip('"'):
        raise StoreRejected("S3 answered with an empty ETag.")
    return f'"{opaque.strip('"')}"'


def bare_etag(answer: Mapping[str, Any]) -> str:
    """The same without quotes, as in receipts.

    Raises:
        StoreRejected: the answer has none.
    """
    return quoted_etag(answer).strip('"')


def check_crc32(sent: str, answered: str | None) -> None:
    """Compare the checksum of what was sent with that of what was stored, in base64, where S3 answers one.

    Raises:
        StoreRejected: they differ.
    """
    if answered is not None and answered != sent:
        raise StoreRejected(f"S3 stored other bytes than it was sent: their CRC-32 is {answered}, not {sent}.")


@dataclass(frozen=True, slots=True)
class Completed:
    """What S3 says that it has made of an upload's parts.

    `etag` is without quotes, `encryption` how S3 encrypts the object, `crc32` the checksum of the parts' checksums; the
    latter two are None where it says nothing.
    """

    etag: str
    encryption: str | None = None
    crc32: str | None = None

    @classmethod
    def from_s3(cls, answer: Mapping[str, Any]) -> Self:
        """From what boto's `complete_multipart_upload` answered, or `head_object` afterwards."""
        return cls(bare_etag(answer), answer.get("ServerSideEncryption"), answer.get("ChecksumCRC32"))

    def check(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Compare it with the parts, in order, as they were named to `complete_multipart_upload`.

        Raises:
            StoreRejected: parts are missing in the object, or others are in it.
        """
        check_multipart_etag(self.etag, [part["ETag"].strip('"') for part in parts], self.encryption)
        check_multipart_crc32(self.crc32, [part["ChecksumCRC32"] for part in parts])


def check_multipart_etag(answered: str, parts: Sequence[str], encryption: str | None) -> None:
    """Compare a completed upload's ETag with its parts' ETags, in order, all without quotes, where they are MD5s.

    It is then the MD5 of the parts' MD5s, `-`, and their number. Stores whose parts have other ETags, or whose objects
    have ETags that do not end in a number, are not compared.

    Args:
        answered: the completed upload's.
        parts: those that S3 answered for each part.
        encryption: how S3 encrypts the object: what it answers as `ServerSideEncryption`, None if nothing.

    Raises:
        StoreRejected: parts are missing in the object, or others are in it.
    """
    if not _OF_PARTS.fullmatch(answered) or encryption in _OTHER_ENCRYPTION or not all(map(_MD5.fullmatch, parts)):
        return
    expected = f"{md5(b''.join(map(bytes.fromhex, parts)), usedforsecurity=False).hexdigest()}-{len(parts)}"
    if answered != expected:
        raise StoreRejected(f"S3 made another object of the parts: its ETag is {answered}, not {expected}.")


def check_multipart_crc32(answered: str | None, parts: Sequence[str]) -> None:
    """Compare a completed upload's CRC-32 with its parts', in order, all in base64, where S3 answers that of the parts.

    It is then the CRC-32 of the parts' CRC-32s, `-`, and their number
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html). One without a number
    is that of the whole object, for which it was not asked.

    Raises:
        StoreRejected: parts are missing in the object, or others are in it.
    """
    if answered is None or not _OF_PARTS.fullmatch(answered):
        return
    expected = f"{crc32_header(crc32(b''.join(map(b64decode, parts))))}-{len(parts)}"
    if answered != expected:
        raise StoreRejected(f"S3 made another object of the parts: its CRC-32 is {answered}, not {expected}.")


def check_etag(sent: str, stored: str, parts: int) -> None:
    """Compare the ETag that was answered when a file had been sent with the object's, both without quotes.

    One of several parts is compared if the object's is of parts too; rclone's is the MD5 of the whole.

    Raises:
        StoreRejected: they differ.
    """
    if sent != stored and (parts == 1 or _OF_PARTS.fullmatch(stored)):
        raise StoreRejected(f"S3 has another object than it said it had stored: its ETag is {stored}, not {sent}.")


def check_size(sent: int, stored: int) -> None:
    """Compare the number of bytes that were sent with that of the object.

    Raises:
        StoreRejected: they differ.
    """
    if sent != stored:
        raise StoreRejected(f"S3 stored {stored} bytes of the {sent} that it was sent.")
