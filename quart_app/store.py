"""The S3 client: put, the calls of a multipart upload, head, get, delete; owns the client's life.

What S3 says no to becomes one of our errors here and nowhere else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any, cast

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.response import StreamingBody
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, UnseekableStreamError

from handoff.digest import crc32_header
from handoff.errors import (
    BucketMissing,
    ObjectMissing,
    RangeNotSatisfiable,
    StoreUnavailable,
    UploadError,
    from_store_answer,
)
from handoff.http import ObjectInfo
from handoff.parts import Part
from handoff.receipt import Incoming
from handoff.settings import Settings
from handoff.sweep import Unfinished
from handoff.verify import check_crc32, check_multipart_etag
from quart_app.hooks import Hook
from quart_app.payload import FileBody, PartBody

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)

#: /readyz answers within a second.
PROBE_TIMEOUT = 0.9
READ_BYTES = 256 * 1024

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


class Store:
    """One bucket, by one client for the whole process; safe to use from many tasks."""

    _client: "S3Client"
    _probe: "S3Client"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._exits = AsyncExitStack()

    async def open(self) -> None:
        """Make the clients; registers the one permanent handler that calls each upload's own hook."""
        self._client = await self._exits.enter_async_context(self.new_client())
        probe = _client(self.settings, PROBE_TIMEOUT, PROBE_TIMEOUT, attempts=1)
        self._probe = await self._exits.enter_async_context(probe)
        for operation in ("PutObject", "CreateMultipartUpload"):
            self._client.meta.events.register(f"before-parameter-build.s3.{operation}", _run_hook)  # type: ignore[arg-type] # the stubs do not know that aiobotocore awaits

    def new_client(self) -> "AbstractAsyncContextManager[S3Client]":
        """A client of the caller's own, without our handler."""
        settings = self.settings
        return _client(settings, settings.s3_connect_timeout, settings.s3_read_timeout, settings.s3_attempts)

    async def put(self, incoming: Incoming, body: IO[bytes], crc32: int, hook: Hook) -> str:
        """Store a file by one put and answer its ETag; S3 refuses it if the bytes it gets have another CRC-32."""
        checksum = crc32_header(crc32)
        with store_errors(), calling(hook):
            answer = await self._client.put_object(
                Bucket=self.settings.bucket,
                Key=incoming.key,
                Body=cast("IO[bytes]", FileBody(body, self.settings.s3_read_timeout)),
                ContentType=incoming.content_type,
                Metadata=incoming.metadata(),
                ChecksumCRC32=checksum,
            )
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return answer["ETag"].strip('"')

    async def create_multipart(self, incoming: Incoming, hook: Hook) -> str:
        """Begin a multipart upload and answer its id; what an earlier try of the same call began is aborted."""
        with store_errors(), calling(hook):
            answer = await self._client.create_multipart_upload(
                Bucket=self.settings.bucket,
                Key=incoming.key,
                ContentType=incoming.content_type,
                Metadata=incoming.metadata(),
                ChecksumAlgorithm="CRC32",
            )
        if answer["ResponseMetadata"].get("RetryAttempts"):
            try:
                await self.abort_lost(incoming.key, answer["UploadId"])
            except UploadError as error:
                logger.warning("a first try of '%s' may be unfinished in S3: %s", incoming.key, error.__cause__)
        return answer["UploadId"]

    async def upload_part(self, key: str, upload_id: str, part: Part, crc32: int) -> "CompletedPartTypeDef":
        """Send one part, straight from the chunks it came in; S3 refuses it if what it gets has another CRC-32."""
        checksum = crc32_header(crc32)
        with store_errors(), PartBody(part, self.settings.s3_read_timeout) as body:
            answer = await self._client.upload_part(
                Bucket=self.settings.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=part.number,
                Body=cast("IO[bytes]", body),
                ContentLength=part.size,
                ChecksumCRC32=checksum,
            )
        check_crc32(checksum, answer.get("ChecksumCRC32"))
        return {"PartNumber": part.number, "ETag": answer["ETag"], "ChecksumCRC32": checksum}

    async def complete_multipart(self, key: str, upload_id: str, parts: "list[CompletedPartTypeDef]") -> str:
        """Make one object of the parts, given in order, and answer its ETag."""
        with store_errors():
            answer = await self._client.complete_multipart_upload(
                Bucket=self.settings.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        etag = answer["ETag"].strip('"')
        check_multipart_etag(etag, [part["ETag"].strip('"') for part in parts], answer.get("ServerSideEncryption"))
        return etag

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """End a multipart upload without an object; one that is gone already is as good."""
        with store_errors():
            try:
                await self._client.abort_multipart_upload(Bucket=self.settings.bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchUpload":
                    raise

    async def abort_lost(self, key: str, known: str | None = None) -> None:
        """Abort what S3 began for this key without our learning of it, its answer lost: all but the known one."""
        for upload in await self.unfinished_uploads(key):
            if upload.upload_id != known:
                await self.abort_multipart(upload.key, upload.upload_id)

    async def unfinished_uploads(self, prefix: str) -> list[Unfinished]:
        """The multipart uploads below this prefix that were neither completed nor aborted, whoever began them.

        Raises:
            BucketMissing: there is no such bucket.
        """
        bucket = self.settings.bucket
        with store_errors():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            try:
                return [Unfinished.from_s3(entry) async for page in pages for entry in page.get("Uploads", [])]
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "NoSuchBucket":
                    raise BucketMissing(bucket) from None
                if code == "NoSuchUpload":  # how rclone says that there are none
                    return []
                raise

    async def head(self, key: str) -> ObjectInfo:
        """What is known of an object.

        Raises:
            ObjectMissing: there is none.
        """
        with store_errors():
            return ObjectInfo.from_s3(key, await self._client.head_object(Bucket=self.settings.bucket, Key=key))

    async def get(self, key: str, byte_range: str | None) -> tuple[ObjectInfo, StreamingBody]:
        """An object, or one range of it, with its bytes still to be read: whoever gets them closes them.

        Raises:
            ObjectMissing: there is none.
            RangeNotSatisfiable: the range begins after its end.
        """
        wanted = {"Range": byte_range} if byte_range else {}
        with store_errors():
            try:
                answer = await self._client.get_object(Bucket=self.settings.bucket, Key=key, **wanted)  # type: ignore[arg-type] # a dict of one optional keyword
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != RangeNotSatisfiable.status:
                    raise
                length = (await self.head(key)).length
                raise RangeNotSatisfiable(
                    f"The object has {length} bytes.", headers={"Content-Range": f"bytes */{length}"}
                ) from error
        return ObjectInfo.from_s3(key, answer), answer["Body"]

    async def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is as good."""
        with store_errors():
            await self._client.delete_object(Bucket=self.settings.bucket, Key=key)

    async def ready(self) -> None:
        """Ask S3 for the bucket, within a second.

        Raises:
            StoreUnavailable: it does not answer, or not for this bucket.
        """
        with store_errors():
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await self._probe.head_bucket(Bucket=self.settings.bucket)
            except TimeoutError as error:
                raise StoreUnavailable("S3 did not answer within a second.") from error
            except ClientError as error:
                raise StoreUnavailable(f"S3 does not give us the bucket '{self.settings.bucket}'.") from error

    async def check_bucket(self) -> None:
        """Look for the bucket before the first request.

        Raises:
            BucketMissing: S3 says that there is none. An S3 that says nothing may still come up: that is only logged.
        """
        try:
            await self._probe.head_bucket(Bucket=self.settings.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == ObjectMissing.status:
                raise BucketMissing(self.settings.bucket) from None
            logger.warning("S3 answers, but not for bucket '%s': %s", self.settings.bucket, error)
        except BotoCoreError as error:
            logger.warning("the bucket could not be looked for yet: %s", error)

    async def close(self) -> None:
        """Close the connections to S3."""
        await self._exits.aclose()


async def read_body(body: StreamingBody) -> AsyncIterator[bytes]:
    """An object's bytes in chunks; closes the answer at its end, or where the reader stops."""
    try:
        async for chunk in body.iter_chunks(READ_BYTES):
            yield chunk
    finally:
        body.close()


@contextmanager
def calling(hook: Hook) -> Iterator[None]:
    """Let the client's one permanent handler call this hook, in this task only.

    A handler registered for each request would be called for other requests as well: they share the client.
    """
    token = _hook.set(hook)
    try:
        yield
    finally:
        _hook.reset(token)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what boto raises into our errors."""
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = error.response["Error"]
        raise from_store_answer(status, answer.get("Code", ""), answer.get("Message", "")) from error
    except (ParamValidationError, UnseekableStreamError):
        raise  # ours to mend: what was to be sent cannot be
    except BotoCoreError as error:
        raise StoreUnavailable("S3 did not answer. Nothing was stored; try again later.") from error


async def _run_hook(**event: Any) -> None:
    hook = _hook.get()
    if hook is not None:
        await hook(**event)


def _expect_nothing(request: Any, **_event: Any) -> None:
    """Send no `Expect: 100-continue`: aiohttp waits without end for a store that does not say so."""
    request.headers.pop("Expect", None)


def _client(
    settings: Settings, connect_timeout: float, read_timeout: float, attempts: int
) -> "AbstractAsyncContextManager[S3Client]":
    config = AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=settings.max_concurrent * settings.parts_in_flight,
        # We give a CRC-32 with every body, so boto need not read it once more to sign it, on the event loop at that.
        s3={"payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = aioboto3.Session()
    for operation in ("PutObject", "UploadPart"):
        session.events.register(f"before-send.s3.{operation}", _expect_nothing)
    return session.client("s3", endpoint_url=settings.s3_endpoint_url, config=config)
