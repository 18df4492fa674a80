"""The hand-off `presigned` around its URLs: what a client is given, and what becomes of what it has sent."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from filehandoff.errors import (
    DigestMismatch,
    ObjectMissing,
    SizeMismatch,
    StoreRejected,
    StoreUnavailable,
    TypeMismatch,
    UploadGone,
)
from filehandoff.keys import new_key
from filehandoff.presigned import (
    Promise,
    Reading,
    Upload,
    Wanted,
    expiry,
    media_type,
    part_lengths,
    parts_answer,
    put_answer,
    put_headers,
    sha256_header,
)
from filehandoff.receipt import Incoming, Stored, Way
from filehandoff.verify import quoted_etag
from quart_app.handoffs.presigned import hand_off, hand_off_part, read_back
from quart_app.hooks import Hook
from quart_app.store import Store, read_body, store_errors
from quart_app.uploads import to_the_end

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import PartTypeDef

logger = logging.getLogger(__name__)


async def begin(store: Store, wanted: Wanted, way: Way, hook: Hook) -> dict[str, object]:
    """What the client needs to send the file: one URL, or the first page of those of its parts."""
    key = new_key(store.settings.key_prefix, wanted.filename)
    incoming = Incoming(key, wanted.filename, wanted.content_type, wanted.sha256)
    count = len(part_lengths(wanted.size, store.settings.part_bytes))
    kind = media_type(wanted.content_type)
    promise = Promise(wanted.size, count, wanted.sha256, way.hook, way.request_id, kind)
    metadata = promise.metadata(store.seal, incoming)
    if count == 1:
        return await _give_put(store, incoming, promise, metadata, hook)
    try:
        upload_id = await to_the_end(store.create_multipart(incoming, hook, metadata))
        upload = Upload(key, upload_id, wanted.size, store.settings.part_bytes)
        return await give_parts(store, upload, after=0, etags={})
    except BaseException:
        await to_the_end(_undo(store, partial(store.abort_lost, key), way.request_id, key))
        raise


async def _give_put(
    store: Store, incoming: Incoming, promise: Promise, metadata: dict[str, str], hook: Hook
) -> dict[str, object]:
    call: dict[str, Any] = {
        "Bucket": store.settings.bucket,
        "Key": incoming.key,
        "ContentLength": promise.size,
        "ContentType": incoming.content_type,
        "IfNoneMatch": "*",
        "Metadata": metadata,  # which the hook adds to
    }
    if promise.sha256 is not None:
        call["ChecksumSHA256"] = sha256_header(promise.sha256)
    now, seconds = datetime.now(UTC), store.settings.presign_seconds
    with store.signing(hook) as s3:
        url = await hand_off(s3, call, int(seconds))
    headers = put_headers(incoming, metadata)
    return put_answer(incoming, promise.size, url, headers, store.settings.root_path) | expiry(now, seconds)


async def list_parts(store: Store, upload: Upload, after: int) -> dict[str, object]:
    """The parts that follow part `after`, one page of them: their URLs, and the ETags of those that S3 has.

    Raises:
        ObjectMissing: the upload was completed or aborted.
    """
    try:
        listed = await store.list_parts(upload.key, upload.upload_id)
    except UploadGone as error:
        raise _ended() from error
    return await give_parts(store, upload, after, upload.etags(listed))


async def abort(store: Store, upload: Upload) -> None:
    """End an upload in parts without an object; its URLs store nothing from then on.

    Raises:
        ObjectMissing: the upload was completed or aborted before.
    """
    if not await store.abort_multipart(upload.key, upload.upload_id):
        raise _ended()


async def give_parts(store: Store, upload: Upload, after: int, etags: dict[int, str]) -> dict[str, object]:
    """The URLs of the parts that follow part `after`, one page of them."""
    page, seconds = upload.page(after), store.settings.presign_seconds
    call = {"Bucket": store.settings.bucket, "Key": upload.key, "UploadId": upload.upload_id}
    now = datetime.now(UTC)
    with store.signing() as s3:
        urls = []
        for number, size in page:
            urls.append(await hand_off_part(s3, {**call, "PartNumber": number, "ContentLength": size}, int(seconds)))
            await asyncio.sleep(0)  # signing takes half a millisecond each, and awaits nothing
    return parts_answer(store.seal, upload, page, urls, etags, store.settings.root_path) | expiry(now, seconds)


async def complete(store: Store, key: str, upload: Upload | None, request_id: str) -> tuple[Stored, Promise]:
    """What the client has sent, once it was read back and is what was promised; it is removed if it is not.

    Complete a second time, it is read back once more. What S3 does not let us undo is undone later.

    Raises:
        ObjectMissing: nothing has been sent, or not by this hand-off.
        SizeMismatch, DigestMismatch: something else was.
        TypeMismatch: it was, under another type; nothing was removed.
        StoreUnavailable: S3 says one thing and then another; nothing was removed.
    """
    if upload is not None and not await _exists(store, key):
        await to_the_end(_assemble(store, upload, request_id))
    return await _believe(store, partial(_read, store, key), request_id)


async def _believe(
    store: Store, read: Callable[[], Awaitable[Reading]], request_id: str, before: Reading | None = None
) -> tuple[Stored, Promise]:
    """The file that was read back, or what it is instead, for which it takes a second reading that sees the same."""
    reading = await read()
    try:
        return reading.stored(store.seal)
    except (SizeMismatch, DigestMismatch, TypeMismatch) as error:
        if before is None:
            return await _believe(store, read, request_id, before=reading)
        if reading != before:
            raise StoreUnavailable("S3 gave two different files for one; complete it again.") from None
        if not isinstance(error, TypeMismatch):  # the bytes are right
            await to_the_end(_undo(store, partial(_remove, store, reading), request_id, reading.key))
        raise


async def _read(store: Store, key: str) -> Reading:
    info, body = await store.read(key)
    reading = Reading(key, info)
    with closing(body):
        if reading.may_be_the_file(store.seal):
            with store_errors("S3 broke off while the file was read back; complete it again."):
                size, sha256 = await read_back(read_body(body))
                return replace(reading, size=size, sha256=sha256)
    return reading


async def _assemble(store: Store, upload: Upload, request_id: str) -> None:
    """Make one object of the parts that were sent; that somebody else has done so meanwhile is as good."""
    try:
        await _join(store, upload, request_id)
    except UploadGone as error:
        if not await _exists(store, upload.key):
            await _undo(store, partial(store.abort_lost, upload.key), request_id, upload.key)
            raise _ended() from error


async def _join(store: Store, upload: Upload, request_id: str, before: "list[PartTypeDef] | None" = None) -> None:
    """Have S3 make the object; it is aborted only if S3 lists the same parts twice, and they are not the file's."""
    parts = await store.list_parts(upload.key, upload.upload_id)
    try:
        upload.check([(part["PartNumber"], part["Size"]) for part in parts])
        # What S3 says of the object need not be compared: it is read back.
        named = [{"PartNumber": part["PartNumber"], "ETag": quoted_etag(part)} for part in parts]
        await store.complete_multipart(upload.key, upload.upload_id, named)  # type: ignore[arg-type] # a dict is a TypedDict
    except UploadGone:
        raise
    except (SizeMismatch, StoreRejected):
        if before is None:
            await _join(store, upload, request_id, before=parts)
            return
        if parts != before:
            raise StoreUnavailable("S3 listed the parts in two different ways; complete it again.") from None
        await _undo(store, partial(store.abort_multipart, upload.key, upload.upload_id), request_id, upload.key)
        raise


def _ended() -> ObjectMissing:
    return ObjectMissing("S3 has no such upload: it was completed or aborted.")


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectMissing:
        return False
    return True


async def _remove(store: Store, reading: Reading) -> None:
    """Remove the object that was read, and no other that has come to be there since."""
    try:
        info = await store.head(reading.key)
    except ObjectMissing:
        return
    if info.etag == reading.info.etag:
        await store.delete(reading.key)


async def _undo(store: Store, undo: Callable[[], Awaitable[object]], request_id: str, key: str) -> None:
    """Undo something of this object, or have it undone later."""
    try:
        await undo()
    except Exception as error:  # noqa: BLE001 - also a want of memory must lose no upload
        store.metrics.undo_failures.inc()
        logger.error("an upload could not be undone yet: %s", error.__cause__ or error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        store.undoing.later(undo, request_id, key)
