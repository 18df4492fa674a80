"""`presigned`: the client sends its file to S3 by a URL for this one file.

Choose it when the bytes need not pass through your app: for large files, many files, or clients far from your servers.
Cost: no memory, no disk, and no worker's time for the upload. Reading the object back takes time, but nothing else
verifies the bytes in S3.
Trap: the URL outlives the upload, and stores differ in the parameters that they check. Sign every parameter that you
know, and trust no object before you have read it back. Use a client with signature version 4
(`Config(signature_version="s3v4")`): boto's default for URLs signs no length, no type and no metadata.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


async def hand_off(s3: "S3Client", call: Mapping[str, Any], seconds: int) -> str:
    """Return a URL for one `put_object` with these parameters, valid for `seconds`.

    The client must send these of them as headers, unchanged: ContentLength, ContentType, Metadata, IfNoneMatch="*" (the
    URL then stores only once) and ChecksumSHA256 (S3 then rejects other bytes).
    """
    return await s3.generate_presigned_url("put_object", Params=call, ExpiresIn=seconds)


async def hand_off_part(s3: "S3Client", call: Mapping[str, Any], seconds: int) -> str:
    """Return a URL for one `upload_part` with its ContentLength, valid for `seconds`."""
    return await s3.generate_presigned_url("upload_part", Params=call, ExpiresIn=seconds)


async def read_back(body: AsyncIterable[bytes]) -> tuple[int, str]:
    """Return the size and the SHA-256 of the bytes that `get_object` gives."""
    size, sha256 = 0, hashlib.sha256()
    async for chunk in body:
        size += len(chunk)
        await asyncio.to_thread(sha256.update, chunk)
    return size, sha256.hexdigest()
