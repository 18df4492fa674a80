"""Compare S3's responses with the bytes sent, so that no upload succeeds with another object.

S3 itself compares the CRC-32 of every put and part. These checks of its responses cover stores that report a CRC-32
without comparing it, and parts that get lost on their way into the object.
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

#: The form of an ETag that is the MD5 of the bytes (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
#: Under encryption by KMS or by the client's own key, ETags have the same form but are no MD5.
_MD5 = re.compile(r"[0-9a-f]{32}")
#: The form of an ETag or CRC-32 of several parts: a sum over all of them, and their number.
_OF_PARTS = re.compile(r"(.*)-(\d+)", re.ASCII | re.DOTALL)
_OTHER_ENCRYPTION = frozenset({"aws:kms", "aws:kms:dsse", "customer"})


def is_md5(etag: str) -> bool:
    """Return whether an ETag without quotes has the form of an MD5."""
    return _MD5.fullmatch(etag) is not None


def require(answer: Mapping[str, Any], name: str) -> Any:
    """Return a member of S3's response, by boto's name.

    Raises:
        StoreRejected: the response lacks the member; it may come from a proxy instead of S3.
    """
    if name not in answer:
        raise StoreRejected(f"S3's response has no {name}.")
    return answer[name]


def quoted_etag(answer: Mapping[str, Any]) -> str:
    """Return the ETag of S3's response as a strong entity tag (RFC 9110, section 8.8.3).

    Some stores omit the quotes. A proxy that compresses marks an ETag as weak; S3's are strong, and the bytes under a
    key never change.

    Raises:
        StoreRejected: the response has no ETag.
    """
    etag = str(require(answer, "ETag")).strip()
    opaque = etag[2:] if etag[:2].upper() == "W/" else etag
    if not opaque.strip('"'):
        raise StoreRejected("S3's response has an empty ETag.")
    return '"' + opaque.strip('"') + '"'


def bare_etag(answer: Mapping[str, Any]) -> str:
    """Return the ETag of S3's response without quotes, as in receipts.

    Raises:
        StoreRejected: the response has no ETag.
    """
    return quoted_etag(answer).strip('"')


def check_crc32(sent: str, answered: str | None) -> None:
    """Compare the CRC-32 of the bytes sent with S3's, both in base64, if returned.

    Raises:
        StoreRejected: the checksums differ.
    """
    if answered is not None and answered != sent:
        raise StoreRejected(f"S3 stored other bytes than it received: their CRC-32 is {answered}, not {sent}.")


@dataclass(frozen=True, slots=True)
class Completed:
    """The object that S3 has made of an upload's parts, by its response.

    `etag` has no quotes, `encryption` is S3's encryption of the object, `crc32` the checksum of the parts' checksums.
    The latter two are None if the response lacks them.
    """

    etag: str
    encryption: str | None = None
    crc32: str | None = None

    @classmethod
    def from_s3(cls, answer: Mapping[str, Any]) -> Self:
        """Read the response to boto's `complete_multipart_upload`, or to a later `head_object`."""
        return cls(bare_etag(answer), answer.get("ServerSideEncryption"), answer.get("ChecksumCRC32"))

    def check(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Compare the object with the parts, in the order of the request to `complete_multipart_upload`.

        Raises:
            StoreRejected: the object lacks a part, or has another one.
        """
        check_multipart_etag(self.etag, [part["ETag"].strip('"') for part in parts], self.encryption)
        check_multipart_crc32(self.crc32, [part["ChecksumCRC32"] for part in parts])


def check_multipart_etag(answered: str, parts: Sequence[str], encryption: str | None) -> None:
    """Compare a completed upload's ETag with its parts' ETags, if those are MD5s.

    The ETag is then the MD5 of the parts' MD5s, `-`, and the number of parts. ETags of another form are not compared.

    Args:
        answered: the completed upload's ETag, without quotes.
        parts: the parts' ETags, in order, without quotes.
        encryption: the response's `ServerSideEncryption`, None if it has none.

    Raises:
        StoreRejected: the object lacks a part, or has another one.
    """
    if not _OF_PARTS.fullmatch(answered) or encryption in _OTHER_ENCRYPTION or not all(map(_MD5.fullmatch, parts)):
        return
    expected = f"{md5(b''.join(map(bytes.fromhex, parts)), usedforsecurity=False).hexdigest()}-{len(parts)}"
    if answered != expected:
        raise StoreRejected(f"S3 made a wrong object of the parts: its ETag is {answered}, not {expected}.")


def check_multipart_crc32(answered: str | None, parts: Sequence[str]) -> None:
    """Compare a completed upload's CRC-32 with its parts', in base64, if S3 returns one.

    It is the CRC-32 of the parts' CRC-32s, `-`, and the number of parts
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html). A CRC-32 without a
    number is that of the whole object, which the app never requests.

    Raises:
        StoreRejected: the object lacks a part, or has another one.
    """
    if answered is None or not _OF_PARTS.fullmatch(answered):
        return
    expected = f"{crc32_header(crc32(b''.join(map(b64decode, parts))))}-{len(parts)}"
    if answered != expected:
        raise StoreRejected(f"S3 made a wrong object of the parts: its CRC-32 is {answered}, not {expected}.")


def check_etag(sent: str, stored: str, parts: int) -> None:
    """Compare an upload's last ETag with the object's ETag, both without quotes.

    After an upload in parts, an object's ETag without a number of parts is ignored: rclone's is the MD5 of the object.

    Raises:
        StoreRejected: the ETags differ.
    """
    if sent != stored and (parts == 1 or _OF_PARTS.fullmatch(stored)):
        raise StoreRejected(f"S3 has another object than it reported: its ETag is {stored}, not {sent}.")


def check_size(sent: int, stored: int) -> None:
    """Compare the number of bytes sent with the object's size.

    Raises:
        StoreRejected: the sizes differ.
    """
    if sent != stored:
        raise StoreRejected(f"S3 stored {stored} bytes instead of {sent}.")
