"""`presigned`: the client sends the file to S3 itself, by a URL that is good for this one file.

Choose it when the bytes need not pass through your app: for files too large or too many for it, near a client far from
you. Costs neither memory nor disk nor time of a worker, until the file is read back: only that shows what S3 holds.
The trap: the URL outlives the upload, and what each store checks of it differs, so sign everything that is known, and
believe nothing before it was read back. The client's signature must be of version 4 (`Config(signature_version=
"s3v4")`): boto's default for URLs binds no length, no type, no metadata.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def hand_off(s3: "S3Client", call: Mapping[str, Any], seconds: int) -> str:
    """A URL for one `put_object` with these parameters, good for so many seconds.

    The client must send, exactly, what of them is a header: ContentLength, ContentType, Metadata, IfNoneMatch="*"
    (which keeps the URL from storing twice) and ChecksumSHA256 (which keeps other bytes from being stored).
    """
    return s3.generate_presigned_url("put_object", Params=call, ExpiresIn=seconds)


def hand_off_part(s3: "S3Client", call: Mapping[str, Any], seconds: int) -> str:
    """A URL for one `upload_part`, with its ContentLength."""
    return s3.generate_presigned_url("upload_part", Params=call, ExpiresIn=seconds)


def read_back(body: Iterable[bytes]) -> tuple[int, str]:
    """The size and the SHA-256 of what the client has sent, by the bytes of the object as `get_object` gives them."""
    size, sha256 = 0, hashlib.sha256()
    for chunk in body:
        size += len(chunk)
        sha256.update(chunk)
    return size, sha256.hexdigest()
