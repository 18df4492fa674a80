"""Flows of presigned uploads: sign the URLs, then verify the client's object."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from filehandoff.errors import (
    DigestMismatch,
    ObjectMissing,
    SizeMismatch,
    StoreRejected,
    StoreUnavailable,
    TypeMismatch,
    TypeNotAllowed,
    UploadGone,
)
from filehandoff.file_types import FirstBytes, media_type
from filehandoff.keys import new_key
from filehandoff.presigned import (
    PresignedMultipart,
    PresignRequest,
    Promise,
    ReadBackObject,
    expiry,
    part_lengths,
    parts_answer,
    put_answer,
    put_headers,
    sha256_header,
)
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3 import calls, flows
from filehandoff.s3.calls import Answer, Finish, Flow, Presign
from filehandoff.s3.context import Context
from filehandoff.verify import quoted_etag


def begin(service: Context, request: PresignRequest, context: UploadContext, hook: Any) -> Flow[dict[str, object]]:
    """Return the response with a put's URL, or with the first page of part URLs."""
    settings = service.settings
    key = new_key(settings.prefix_of(context.identity.name), request.filename)
    incoming = Incoming(key, request.filename, request.content_type, request.sha256, context.identity.name)
    count = len(part_lengths(request.size, settings.part_bytes))
    kind = media_type(request.content_type)
    promise = Promise(request.size, count, request.sha256, context.hook, context.request_id, kind)
    metadata = promise.metadata(service.seal, incoming)
    if count == 1:
        return (yield from _presign_put(service, incoming, promise, metadata, hook))
    try:
        upload_id = yield from Finish(flows.create(service, incoming, hook, metadata))
        return (
            yield from _presign_parts(
                service, PresignedMultipart(key, upload_id, request.size, settings.part_bytes), 0, {}
            )
        )
    except GeneratorExit:  # nothing performs a step any more
        raise
    except BaseException:
        abort_lost = partial(flows.abort_lost, service, key)
        yield from Finish(flows.undo_or_later(service, abort_lost, context.request_id, key))
        raise


def _presign_put(
    service: Context, incoming: Incoming, promise: Promise, metadata: dict[str, str], hook: Any
) -> Flow[dict[str, object]]:
    parameters: dict[str, Any] = {
        "Key": incoming.key,
        "ContentLength": promise.size,
        "ContentType": incoming.content_type,
        "IfNoneMatch": "*",
        "Metadata": metadata,  # the hook adds entries
    }
    if promise.sha256 is not None:
        parameters["ChecksumSHA256"] = sha256_header(promise.sha256)
    now, seconds = datetime.now(UTC), service.settings.presign_seconds
    url = yield from Presign("put_object", parameters, int(seconds), hook)
    headers = put_headers(incoming, metadata, service.settings.s3_options)
    return put_answer(incoming, promise.size, url, headers, service.settings.root_path) | expiry(now, seconds)


def list_parts(service: Context, upload: PresignedMultipart, after: int) -> Flow[dict[str, object]]:
    """Return the page that follows part `after`, with ETags of the parts in S3.

    Raises:
        ObjectMissing: the upload was completed or aborted.
    """
    try:
        listed = yield from flows.list_parts(upload.key, upload.upload_id)
    except UploadGone as error:
        raise _upload_ended() from error
    return (yield from _presign_parts(service, upload, after, upload.etags(listed)))


def abort(service: Context, upload: PresignedMultipart) -> Flow[None]:
    """Abort a multipart upload; S3 then rejects its URLs.

    Raises:
        ObjectMissing: the upload was completed or aborted before.
    """
    if not (yield from flows.abort(service, upload.key, upload.upload_id)):
        raise _upload_ended()


def _presign_parts(
    service: Context, upload: PresignedMultipart, after: int, etags: Mapping[int, str]
) -> Flow[dict[str, object]]:
    page, seconds, now = upload.page(after), service.settings.presign_seconds, datetime.now(UTC)
    urls = []
    for number, size in page:
        named = {"Key": upload.key, "UploadId": upload.upload_id, "PartNumber": number, "ContentLength": size}
        urls.append((yield from Presign("upload_part", named, int(seconds))))
    return parts_answer(service.seal, upload, page, urls, etags, service.settings.root_path) | expiry(now, seconds)


def complete(
    service: Context, key: str, upload: PresignedMultipart | None, request_id: str
) -> Flow[tuple[Stored, Promise]]:
    """Read the object back; return its file, or remove an object that breaks its promise.

    A second `complete` reads the object again. If a removal fails, the cleanup retries it.

    Raises:
        ObjectMissing: there is no object, or another hand-off stored it.
        SizeMismatch, DigestMismatch: the object breaks the promise.
        TypeNotAllowed: the object's first bytes are of another type than those allowed, or than the declared one.
        TypeMismatch: only the object's type differs; nothing was removed.
        StoreUnavailable: two reads of S3 differ; nothing was removed.
    """
    if upload is not None and not (yield from flows.exists(key)):
        yield from Finish(_assemble(service, upload, request_id))
    return (yield from _verify(service, key, request_id))


def _verify(
    service: Context, key: str, request_id: str, before: ReadBackObject | None = None
) -> Flow[tuple[Stored, Promise]]:
    """Read the object back; reject it only if a second read agrees."""
    reading = yield from _read(service, key)
    try:
        return reading.stored(service.seal, service.file_types)
    except (SizeMismatch, DigestMismatch, TypeMismatch, TypeNotAllowed) as error:
        if before is None:
            return (yield from _verify(service, key, request_id, before=reading))
        if reading != before:
            raise StoreUnavailable("Two reads of the object differ; complete it again.") from None
        if not isinstance(error, TypeMismatch):  # the bytes are right
            remove = partial(_remove, reading)
            yield from Finish(flows.undo_or_later(service, remove, request_id, key))
        raise


def _read(service: Context, key: str) -> Flow[ReadBackObject]:
    info, body = yield from calls.get_object(key)
    reading = ReadBackObject(key, info)
    try:
        if reading.is_worth_reading(service.seal):
            head = FirstBytes()
            size, sha256 = yield from calls.ReadBack(body, head)
            reading = replace(reading, size=size, sha256=sha256, head=bytes(head))
    finally:
        body.close()
    return reading


def _assemble(service: Context, upload: PresignedMultipart, request_id: str) -> Flow[None]:
    """Make one object of the parts, unless another request has done so meanwhile."""
    try:
        yield from _complete_parts(service, upload, request_id)
    except UploadGone as error:
        if not (yield from flows.exists(upload.key)):
            abort_lost = partial(flows.abort_lost, service, upload.key)
            yield from flows.undo_or_later(service, abort_lost, request_id, upload.key)
            raise _upload_ended() from error


def _complete_parts(
    service: Context, upload: PresignedMultipart, request_id: str, before: list[Answer] | None = None
) -> Flow[None]:
    """Complete the upload in S3; abort it only if two lists agree on wrong parts."""
    parts = yield from flows.list_parts(upload.key, upload.upload_id)
    try:
        upload.check([(part["PartNumber"], part["Size"]) for part in parts])
        # The result needs no check, because the object is read back.
        named = [{"PartNumber": part["PartNumber"], "ETag": quoted_etag(part)} for part in parts]
        yield from flows.complete(upload.key, upload.upload_id, named)
    except UploadGone:
        raise
    except (SizeMismatch, StoreRejected):
        if before is None:
            yield from _complete_parts(service, upload, request_id, before=parts)
            return
        if parts != before:
            raise StoreUnavailable("Two lists of the parts differ; complete it again.") from None
        abort_it = partial(flows.abort, service, upload.key, upload.upload_id)
        yield from flows.undo_or_later(service, abort_it, request_id, upload.key)
        raise


def _upload_ended() -> ObjectMissing:
    return ObjectMissing("S3 has no such upload; it was completed or aborted.")


def _remove(reading: ReadBackObject) -> Flow[None]:
    """Remove the object that was read, unless another object has replaced it."""
    try:
        info = yield from calls.head_object(reading.key)
    except ObjectMissing:
        return
    if info.etag == reading.info.etag:
        yield from calls.delete_object(reading.key)
