"""What takes several calls to S3: each flow yields its calls, gets their results or errors, and returns a result."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

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
from filehandoff.receipt import Incoming, Stored
from filehandoff.s3 import calls
from filehandoff.s3.calls import Answer, Flow, Page, SentPart
from filehandoff.s3.cleanup import Undo
from filehandoff.s3.context import Context
from filehandoff.sweep import Unfinished
from filehandoff.verify import Completed, check_etag, check_size, require

logger = logging.getLogger(__name__)


def create(service: Context, incoming: Incoming, hook: Any, metadata: dict[str, str] | None = None) -> Flow[str]:
    """Begin a multipart upload, return its id, and abort what an earlier try of the same call began.

    Raises:
        StoreRejected: S3 answers without an id.
    """
    created = yield from calls.create_multipart(incoming, hook, metadata)
    if created.retried:
        abort = partial(abort_lost, service, incoming.key, created.upload_id)
        try:
            yield from abort()
        except Exception as error:  # noqa: BLE001 - too little memory must lose no upload either
            service.metrics.undo_failures.inc()
            logger.warning("a first try of '%s' may be unfinished in S3: %s", incoming.key, error.__cause__ or error)
            service.cleanup.later(abort, logs.bound_id(), incoming.key)
    return str(require({} if created.upload_id is None else {"UploadId": created.upload_id}, "UploadId"))


def complete(key: str, upload_id: str, parts: list[SentPart]) -> Flow[Completed]:
    """Make one object of the parts, and recognize an upload that was completed already.

    Where the answer to a first try was lost, some stores answer the second one that the upload is gone. If the object
    is there, the upload was completed, because nothing else has its key.

    Raises:
        UploadGone: there is neither the upload nor the object.
    """
    try:
        return (yield from calls.complete_multipart(key, upload_id, parts))
    except UploadGone as gone:
        try:
            return (yield from calls.head_completed(key))
        except ObjectMissing:
            raise gone from None


def confirm(stored: Stored) -> Flow[None]:
    """Compare the object with the file that was sent.

    Raises:
        StoreRejected: S3 has no object, or another one.
    """
    try:
        size, etag = yield from size_and_etag(stored.incoming.key)
    except ObjectMissing as error:
        raise StoreRejected("S3 does not have the object that it said it had stored.") from error
    check_size(stored.size, size)
    check_etag(stored.etag, etag.strip('"'), stored.parts)


def size_and_etag(key: str) -> Flow[tuple[int, str]]:
    """Return the size in bytes and the ETag, in its quotes, of an object, by the cheapest way that S3 takes.

    Raises:
        ObjectMissing: there is none.
    """
    if (probed := (yield from calls.HeadProbe(key))) is not None:
        return probed
    info = yield from calls.head_object(key)
    return info.length, info.etag


def exists(key: str) -> Flow[bool]:
    """Return whether there is an object."""
    try:
        yield from calls.head_object(key)
    except ObjectMissing:
        return False
    return True


def get(key: str, byte_range: str | None) -> Flow[tuple[ObjectInfo, Any]]:
    """Return an object for a client, or one range of it, and its body, which the caller must read or close.

    Not every store takes a range that ends after the object, so a refused one is cut to the object's length.

    Raises:
        ObjectMissing: there is none.
        RangeNotSatisfiable: the range begins after its end.
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
        raise StoreRejected("S3 refuses a range that lies within the object.") from error


def _outside(length: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(f"The object has {length} bytes.", headers={"Content-Range": f"bytes */{length}"})


def list_parts(key: str, upload_id: str) -> Flow[list[Answer]]:
    """Return the parts that S3 has of a multipart upload, in order.

    Raises:
        UploadGone: S3 has no such upload.
    """
    return (yield from _all_pages(lambda following: calls.list_parts(key, upload_id, following)))


def unfinished_uploads(bucket: str, prefix: str) -> Flow[list[Unfinished]]:
    """Return the multipart uploads below this prefix that were neither completed nor aborted, by whichever program.

    Raises:
        BucketMissing: there is no such bucket.
    """
    try:
        return (yield from _all_pages(lambda following: calls.list_multipart_uploads(prefix, bucket, following)))
    except UploadGone:
        return []


def _all_pages[T](list_page: "Any") -> Flow[list[T]]:
    """Return the entries of all pages.

    Raises:
        StoreRejected: a page leads back to an earlier one; without this check the list would have no end.
    """
    entries: list[T] = []
    requested: list[Mapping[str, Any]] = [{}]
    while True:
        page: Page[T] = yield from list_page(requested[-1])
        entries.extend(page.entries)
        if not page.following:
            return entries
        if page.following in requested:
            raise StoreRejected("S3 answers the same page of a list again and again.")
        requested.append(page.following)


def abort(service: Context, key: str, upload_id: str) -> Flow[bool]:
    """End a multipart upload without an object; return whether there was one."""
    try:
        yield from calls.abort_multipart(key, upload_id)
    except UploadGone:
        return False
    service.metrics.aborts.inc()
    return True


def abort_lost(service: Context, key: str, known: str | None = None) -> Flow[None]:
    """Abort each upload of this key but the known one: S3 began them, and its answers were lost."""
    for upload in (yield from unfinished_uploads(service.settings.bucket, key)):
        if upload.upload_id != known:
            yield from abort(service, upload.key, upload.upload_id)


def remove(service: Context, key: str) -> Flow[None]:
    """Remove the object of this key, and abort its unfinished uploads, by whichever program."""
    yield from calls.delete_object(key)
    yield from abort_lost(service, key)


def undo_or_later(service: Context, undo: Undo, request_id: str, key: str) -> Flow[None]:
    """Remove what an upload has stored; if S3 does not let us, leave it to the cleanup."""
    try:
        yield from undo()
    except Exception as error:  # noqa: BLE001 - too little memory must lose no upload either
        service.metrics.undo_failures.inc()
        logger.error("an upload could not be removed yet: %s", error.__cause__ or error)  # noqa: TRY400 - a store that is down needs no traceback for each request
        service.cleanup.later(undo, request_id, key)
    except BaseException:  # the task is cancelled
        service.cleanup.later(undo, request_id, key)
        raise


def ready(bucket: str) -> Flow[None]:
    """Ask S3 for the bucket, within a second.

    Raises:
        StoreUnavailable: it does not answer, or not for this bucket.
    """
    try:
        yield from calls.head_bucket(bucket)
    except BucketMissing as error:
        raise StoreUnavailable(f"S3 does not give us the bucket '{bucket}'.") from error


def check_bucket(bucket: str) -> Flow[None]:
    """Look for the bucket before the first request.

    A store that does not answer may still come up, so that is only logged.

    Raises:
        BucketMissing: S3 says that there is none.
    """
    try:
        yield from calls.head_bucket(bucket)
    except UploadError as error:
        logger.warning("S3 has not shown the bucket '%s' yet: %s", bucket, error.__cause__ or error)
