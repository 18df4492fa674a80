"""An S3 in memory that performs the steps of flows one by one, so that tests interleave several flows."""

import hashlib
import io
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

from filehandoff.errors import StoreUnavailable
from filehandoff.parts import Part
from filehandoff.s3.calls import Call, Compute, Finish, Flow, Md5, ReadBack, Step
from filehandoff.stored import Handle

T = TypeVar("T")

BEGIN = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)


class Refused(Exception):
    """An error response: its HTTP status and code."""


def etag_of(data: bytes) -> str:
    """The ETag of a single put, in quotes."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@dataclass(slots=True)
class Object:
    """A stored object."""

    data: bytes
    etag: str
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = ""


@dataclass
class FakeS3:
    """A bucket whose lists show each object at once, and whose puts compare and write in one step, as S3's do.

    Attributes:
        conditional: whether `If-None-Match` is honoured; otherwise it is ignored, or refused if None.
        now: the store's clock.
        break_call: called with the operation before each call; raises to fail it, or returns True to perform it and
            then lose the response.
        corrupt: changes the bytes of each read.
    """

    conditional: bool | None = True
    now: datetime = BEGIN
    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, tuple[str, dict[int, bytes], dict[str, Any]]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    break_call: Callable[[str], bool] = field(default_factory=lambda: lambda _operation: False)
    corrupt: Callable[[bytes], bytes] = field(default_factory=lambda: lambda data: data)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        running = Running(self, flow)
        while not running.ended:
            running.step()
        result: T = running.result()
        return result

    def clock(self) -> float:
        """Return the store's time in seconds."""
        return self.now.timestamp()

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def perform(self, step: Step[Any]) -> Any:
        """Perform one step that is no Finish."""
        match step:
            case Call():
                return self._call(step)
            case Compute(work):
                return work()
            case Md5():
                return step.compute()
            case ReadBack(body, head):
                data = body.read()
                for at in range(0, len(data), 1000):
                    head.receive(data[at : at + 1000])
                return len(data), hashlib.sha256(data).hexdigest()
            case Handle():
                with step.failing():
                    step.call()
                return step.keep()
        raise TypeError(step)

    def _call(self, call: Call[Any]) -> Any:
        self.operations.append(call.operation)
        loses = self.break_call(call.operation)
        parameters = dict(call.parameters)
        if call.hook is not None:
            call.hook(params=parameters)
        body = b"".join(call.body.chunks) if isinstance(call.body, Part) else b""
        try:
            answer = getattr(self, f"_{call.operation}")(body, **parameters)
        except Refused as refused:
            raise call.refused(refused.args[0], refused.args[1], "no") from refused
        if loses:
            raise StoreUnavailable("The response was lost.")
        return call.read(answer)

    def _put_object(self, body: bytes, **named: Any) -> dict[str, Any]:
        if "IfNoneMatch" in named and self.conditional is None:
            raise Refused(501, "NotImplemented")
        if "IfNoneMatch" in named and self.conditional and named["Key"] in self.objects:
            raise Refused(412, "PreconditionFailed")
        etag = etag_of(body)
        metadata, content_type = named.get("Metadata", {}), named.get("ContentType", "")
        self.objects[named["Key"]] = Object(body, etag, self.now, metadata, content_type)
        return {"ETag": etag, "ChecksumCRC32": named["ChecksumCRC32"]}

    def _get_object(self, _: bytes, **named: Any) -> dict[str, Any]:
        found = self._find(named["Key"])
        data = self.corrupt(found.data)
        return {**self._head(found), "Body": io.BytesIO(data)}

    def _head_object(self, _: bytes, **named: Any) -> dict[str, Any]:
        return self._head(self._find(named["Key"]))

    @staticmethod
    def _head_bucket(_: bytes, **_named: Any) -> dict[str, Any]:
        return {}

    def _find(self, key: str) -> Object:
        if key not in self.objects:
            raise Refused(404, "NoSuchKey")
        return self.objects[key]

    @staticmethod
    def _head(found: Object) -> dict[str, Any]:
        named = {"ETag": found.etag, "Metadata": found.metadata, "ContentType": found.content_type}
        return {"ContentLength": len(found.data), "LastModified": found.modified, **named}

    def _delete_object(self, _: bytes, **named: Any) -> dict[str, Any]:
        self.objects.pop(named["Key"], None)
        return {}

    def _delete_objects(self, _: bytes, **named: Any) -> dict[str, Any]:
        for one in named["Delete"]["Objects"]:
            self.objects.pop(one["Key"], None)
        return {}

    def _list_objects_v2(self, _: bytes, **named: Any) -> dict[str, Any]:
        keys = sorted(key for key in self.objects if key.startswith(named["Prefix"]))
        contents = [{"Key": key, "LastModified": self.objects[key].modified} for key in keys]
        date = {"HTTPHeaders": {"date": format_datetime(self.now, usegmt=True)}}
        return {"Contents": contents, "IsTruncated": False, "ResponseMetadata": date}

    def _create_multipart_upload(self, _: bytes, **named: Any) -> dict[str, Any]:
        upload_id = f"upload-{next(self._ids)}"
        self.uploads[upload_id] = named["Key"], {}, named
        return {"UploadId": upload_id}

    def _upload_part(self, body: bytes, **named: Any) -> dict[str, Any]:
        self._upload(named)[1][named["PartNumber"]] = body
        return {"ETag": etag_of(body), "ChecksumCRC32": named["ChecksumCRC32"]}

    def _upload(self, named: dict[str, Any]) -> tuple[str, dict[int, bytes], dict[str, Any]]:
        if named["UploadId"] not in self.uploads:
            raise Refused(404, "NoSuchUpload")
        return self.uploads[named["UploadId"]]

    def _complete_multipart_upload(self, _: bytes, **named: Any) -> dict[str, Any]:
        key, parts, created = self._upload(named)
        sent = named["MultipartUpload"]["Parts"]
        if any(etag_of(parts.get(one["PartNumber"], b"?")) != one["ETag"] for one in sent):
            raise Refused(400, "InvalidPart")
        md5s = b"".join(bytes.fromhex(one["ETag"].strip('"')) for one in sent)
        etag = f'"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(sent)}"'
        data = b"".join(parts[one["PartNumber"]] for one in sent)
        self.objects[key] = Object(data, etag, self.now, created["Metadata"], created["ContentType"])
        del self.uploads[named["UploadId"]]
        return {"ETag": etag}

    def _abort_multipart_upload(self, _: bytes, **named: Any) -> dict[str, Any]:
        self._upload(named)
        del self.uploads[named["UploadId"]]
        return {}

    def _list_multipart_uploads(self, _: bytes, **named: Any) -> dict[str, Any]:
        found = [(key, upload_id) for upload_id, (key, _, _) in self.uploads.items() if key.startswith(named["Prefix"])]
        return {"Uploads": [{"Key": key, "UploadId": upload_id, "Initiated": BEGIN} for key, upload_id in found]}


class Running:
    """A flow that runs step by step."""

    def __init__(self, store: FakeS3, flow: Flow[Any]) -> None:
        self._store = store
        self._flows: list[Generator[Any, Any, Any]] = [flow]
        self._resume: Callable[[Generator[Any, Any, Any]], Any] = next
        self._outcome: Callable[[], Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether the flow has returned or raised."""
        return self._outcome is not None

    def result(self) -> Any:
        """Return what the flow returned, or raise what it raised."""
        assert self._outcome is not None
        return self._outcome()

    def step(self) -> None:
        """Perform the next step of the flow."""
        try:
            wanted = self._resume(self._flows[-1])
        except StopIteration as end:
            value = end.value
            self._leave(lambda: value, lambda flow: flow.send(value))
        except BaseException as raised:  # noqa: BLE001 - as the shells do
            error = raised
            self._leave(lambda: _raise(error), lambda flow: flow.throw(error))
        else:
            self._perform(wanted)

    def _perform(self, wanted: Step[Any]) -> None:
        if isinstance(wanted, Finish):
            self._flows.append(wanted.flow)
            self._resume = next
            return
        try:
            value = self._store.perform(wanted)
        except Exception as raised:  # noqa: BLE001 - as the shells do
            error = raised
            self._resume = lambda flow: flow.throw(error)
        else:
            self._resume = lambda flow: flow.send(value)

    def _leave(self, outcome: Callable[[], Any], resume: Callable[[Generator[Any, Any, Any]], Any]) -> None:
        self._flows.pop()
        self._resume = resume
        if not self._flows:
            self._outcome = outcome


def _raise(error: BaseException) -> Any:
    raise error
