"""The hand-off `presigned` around its URLs: what a client is given, and what becomes of what it has sent."""

import asyncio
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiobotocore.response import StreamingBody
from aiohttp import ClientError

from handoff.errors import (
    BucketMissing,
    DigestMismatch,
    ObjectMissing,
    SizeMismatch,
    StoreRejected,
    StoreUnavailable,
    UploadError,
)
from handoff.keys import new_key
from handoff.presigned import (
    Promise,
    Upload,
    Wanted,
    expiry,
    part_lengths,
    parts_answer,
    put_answer,
    put_headers,
    sha256_header,
)
from handoff.receipt import Incoming, Stored, Way
from quart_app.handoffs.presigned import hand_off, hand_off_part, read_back
from quart_app.hooks import Hook
from quart_app.store import Store, read_body, store_errors
from quart_app.uploads import to_the_end

logger = logging.getLogger(__name__)


async def begin(store: Store, wanted: Wanted, way: Way, hook: Hook) -> dict[str, object]:
    """What the client needs to send the file: one URL, or the first page of those of its parts."""
    key = new_key(store.settings.key_prefix, wanted.filename)
    incoming = Incoming(key, wanted.filename, wanted.content_type, wanted.sha256)
    count = len(part_lengths(wanted.size, store.settings.part_sizes))
    promise = Promise(wanted.size, count, wanted.sha256, way.hook, way.request_id)
    metadata = promise.metadata(store.seal, incoming)
    if count == 1:
        return await _give_put(store, incoming, promise, metadata, hook)
    try:
        upload_id = await to_the_end(store.create_multipart(incoming, hook, metadata))
        return await give_parts(store, Upload(key, upload_id, wanted.size), after=0)
    except BaseException:
        await to_the_end(_abort(store, key, way.request_id))
        raise


async def _give_put(
    store: Store, incoming: Incoming, promise: Promise, metadata: dict[str, str], hook: Hook
) -> dict[str, object]:
    call: dict[str, Any] = {
        "Bucket": store.settings.bucket,
        "Key": incoming.key,
        "ContentLength": promise.size,
        "ContentType": incoming.content_type,
        "ChecksumSHA256": sha256_header(promise.sha256),
        "IfNoneMatch": "*",
        "Metadata": metadata,  # which the hook adds to
    }
    now, seconds = datetime.now(UTC), store.settings.presign_seconds
    with store.signing(hook) as s3:
        url = await hand_off(s3, call, int(seconds))
    headers = put_headers(incoming, metadata, promise.sha256)
    return put_answer(incoming, promise.size, url, headers) | expiry(now, seconds)


async def give_parts(store: Store, upload: Upload, after: int) -> dict[str, object]:
    """The URLs of the parts that follow part `after`, one page of them."""
    sizes, seconds = store.settings.part_sizes, store.settings.presign_seconds
    page = upload.lengths(sizes, after)
    call = {"Bucket": store.settings.bucket, "Key": upload.key, "UploadId": upload.upload_id}
    now = datetime.now(UTC)
    with store.signing() as s3:
        urls = []
        for number, size in page:
            urls.append(await hand_off_part(s3, {**call, "PartNumber": number, "ContentLength": size}, int(seconds)))
            await asyncio.sleep(0)  # signing takes half a millisecond each, and awaits nothing
    return parts_answer(store.seal, upload, page, urls, len(part_lengths(upload.size, sizes))) | expiry(now, seconds)


async def complete(store: Store, key: str, upload: Upload | None) -> tuple[Stored, Promise]:
    """What the client has sent, once it was read back and is what was promised; it is removed if it is not.

    Complete a second time, it is read back once more.

    Raises:
        ObjectMissing: nothing has been sent, or not by this hand-off.
        SizeMismatch, DigestMismatch: something else was.
    """
    if upload is not None and not await _exists(store, key):
        await to_the_end(_assemble(store, upload))
    info, body = await store.get(key, None)
    try:
        promise, incoming = Promise.of(store.seal, key, info.content_type, info.metadata)
        promise.check_size(info.length)
        size, sha256 = await _read_back(body)
        promise.check(size, sha256)
    except (SizeMismatch, DigestMismatch):
        await to_the_end(store.delete(key))
        raise
    finally:
        body.close()
    return Stored(incoming, size, sha256, info.etag.strip('"'), promise.parts), promise


async def _read_back(body: StreamingBody) -> tuple[int, str]:
    silence = "S3 broke off while the file was read back; complete it again."
    with store_errors(silence):
        try:
            return await read_back(read_body(body))
        except ClientError as error:  # aiobotocore makes boto's errors of a few of these alone
            raise StoreUnavailable(silence) from error


async def _assemble(store: Store, upload: Upload) -> None:
    """Make one object of the parts that were sent."""
    parts = await store.list_parts(upload.key, upload.upload_id)
    try:
        upload.check([(part["PartNumber"], part["Size"]) for part in parts])
        completed = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
        await store.complete_multipart(upload.key, upload.upload_id, completed)  # type: ignore[arg-type] # a dict is a TypedDict
    except (SizeMismatch, StoreRejected):
        await store.abort_multipart(upload.key, upload.upload_id)
        await store.delete(upload.key)
        raise


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectMissing:
        return False
    return True


async def _abort(store: Store, key: str, request_id: str) -> None:
    try:
        await store.abort_lost(key)
    except (UploadError, BucketMissing) as error:
        store.metrics.undo_failures.inc()
        logger.error("an upload could not be undone yet: %s", error.__cause__)  # noqa: TRY400 - a store that is down needs no traceback for each request
        store.undoing.later(partial(store.abort_lost, key), request_id, key)
