"""Flows of several calls to S3, which yield calls and receive results or errors."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import IO, Any, TypeVar

from filehandoff import logs
from filehandoff.errors import (
    BucketMissing,
    ObjectMissing,
    RangeNotSatisfiable,
    StoreRejected,
    StoreUnavailable,
    UploadError,
    UploadGone,
)
from filehandoff.http import ObjectInfo, clamp
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.s3.calls import Answer, Flow, Page, SentPart
from filehandoff.s3.cleanup import Undo
from filehandoff.s3.context import Context
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed, check_etag, check_size, is_md5, require

T = TypeVar("T")

logger = logging.getLogger(__name__)


def create(service: Context, incoming: Incoming, hook: Any, metadata: dict[str, str] | None = None) -> Flow[str]:
    """Create a multipart upload, return its id, and abort uploads of earlier attempts.

    Raises:
        StoreRejected: the response has no id.
    """
    created = yield from calls.create_multipart(incoming, hook, metadata)
    if created.retried:
        abort = partial(abort_lost, service, incoming.key, created.upload_id)
        try:
            yield from abort()
        except Exception as error:  # noqa: BLE001 - also MemoryError: every upload must be undone
            service.metrics.undo_failures.inc()
            logger.warning(
                "an earlier attempt for '%s' may have left an upload in S3: %s", incoming.key, error.__cause__ or error
            )
            service.cleanup.later(abort, logs.bound_id(), incoming.key)
    return str(require({} if created.upload_id is None else {"UploadId": created.upload_id}, "UploadId"))


def complete(key: str, upload_id: str, parts: list[SentPart]) -> Flow[Completed]:
    """Make one object of the parts, and recognize an upload that was completed already.

    If the response to a first attempt was lost, some stores respond to the second that the upload is gone. The upload
    was completed if the object exists, because no other upload has its key.

    Raises:
        UploadGone: neither the upload nor the object exists.
    """
    try:
        return (yield from calls.complete_multipart(key, upload_id, parts))
    except UploadGone as gone:
        try:
            return (yield from calls.head_completed(key))
        except ObjectMissing:
            raise gone from None


def put(
    incoming: Incoming, size: int, body: "Part | IO[bytes]", crc32: int, hook: Any, *, only_new: bool = False
) -> Flow[str]:
    """Store a file of `size` bytes, and return its ETag without quotes.

    The response proves that S3 has the bytes sent by their CRC-32, or by an ETag that is their MD5. If it has neither,
    as under encryption by KMS in some stores, one more call confirms the object.

    Raises:
        Exists: with `only_new`, the key has an object already.
        StoreRejected: the object is missing or differs.
    """
    stored = yield from calls.put_object(incoming, body, crc32, hook, only_new=only_new)
    proven = stored.checked or (is_md5(stored.etag) and stored.etag == (yield from calls.Md5(body)))
    if not proven:
        yield from confirm(incoming.key, size, stored.etag, parts=1)
    return stored.etag


def confirm(key: str, size: int, etag: str, parts: int) -> Flow[None]:
    """Compare the object's size in bytes and its ETag with those of the sent file.

    Raises:
        StoreRejected: the object is missing or differs.
    """
    try:
        info = yield from calls.head_object(key)
    except ObjectMissing as error:
        raise StoreRejected("S3 does not have the object that it confirmed.") from error
    check_size(size, info.length)
    check_etag(etag, info.etag.strip('"'), parts)


def exists(key: str) -> Flow[bool]:
    """Return whether the object exists."""
    try:
        yield from calls.head_object(key)
    except ObjectMissing:
        return False
    return True


def get(key: str, byte_range: str | None) -> Flow[tuple[ObjectInfo, Any]]:
    """Return an object's headers and body for a download; the caller must close the body.

    Some stores reject a range that ends after the object, so a rejected range is cut to the object's length.

    Raises:
        ObjectMissing: there is no such object.
        RangeNotSatisfiable: the range begins after the object's end.
    """
    try:
        return (yield from calls.get_object(key, byte_range, "downloads"))
    except RangeNotSatisfiable as error:
        assert byte_range is not None
        length = (yield from calls.head_object(key)).length
        clamped = clamp(byte_range, length)
        if clamped is None or clamped == byte_range:
            raise _outside(length) from error
    try:
        return (yield from calls.get_object(key, clamped, "downloads"))
    except RangeNotSatisfiable as error:
        raise StoreRejected("S3 rejects a range within the object.") from error


def _outside(length: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(f"The object has {length} bytes.", headers={"Content-Range": f"bytes */{length}"})


def list_parts(key: str, upload_id: str) -> Flow[list[Answer]]:
    """Return all parts of a multipart upload, in order.

    Raises:
        UploadGone: S3 has no such upload.
    """
    return (yield from all_pages(lambda following: calls.list_parts(key, upload_id, following)))


def unfinished_uploads(bucket: str, prefix: str) -> Flow[list[Unfinished]]:
    """Return all unfinished multipart uploads below a prefix, also those of other programs.

    Raises:
        BucketMissing: there is no such bucket.
    """
    try:
        return (yield from all_pages(lambda following: calls.list_multipart_uploads(prefix, bucket, following)))
    except UploadGone:
        return []


def all_pages(list_page: "Any") -> Flow[list[T]]:
    """Return the entries of all pages.

    Raises:
        StoreRejected: a page names an earlier page as the next one; without this check the list would never end.
    """
    entries: list[T] = []
    requested: list[Mapping[str, Any]] = [{}]
    while True:
        page: Page[T] = yield from list_page(requested[-1])
        entries.extend(page.entries)
        if not page.following:
            return entries
        if page.following in requested:
            raise StoreRejected("S3 repeats a page of a list.")
        requested.append(page.following)


def abort(service: Context, key: str, upload_id: str) -> Flow[bool]:
    """Abort a multipart upload; return whether it existed."""
    try:
        yield from calls.abort_multipart(key, upload_id)
    except UploadGone:
        return False
    service.metrics.aborts.inc()
    return True


def abort_lost(service: Context, key: str, known: str | None = None) -> Flow[None]:
    """Abort all uploads of a key but the known one: their ids were lost."""
    for upload in (yield from unfinished_uploads(service.settings.bucket, key)):
        if upload.upload_id != known:
            yield from abort(service, upload.key, upload.upload_id)


def remove(service: Context, key: str) -> Flow[None]:
    """Delete the object of a key, and abort all unfinished uploads of the key."""
    yield from calls.delete_object(key)
    yield from abort_lost(service, key)


def undo_or_later(service: Context, undo: Undo, request_id: str, key: str) -> Flow[None]:
    """Undo an upload; on failure, pass the undo to the cleanup."""
    try:
        yield from undo()
    except Exception as error:  # noqa: BLE001 - also MemoryError: every upload must be undone
        service.metrics.undo_failures.inc()
        logger.error("an upload could not be removed yet: %s", error.__cause__ or error)  # noqa: TRY400 - an unavailable store would add a traceback per request
        service.cleanup.later(undo, request_id, key)
    except BaseException:  # the task is cancelled
        service.cleanup.later(undo, request_id, key)
        raise


def ready(bucket: str) -> Flow[None]:
    """Check within a second that S3 gives access to the bucket.

    Raises:
        StoreUnavailable: S3 does not respond, or gives no access to the bucket.
    """
    try:
        yield from calls.head_bucket(bucket)
    except BucketMissing as error:
        raise StoreUnavailable(f"S3 has no bucket '{bucket}'.") from error


def check_bucket(bucket: str) -> Flow[bool]:
    """Check the bucket before the first request; return whether it is available.

    A store that does not respond may still start, so this only logs the error.

    Raises:
        BucketMissing: there is no such bucket.
    """
    try:
        yield from calls.head_bucket(bucket)
    except UploadError as error:
        logger.warning("the bucket '%s' is not available yet: %s", bucket, error.__cause__ or error)
        return False
    return True
