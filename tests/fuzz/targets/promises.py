"""Promises: an object in the store is accepted, refused or removed as its metadata deserve, and never by an error."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from fuzz.inputs import fields

from filehandoff.errors import DigestMismatch, ObjectMissing, SizeMismatch, StoreRejected, TypeMismatch, UploadError
from filehandoff.file_types import media_type
from filehandoff.presigned import PROMISE_METADATA, Promise, Seal
from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA, Incoming, Stored
from filehandoff.s3 import presigned
from filehandoff.s3.calls import Call, Finish, Flow, ReadBack
from filehandoff.service import Service
from filehandoff.settings import Settings

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/hello.txt"
CONTENT = b"hello world"
SHA256 = sha256(CONTENT).hexdigest()
SERVICE = Service("flask", Settings(bucket="photos", promise_secret="a secret of sixteen and more"))
OTHER = Seal("another secret of sixteen and more")
WORDS = (
    b"3.11.1.",
    SHA256.encode(),
    b".bound.text/plain.",
    SERVICE.seal.key_id.encode(),
    OTHER.key_id.encode(),
    b"UTF-8''hello.txt",
    b"text/plain; charset=utf-8",
    b"application/octet-stream",
    b"2.",
)
ALLOWED = (ObjectMissing, SizeMismatch, DigestMismatch, TypeMismatch, StoreRejected)


@dataclass
class Store:
    """A store with one object, that counts its removals."""

    answer: dict[str, Any]
    removals: list[str] = field(default_factory=list)
    bodies: list[io.BytesIO] = field(default_factory=list)

    def perform(self, step: Any) -> Any:
        """Perform one step of a flow."""
        match step:
            case Finish():
                return run(step.flow, self)
            case ReadBack():
                content = step.body.read()
                step.head.receive(content)
                return len(content), sha256(content).hexdigest()
            case Call(operation="get_object"):
                self.bodies.append(io.BytesIO(CONTENT))
                return step.read(self.answer | {"Body": self.bodies[-1]})
            case Call(operation="head_object"):
                return step.read(self.answer)
            case Call(operation="delete_object"):
                self.removals.append(step.parameters["Key"])
                return None
        raise AssertionError(f"the flow makes another call: {step}")


def run(flow: Flow[Any], store: Store) -> Any:
    """Drive a flow to its result."""
    resume: Callable[[], Any] = partial(next, flow)
    while True:
        try:
            step = resume()
        except StopIteration as end:
            return end.value
        try:
            resume = partial(flow.send, store.perform(step))
        except UploadError as error:
            resume = partial(flow.throw, error)


def check(data: bytes) -> None:
    """Complete an upload whose object has a genuine promise, changed by the input."""
    options, name, kind, request_id, inserted, etag = (value.decode("latin-1") for value in fields(data, 6, b"\n"))
    flags = ord(options[:1] or "\0")
    promise, promised = genuine(flags, name, kind, request_id)
    metadata = dict(promised)
    if flags & 1:
        metadata[PROMISE_METADATA] = spliced(metadata[PROMISE_METADATA], options[1:3], inserted)
    if flags & 4:
        metadata[FILENAME_METADATA] = inserted
    answer = {
        "ContentLength": len(CONTENT) + (flags >> 6 & 1),
        "ContentType": kind + inserted if flags & 2 else kind,
        "ETag": etag if flags & 8 else '"e"',
        "Metadata": metadata,
    }
    check_object(Store(answer), promise, is_changed=metadata != promised)


def genuine(flags: int, name: str, kind: str, request_id: str) -> tuple[Promise, dict[str, str]]:
    """Return a promise, sealed by this service or by another, and the metadata that store it."""
    digest = {0: SHA256, 16: None}.get(flags & 0x90, "0" * 64)
    promise = Promise(len(CONTENT), 1, digest, "bound", request_id, media_type(kind))
    metadata = promise.metadata(OTHER if flags & 32 else SERVICE.seal, Incoming(KEY, name, kind, digest))
    return promise, metadata | {REQUEST_ID_METADATA: request_id}


def spliced(text: str, places: str, inserted: str) -> str:
    """Replace some characters of a text."""
    at, length = (ord(place) for place in places.ljust(2, "\0"))
    return text[:at] + inserted + text[at + length % 9 :]


def check_object(store: Store, promise: Promise, *, is_changed: bool) -> None:
    """Check the result and the removals."""
    try:
        stored, found = run(presigned.complete(SERVICE, KEY, None, "second"), store)
    except UploadError as error:
        assert isinstance(error, ALLOWED), "the error is another one"
        removed = isinstance(error, SizeMismatch | DigestMismatch)
        assert store.removals == [KEY] * removed, "an object stays, or is removed, against its promise"
        assert not removed or is_ours(store), "an object of another service is removed"
    else:
        assert not is_changed, "a changed promise is accepted"
        assert found == promise, "the promise is another one"
        assert isinstance(stored, Stored), "the file is none"
        assert stored.sha256 == promise.sha256 or promise.sha256 is None, "the digest is not the promised one"
        assert not store.removals, "an accepted object is removed"
    assert all(body.closed for body in store.bodies), "a body stays open"


def is_ours(store: Store) -> bool:
    """Return whether the object's promise names this service's secret."""
    return f".{SERVICE.seal.key_id}." in store.answer["Metadata"][PROMISE_METADATA]
