"""The routes of resumable uploads as flows, between a shell's request and its response (see `filehandoff.tus`)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from filehandoff.errors import (
    FileTooLarge,
    FinalUpload,
    MethodNotAllowed,
    ObjectMissing,
    OffsetConflict,
    PartialUnfinished,
    TusMalformed,
)
from filehandoff.keys import id_of
from filehandoff.receipt import Incoming, Stored, UploadContext
from filehandoff.s3 import upload_lock, upload_removal, upload_state
from filehandoff.s3.calls import Finish, Flow
from filehandoff.s3.resumable import Writer
from filehandoff.s3.upload_lock import Held
from filehandoff.s3.upload_state import Found, State
from filehandoff.service import Service
from filehandoff.strategies import DEFAULT_HOOK, TUS
from filehandoff.tus import (
    FINAL,
    METHOD_OVERRIDE,
    METHODS,
    PARTIAL,
    VERSION,
    Chunk,
    Creation,
    check_version,
    options_headers,
)
from filehandoff.web import audit
from filehandoff.web.request import RequestValues
from filehandoff.web.routes import NO_CONTENT, Answer, base_url, handled, json_answer, key_for, object_path

PATH = "/files"
ALLOW = {PATH: "OPTIONS, POST", f"{PATH}/<upload_id>": "DELETE, GET, HEAD, OPTIONS, PATCH, POST"}
#: The views of resumable uploads.
VIEWS = frozenset({"create_upload", "upload_options", "get_upload", "patch_upload", "delete_upload", "override"})


def options(service: Service, rule: str) -> Answer:
    """`OPTIONS /files…`: the version, the extensions and the limits."""
    return Answer(status=204, headers={"Allow": ALLOW[rule], **options_headers(service.settings.max_file_bytes)})


def headers(request: RequestValues) -> dict[str, str]:
    """Return the header of all answers about resumable uploads, also of errors."""
    return {"Tus-Resumable": VERSION} if (request.endpoint or "").rpartition(".")[2] in VIEWS else {}


def overridden(request: RequestValues) -> str:
    """Return the method that a `POST` to an upload's address names.

    Raises:
        MethodNotAllowed: it names none that the address supports.
    """
    method: str = request.headers.get(METHOD_OVERRIDE, "").upper()
    if method not in METHODS:
        raise MethodNotAllowed(
            f"A POST to an upload needs {METHOD_OVERRIDE} with one of {', '.join(sorted(METHODS))}.",
            headers={"Allow": ALLOW[f"{PATH}/<upload_id>"]},
        )
    return method


@dataclass(frozen=True, slots=True)
class Receiving:
    """A locked upload that receives the bytes of one request.

    Attributes:
        held: the locked upload.
        chunk: the head of the bytes.
        location: the upload's address, if this request creates it.
    """

    held: Held
    chunk: Chunk
    location: str | None = None

    def writer(self, service: Service, stamp: Callable[[str], object]) -> Writer:
        """Return the writer of the bytes; `stamp` makes the hook that stamps a request's id."""
        return Writer(service, self.held, self.chunk, stamp(self.held.state.request_id))

    def after_failure(self, writer: Writer) -> Flow[object]:
        """Keep the bytes that arrived; the client knows no address of an upload that the request creates."""
        return writer.pause() if self.location is None else writer.remove()

    def answer(self, service: Service, state: State) -> Answer:
        """Return the response after the bytes."""
        status, location = (204, {}) if self.location is None else (201, {"Location": self.location})
        return Answer(status=status, headers={**location, **_headers(service, state)})


def creation_of(service: Service, request: RequestValues) -> Creation:
    """Return the head of `POST /files`.

    Raises:
        TusVersionUnsupported, TusMalformed, ChecksumUnsupported, DigestMalformed, FileTooLarge: it cannot be used.
    """
    check_version(request.headers)
    size = None if "Transfer-Encoding" in request.headers else request.content_length or 0
    creation = Creation.of(request.headers, size, service.settings.max_file_bytes)
    if creation.length == 0 and creation.chunk is None:
        return replace(creation, chunk=Chunk(0, 0, None, None))
    return creation


def create(service: Service, request: RequestValues, creation: Creation) -> Flow[Answer]:
    """`POST /files` without bytes: an upload that waits for them."""
    folder, location, state = _new(service, request, creation)
    yield from upload_lock.create(service, folder, state)
    return Answer(status=201, headers={"Location": location, **_headers(service, state)})


def create_receiving(service: Service, request: RequestValues, creation: Creation) -> Flow[Receiving]:
    """`POST /files` with the first bytes, or of an empty file: a locked upload."""
    assert creation.chunk is not None
    folder, location, state = _new(service, request, creation)
    _check_size(creation.chunk, state.length)
    held = yield from upload_lock.create(service, folder, state, locked=True)
    return Receiving(held, creation.chunk, location)


def _new(service: Service, request: RequestValues, creation: Creation) -> tuple[str, str, State]:
    """Return the folder, the address and the first state of a new upload."""
    settings = service.settings
    key = key_for(service, request, creation.filename)
    upload_id = id_of(key)
    folder = upload_state.folder_of(service, request.identity.name, upload_id)
    state = State(
        key=f"{folder}bytes" if creation.partial else key,
        filename=creation.filename,
        content_type=creation.content_type,
        promised=creation.promised,
        user=request.identity.name,
        request_id=request.request_id,
        metadata=creation.metadata,
        concat=PARTIAL if creation.partial else "",
        length=creation.length,
        part_bytes=settings.part_bytes,
        largest_file=settings.max_file_bytes,
    )
    return folder, f"{base_url(service, request)}{PATH}/{upload_id}", state


def claim(service: Service, request: RequestValues, upload_id: str) -> Flow[Receiving | Answer]:
    """`PATCH /files/<id>`: a locked upload that receives the bytes, or the answer for a complete one.

    Raises:
        TusVersionUnsupported, UnsupportedMediaType, TusMalformed, ChecksumUnsupported: the head cannot be used.
        NotFound, Expired: there is no such upload.
        FinalUpload: the upload is made of others.
        Locked: another request holds the upload.
        OffsetConflict: the upload continues at another offset.
        FileTooLarge: the request has more bytes than the upload still needs.
    """
    check_version(request.headers)
    size = None if "Transfer-Encoding" in request.headers else request.content_length or 0
    chunk = Chunk.of(request.headers, size)
    found = yield from upload_state.find(service, request.identity.name, upload_id)
    state = found.state
    if state.concat.startswith(FINAL):
        raise FinalUpload("A final upload is made of other uploads; it takes no bytes of its own.")
    if chunk.length is not None and state.length not in {None, chunk.length}:
        raise TusMalformed(f"The upload has the length {state.length}, which no request can change.")
    length = chunk.length if state.length is None else state.length
    upload_lock.check_free(service, found)
    if chunk.offset != state.offset:
        raise OffsetConflict(state.offset)
    if length is not None and not chunk.offset <= length <= state.largest_file:
        raise FileTooLarge(f"The length {length} is less than the offset, or exceeds {state.largest_file} bytes.")
    _check_size(chunk, length)
    if state.is_done:
        return Answer(status=204, headers=_headers(service, state))
    return Receiving((yield from upload_lock.claim(service, found)), chunk)


def _check_size(chunk: Chunk, length: int | None) -> None:
    if length is not None and chunk.offset + (chunk.size or 0) > length:
        raise FileTooLarge(f"The upload has {length} bytes, and the request has more.")


def finished(
    service: Service, request: RequestValues, receiving: Receiving, writer: Writer, stored: Stored
) -> Flow[Answer]:
    """The end of an upload: the handler of stored files, the last record, and the response."""
    receipts: Sequence[dict[str, object]] = ()
    if receiving.held.state.concat != PARTIAL:
        context = UploadContext(service.framework, TUS, DEFAULT_HOOK, receiving.held.state.request_id, request.identity)
        receipts = yield from handled(service, request, context, [stored])
        service.metrics.count_resumed(time.perf_counter() - request.arrived)
    return receiving.answer(service, (yield from writer.done(receipts)))


def status(service: Service, request: RequestValues, upload_id: str) -> Flow[Answer]:
    """`HEAD /files/<id>`: the offset from which to continue, at once, even while a request holds the upload."""
    check_version(request.headers)
    found = yield from upload_state.find(service, request.identity.name, upload_id)
    state = found.state
    length = {"Upload-Defer-Length": "1"} if state.length is None else {"Upload-Length": str(state.length)}
    metadata = {"Upload-Metadata": state.metadata} if state.metadata else {}
    concat = {"Upload-Concat": state.concat} if state.concat else {}
    shown = {"Cache-Control": "no-store", **_headers(service, state, found.last.age), **length, **metadata, **concat}
    return Answer(headers=shown)


def receipts(service: Service, request: RequestValues, upload_id: str) -> Flow[Answer]:
    """`GET /files/<id>`: the receipt of a complete upload.

    Raises:
        ObjectMissing: the upload is not complete, or a partial one.
    """
    found = yield from upload_state.find(service, request.identity.name, upload_id)
    if not found.state.receipts:
        raise ObjectMissing("This upload has no receipt: it is not complete, or a part of another one.")
    return json_answer({"receipts": list(found.state.receipts)}, headers={"Cache-Control": "no-store"})


def terminate(service: Service, request: RequestValues, upload_id: str) -> Flow[Answer]:
    """`DELETE /files/<id>`: remove an upload; the object of a complete one stays.

    Raises:
        Locked: another request holds the upload.
    """
    check_version(request.headers)
    found = yield from upload_state.find(service, request.identity.name, upload_id)
    yield from Finish(_remove(service, found))
    if not found.state.is_done:
        audit.record(request, "aborted", keys=[found.state.key])
    return NO_CONTENT


def _remove(service: Service, found: Found) -> Flow[None]:
    held = yield from upload_lock.claim(service, found)
    yield from upload_removal.remove(service, held.folder, held.state)


@dataclass(frozen=True, slots=True)
class Concatenation:
    """A final upload: its file, and the states of its partial uploads, in order."""

    incoming: Incoming
    parts: Sequence[State]
    creation: Creation
    concat: str

    @property
    def length(self) -> int:
        """The length of the file in bytes."""
        return sum(part.offset for part in self.parts)


def concatenation(service: Service, request: RequestValues, creation: Creation) -> Flow[Concatenation]:
    """`POST /files` of a final upload: its parts.

    Raises:
        NotFound, Expired: there is no such partial upload.
        TusMalformed: an upload is not a partial one.
        PartialUnfinished: a partial upload is not complete.
        FileTooLarge: the file exceeds the limit.
    """
    parts = []
    for upload_id in creation.parts:
        found = yield from upload_state.find(service, request.identity.name, upload_id)
        if found.state.concat != PARTIAL:
            raise TusMalformed("A final upload can be made only of partial ones.")
        if not found.state.is_done:
            raise PartialUnfinished("A partial upload is not complete.")
        parts.append(found.state)
    key = key_for(service, request, creation.filename)
    incoming = Incoming(key, creation.filename, creation.content_type, creation.promised, request.identity.name)
    made = Concatenation(incoming, parts, creation, request.headers["Upload-Concat"])
    if made.length > service.settings.max_file_bytes:
        raise FileTooLarge(f"The file has more than {service.settings.max_file_bytes} bytes.")
    return made


def concatenated(
    service: Service,
    request: RequestValues,
    made: Concatenation,
    files: Sequence[Stored],
    keep: Callable[[], None],
) -> Flow[Answer]:
    """The end of a final upload: the handler of stored files, its only record, and the response."""
    context = UploadContext(service.framework, TUS, DEFAULT_HOOK, request.request_id, request.identity)
    receipts = yield from handled(service, request, context, files, keep)
    service.metrics.count_resumed(time.perf_counter() - request.arrived)
    folder, location, state = _new(service, request, made.creation)
    state = replace(
        state,
        key=made.incoming.key,
        concat=made.concat,
        length=made.length,
        offset=made.length,
        receipts=tuple(receipts),
        is_done=True,
    )
    yield from upload_lock.create(service, folder, state)
    return Answer(status=201, headers={"Location": location, **_headers(service, state)})


def _headers(service: Service, state: State, age: float = 0.0) -> Mapping[str, str]:
    """Return the headers about a state of this age in seconds."""
    ends = datetime.now(UTC) + timedelta(seconds=service.settings.resume_seconds - age)
    has_object = state.is_done and state.concat != PARTIAL
    return {
        "Upload-Offset": str(state.offset),
        "Upload-Expires": format_datetime(ends, usegmt=True),
        **({"Content-Location": object_path(service, state.key)} if has_object else {}),
    }
