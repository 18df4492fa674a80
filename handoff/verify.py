"""What S3 answers, compared with what it was sent: an object that is not the file is no upload.

S3 itself compares the CRC-32 that every put and part goes with. These are the checks of its answers, for stores that
say more than they check, and for what gets lost between the parts and the object.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any

from handoff.errors import StoreRejected

#: An ETag that is the MD5 of what was sent (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html): not so
#: with encryption by KMS or by the client's own key, whose ETags have the same form.
_MD5 = re.compile(r"[0-9a-f]{32}")
_OTHER_ENCRYPTION = frozenset({"aws:kms", "aws:kms:dsse", "customer"})


def told(answer: Mapping[str, Any], name: str) -> Any:
    """What an answer of S3's says under this name of boto's.

    Raises:
        StoreRejected: nothing, though it is a success; it may come from something else than S3, such as a proxy.
    """
    if name not in answer:
        raise StoreRejected(f"S3 answered without {name}.")
    return answer[name]


def check_crc32(sent: str, answered: str | None) -> None:
    """Compare the checksum of what was sent with that of what was stored, in base64, where S3 answers one.

    Raises:
        StoreRejected: they differ.
    """
    if answered is not None and answered != sent:
        raise StoreRejected(f"S3 stored other bytes than it was sent: their CRC-32 is {answered}, not {sent}.")


def check_multipart_etag(answered: str, parts: Sequence[str], encryption: str | None) -> None:
    """Compare a completed upload's ETag with its parts' ETags, in order, all without quotes, where they are MD5s.

    It is then the MD5 of the parts' MD5s, `-`, and their number. Stores that answer something else are not compared.

    Args:
        answered: the completed upload's.
        parts: those that S3 answered for each part.
        encryption: how S3 encrypts the object: what it answers as `ServerSideEncryption`, None if nothing.

    Raises:
        StoreRejected: parts are missing in the object, or others are in it.
    """
    whole, _, number = answered.partition("-")
    if not number or encryption in _OTHER_ENCRYPTION or not all(map(_MD5.fullmatch, (whole, *parts))):
        return
    expected = md5(b"".join(map(bytes.fromhex, parts)), usedforsecurity=False).hexdigest()
    if (whole, number) != (expected, str(len(parts))):
        raise StoreRejected(
            f"S3 made another object of the parts: its ETag is {answered}, not {expected}-{len(parts)}."
        )


def check_size(sent: int, stored: int) -> None:
    """Compare the number of bytes that were sent with that of the object.

    Raises:
        StoreRejected: they differ.
    """
    if sent != stored:
        raise StoreRejected(f"S3 stored {stored} bytes of the {sent} that it was sent.")
