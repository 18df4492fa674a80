"""An S3 server that checks the shape of an upload and throws the bytes away: `python -m benchmarks.null_store`.

With it behind an app, a measurement shows the app's cost and not the store's; and it can be slow on purpose. It speaks
path style on loopback, with any credentials, and refuses what S3 refuses of an upload: a missing length, an unknown
bucket or upload, wrong part numbers or ETags, parts too small or too large. It looks at no signature and no checksum,
keeps no metadata and no bytes (a GET of an object is 501), and lists everything on one page. A size is what
`Content-Length` says; a chunked body is 501, as S3 has it. `GET /_null/stats` tells as JSON what it saw: see `Stats`.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Self
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from demo.processes import Server, StartError, ending, listen, python

#: S3's limits for a part, in bytes. The last part may be smaller; the larger limit is that of a single put as well.
SMALLEST_PART = 5 * 2**20
LARGEST_PART = 5 * 2**30
LAST_PART_NUMBER = 10_000

START_SECONDS = 60.0

_HEAD_BYTES = 16 * 1024
#: Room for 10,000 parts, each with a checksum.
_COMPLETION_BYTES = 4 * 2**20

#: Where all bodies go, one over the other. A larger one is slower: it must stay in the processor's cache.
_DROP = memoryview(bytearray(128 * 1024))

#: What the kernel is asked to hold for a connection where reading is slow on purpose; Linux doubles it.
_RECEIVE_BUFFER_BYTES = 128 * 1024

#: S3's error codes, each with its status and S3's words.
_ERRORS = {
    "BadRequest": (400, "An error occurred when parsing the HTTP request."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "InvalidArgument": (400, "Part number must be an integer between 1 and 10000, inclusive"),
    "InvalidPart": (400, "One or more of the specified parts could not be found."),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order. Parts must be ordered by part number."),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The specified upload does not exist."),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
}

#: S3's name of each request that is answered: by its method, whether it has a key, and the parameters that decide.
_OPERATIONS: Mapping[tuple[str, bool, frozenset[str]], str] = {
    ("PUT", False, frozenset()): "CreateBucket",
    ("HEAD", False, frozenset()): "HeadBucket",
    ("GET", False, frozenset({"uploads"})): "ListMultipartUploads",
    ("GET", False, frozenset({"list-type"})): "ListObjectsV2",
    ("PUT", True, frozenset()): "PutObject",
    ("HEAD", True, frozenset()): "HeadObject",
    ("DELETE", True, frozenset()): "DeleteObject",
    ("POST", True, frozenset({"uploads"})): "CreateMultipartUpload",
    ("PUT", True, frozenset({"partNumber", "uploadId"})): "UploadPart",
    ("POST", True, frozenset({"uploadId"})): "CompleteMultipartUpload",
    ("DELETE", True, frozenset({"uploadId"})): "AbortMultipartUpload",
}
_UNKNOWN = "unknown"
#: Our own request; no bucket can have its name.
_STATS = "stats"
_STATS_PATH = "/_null/stats"

#: Parameters that do not change which request it is. The last three sign it, as do those that begin with `X-Amz-`.
_INDECISIVE = {"prefix", "encoding-type", "x-id", "AWSAccessKeyId", "Signature", "Expires"}

#: Headers that change what is asked, or what the length means: to pass over them would be to do something else.
_DECISIVE_HEADERS = {
    "transfer-encoding",
    "x-amz-decoded-content-length",
    "x-amz-copy-source",
    "if-match",
    "if-none-match",
}


class Refused(Exception):
    """What S3 would not do either: one of S3's error codes, with elements of its answer such as `PartNumber`."""

    def __init__(self, code: str, **details: object) -> None:
        super().__init__(code)
        status, message = _ERRORS[code]
        self.answer = Answer.xml(_element("Error", {"Code": code, "Message": message, **details}), status)


@dataclass(frozen=True)
class Answer:
    """What is sent back. `Content-Length` is that of the body, unless the headers say another."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def xml(cls, document: str, status: int = 200) -> Self:
        """An answer that is an XML document."""
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()
        return cls(status, {"Content-Type": "application/xml"}, body)

    def rendered(self, *, with_body: bool, last: bool) -> bytes:
        """Its bytes; HEAD gets no body, and the last answer of a connection says that it is."""
        headers = {**self.headers, "Connection": "close" if last else "keep-alive"}
        if self.status != HTTPStatus.NO_CONTENT:
            headers.setdefault("Content-Length", str(len(self.body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n".encode()
        return head + self.body if with_body else head


@dataclass(frozen=True)
class Request:
    """The head of a request. `key` is empty for the bucket itself, `length` None if there is no `Content-Length`."""

    operation: str
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int | None

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """A request from its first line and its headers, without the empty line that ends them.

        Raises:
            Refused: it is not HTTP/1.1.
        """
        first, *lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, version = first.split(" ")
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        except ValueError:
            raise Refused("BadRequest") from None
        length = _number(headers["content-length"]) if "content-length" in headers else None
        if version != "HTTP/1.1" or ("content-length" in headers and length is None):
            raise Refused("BadRequest")
        path, _, query_text = target.partition("?")
        bucket, _, key = unquote(path.removeprefix("/")).partition("/")
        query = dict(parse_qsl(query_text, keep_blank_values=True))
        decisive = frozenset(it for it in query if it not in _INDECISIVE and not it.lower().startswith("x-amz-"))
        operation = _OPERATIONS.get((method, bool(key), decisive), _UNKNOWN) if bucket else _UNKNOWN
        if (method, path) == ("GET", _STATS_PATH):
            operation = _STATS
        return cls(operation, method, bucket, key, query, headers, length)

    @property
    def expects_continue(self) -> bool:
        """Whether the client sends the body only when it is told to."""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def is_last(self) -> bool:
        """Whether the client wants nothing else on this connection."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def has_body(self) -> bool:
        """Whether there is a body, or may be for all that can be known."""
        if self.length is None:
            return "transfer-encoding" in self.headers or self.method in {"PUT", "POST"}
        return self.length > 0


def _number(text: str) -> int | None:
    """A number of digits alone; int() takes more than HTTP and S3 do."""
    return int(text) if text.isascii() and text.isdecimal() else None


@dataclass(frozen=True)
class Stored:
    """What is left of an object or a part: its size in bytes, its ETag in quotes, and when it came."""

    size: int
    etag: str
    modified: datetime


@dataclass
class Upload:
    """An unfinished multipart upload: its address, and its parts by number."""

    bucket: str
    key: str
    started: datetime
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass(frozen=True)
class Stats:
    """What the store holds, and what it saw since it was started; requests for these figures are left out of them."""

    #: Sizes in bytes by key, of all buckets together.
    objects: dict[str, int]
    #: Keys by upload id, of the multipart uploads that were neither completed nor aborted.
    unfinished: dict[str, str]
    #: Bytes of bodies, those of refused and of broken off requests included.
    bytes_received: int
    #: How many requests there were of each operation, by S3's name for it; `unknown` are those that it does not do.
    requests: dict[str, int]
    #: The most connections open at once, each from its first request on.
    most_connections: int
    #: The most `UploadPart` requests at once, each from its head to its answer.
    most_parts: int


class Store:
    """What an S3 server knows, without any I/O: `check` when a request's head is there, `perform` when its body is."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.bytes_received = 0
        self._uploads: dict[str, Upload] = {}
        self._ids = itertools.count(1)
        self._requests = Counter[str]()
        self._connections = self._most_connections = 0
        self._parts = self._most_parts = 0
        self._operations: dict[str, Callable[[Request, bytes], Answer]] = {
            "CreateBucket": self._create_bucket,
            "HeadBucket": lambda _request, _body: Answer(),
            "ListMultipartUploads": self._list_uploads,
            "ListObjectsV2": self._list_objects,
            "PutObject": self._put_object,
            "HeadObject": self._head_object,
            "DeleteObject": self._delete_object,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
            _STATS: self._stats,
        }

    def connected(self) -> None:
        """Count a connection that has its first request."""
        self._connections += 1
        self._most_connections = max(self._most_connections, self._connections)

    def disconnected(self) -> None:
        """Count it no more."""
        self._connections -= 1

    def began(self, request: Request) -> None:
        """Count a request whose head is there."""
        self._requests[request.operation] += 1
        self._parts += request.operation == "UploadPart"
        self._most_parts = max(self._most_parts, self._parts)

    def ended(self, request: Request) -> None:
        """A request was answered, or its connection is gone."""
        self._parts -= request.operation == "UploadPart"

    def check(self, request: Request) -> None:
        """Look at what can be known without the body.

        Raises:
            Refused: it cannot be done.
        """
        operation = request.operation
        if operation == _STATS:
            return
        if operation == _UNKNOWN or request.query.get("list-type", "2") != "2":
            raise Refused("NotImplemented")
        for header in _DECISIVE_HEADERS & request.headers.keys():
            raise Refused("NotImplemented", Header=header)
        if operation != "CreateBucket" and request.bucket not in self.buckets:
            raise Refused("NoSuchBucket", BucketName=request.bucket)
        if operation in {"PutObject", "UploadPart"}:
            _check_length(request)
        if operation == "CompleteMultipartUpload" and (request.length or 0) > _COMPLETION_BYTES:
            raise Refused("MaxMessageLengthExceeded", MaxMessageLengthBytes=_COMPLETION_BYTES)
        if operation == "UploadPart":
            _part_number(request)
        if "uploadId" in request.query:
            self._upload(request)

    def perform(self, request: Request, body: bytes) -> Answer:
        """Do what is asked, now that the whole body came; `body` is empty where it was thrown away.

        Raises:
            Refused: it cannot be done, perhaps because of what happened since `check`.
        """
        self.check(request)
        return self._operations[request.operation](request, body)

    def _create_bucket(self, request: Request, _body: bytes) -> Answer:
        self.buckets.setdefault(request.bucket, {})
        return Answer(headers={"Location": f"/{request.bucket}"})

    def _list_uploads(self, request: Request, _body: bytes) -> Answer:
        prefix = request.query.get("prefix", "")
        listed = [
            _element("Upload", {"Key": upload.key, "UploadId": upload_id, "Initiated": _iso(upload.started)})
            for upload_id, upload in sorted(self._uploads.items(), key=lambda item: (item[1].key, item[0]))
            if upload.bucket == request.bucket and upload.key.startswith(prefix)
        ]
        about = {"Bucket": request.bucket, "Prefix": prefix, "IsTruncated": "false"}
        return _result("ListMultipartUploadsResult", about, *listed)

    def _list_objects(self, request: Request, _body: bytes) -> Answer:
        prefix = request.query.get("prefix", "")
        listed = [
            _element("Contents", {"Key": key, "LastModified": _iso(it.modified), "ETag": it.etag, "Size": it.size})
            for key, it in sorted(self.buckets[request.bucket].items())
            if key.startswith(prefix)
        ]
        about = {"Name": request.bucket, "Prefix": prefix, "KeyCount": len(listed), "IsTruncated": "false"}
        return _result("ListBucketResult", about, *listed)

    def _put_object(self, request: Request, _body: bytes) -> Answer:
        stored = self._stored(request)
        self.buckets[request.bucket][request.key] = stored
        return Answer(headers={"ETag": stored.etag})

    def _head_object(self, request: Request, _body: bytes) -> Answer:
        stored = self.buckets[request.bucket].get(request.key)
        if stored is None:
            raise Refused("NoSuchKey", Key=request.key)
        return Answer(
            headers={
                "Content-Length": str(stored.size),
                "Content-Type": "binary/octet-stream",  # S3's own, where a put had none
                "ETag": stored.etag,
                "Last-Modified": format_datetime(stored.modified, usegmt=True),
            }
        )

    def _delete_object(self, request: Request, _body: bytes) -> Answer:
        self.buckets[request.bucket].pop(request.key, None)
        return Answer(204)

    def _create_upload(self, request: Request, _body: bytes) -> Answer:
        upload_id = f"upload{next(self._ids):08x}"
        self._uploads[upload_id] = Upload(request.bucket, request.key, datetime.now(UTC))
        about = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload_id}
        return _result("InitiateMultipartUploadResult", about)

    def _upload_part(self, request: Request, _body: bytes) -> Answer:
        stored = self._stored(request)
        self._upload(request).parts[_part_number(request)] = stored
        return Answer(headers={"ETag": stored.etag})

    def _complete_upload(self, request: Request, body: bytes) -> Answer:
        parts = _chosen_parts(self._upload(request), body)
        etag = f'"{self._etag()}-{len(parts)}"'
        size = sum(part.size for part in parts)
        self.buckets[request.bucket][request.key] = Stored(size, etag, datetime.now(UTC))
        del self._uploads[request.query["uploadId"]]
        about = {"Bucket": request.bucket, "Key": request.key, "ETag": etag}
        return _result("CompleteMultipartUploadResult", about)

    def _abort_upload(self, request: Request, _body: bytes) -> Answer:
        del self._uploads[request.query["uploadId"]]
        return Answer(204)

    def _stats(self, _request: Request, _body: bytes) -> Answer:
        stats = Stats(
            objects={key: stored.size for objects in self.buckets.values() for key, stored in objects.items()},
            unfinished={upload_id: upload.key for upload_id, upload in self._uploads.items()},
            bytes_received=self.bytes_received,
            requests=dict(self._requests),
            most_connections=self._most_connections,
            most_parts=self._most_parts,
        )
        return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(asdict(stats)).encode())

    def _upload(self, request: Request) -> Upload:
        """The upload that a request names, unless it is over, or another key's."""
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (request.bucket, request.key):
            raise Refused("NoSuchUpload", UploadId=request.query["uploadId"])
        return upload

    def _stored(self, request: Request) -> Stored:
        """What is left of a body that came."""
        return Stored(request.length or 0, f'"{self._etag()}"', datetime.now(UTC))

    def _etag(self) -> str:
        """An ETag without quotes that nothing else here has, and that nobody takes for an MD5."""
        return f"null{next(self._ids):08x}"


def _check_length(request: Request) -> None:
    if request.length is None:
        raise Refused("MissingContentLength")
    if request.length > LARGEST_PART:
        raise Refused("EntityTooLarge", ProposedSize=request.length, MaxSizeAllowed=LARGEST_PART)


def _part_number(request: Request) -> int:
    text = request.query["partNumber"]
    number = _number(text)
    if number is None or not 1 <= number <= LAST_PART_NUMBER:
        raise Refused("InvalidArgument", ArgumentName="partNumber", ArgumentValue=text)
    return number


def _chosen_parts(upload: Upload, completion: bytes) -> list[Stored]:
    """The parts that a completion makes an object of."""
    named = _named_parts(completion)
    if any(number >= following for (number, _), (following, _) in itertools.pairwise(named)):
        raise Refused("InvalidPartOrder")
    chosen = []
    for number, etag in named:
        part = upload.parts.get(number)
        if part is None or part.etag.strip('"') != etag:
            raise Refused("InvalidPart", PartNumber=number, ETag=etag)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < SMALLEST_PART:
            raise Refused("EntityTooSmall", ProposedSize=part.size, MinSizeAllowed=SMALLEST_PART, ETag=part.etag)
    return chosen


def _named_parts(completion: bytes) -> list[tuple[int, str]]:
    """The numbers and the ETags, without quotes, that a completion names, in its order."""
    try:
        # {*} is any namespace or none: S3 takes both
        parts = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip('"'))
            for part in ET.fromstring(completion).iterfind("{*}Part")  # noqa: S314 - on loopback, from our own apps
        ]
    except (ET.ParseError, ValueError):
        parts = []
    if not parts:
        raise Refused("MalformedXML")
    return parts


def _result(name: str, about: Mapping[str, object], *nested: str) -> Answer:
    namespaced = f'{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return Answer.xml(f"<{namespaced}>{_elements(about)}{''.join(nested)}</{name}>")


def _element(name: str, values: Mapping[str, object]) -> str:
    return f"<{name}>{_elements(values)}</{name}>"


def _elements(values: Mapping[str, object]) -> str:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"


class Pace:
    """A token bucket that all connections share: whoever read some bytes reads nothing more until they are paid for.

    They are paid for in the order in which they were read, so that all connections get the same share.
    """

    #: For how long the tokens of a time without reading are kept; they make up for timers that are late.
    KEPT_SECONDS = 0.02

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        #: How much to read at once, a hundredth of a second's worth: the bytes are to flow, not to come by the second.
        self.read_bytes = min(max(bytes_per_second // 100, 1024), len(_DROP))
        self._paid_until = 0.0

    def seconds_for(self, size: int, now: float) -> float:
        """How long the connection that read this much has to wait."""
        self._paid_until = max(self._paid_until, now - self.KEPT_SECONDS) + size / self._bytes_per_second
        return max(self._paid_until - now, 0.0)


class Connection(asyncio.BufferedProtocol):
    """HTTP/1.1 with one client, one request after the other; no pipelining.

    A body is read into memory that all connections share and nobody looks at. A request that its head is enough to
    refuse is answered at once, as S3 does. The connection then ends, but what the client still sends of the body is
    read and thrown away: a reset could take the answer with it.
    """

    def __init__(self, store: Store, pace: Pace | None, latency_seconds: float) -> None:
        self._store = store
        self._pace = pace
        self._read_bytes = len(_DROP) if pace is None else pace.read_bytes
        self._latency_seconds = latency_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._head = bytearray(_HEAD_BYTES)
        self._head_view = memoryview(self._head)
        self._head_size = 0
        self._request: Request | None = None
        self._kept: memoryview | None = None  # the body, where it is not thrown away
        self._left = 0  # bytes of the body that are still to come
        self._counted = False  # had a request
        self._over = False  # had its last answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; a body that did not come to its end leaves nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._request is not None:
            self._store.ended(self._request)
        if self._counted:
            self._store.disconnected()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where to read to, and no further than the body goes."""
        if self._over:
            return _DROP[: self._read_bytes]
        if not self._left:
            return self._head_view[self._head_size :]
        if self._kept is not None:
            return self._kept[-self._left :]
        return _DROP[: min(self._left, self._read_bytes)]

    def buffer_updated(self, size: int) -> None:
        """Some bytes are there."""
        if self._over:
            self._body_came(size)
        elif self._left:
            self._left -= size
            self._body_came(size)
        else:
            self._head_size += size
            self._head_came()

    def _head_came(self) -> None:
        """Some bytes of a head are there, and perhaps the beginning of a body."""
        end = self._head.find(b"\r\n\r\n", 0, self._head_size)
        if end < 0:
            if self._head_size == _HEAD_BYTES:
                self._answer(Refused("BadRequest").answer, last=True)
            return
        beginning = self._head_view[end + 4 : self._head_size]
        self._head_size = 0
        try:
            request = Request.parse(bytes(self._head_view[:end]))
        except Refused as refused:
            self._answer(refused.answer, last=True)
            return
        self._request = request
        self._count(request)
        try:
            self._store.check(request)
        except Refused as refused:
            self._store.bytes_received += len(beginning)
            self._answer(refused.answer, last=request.is_last or request.has_body or bool(beginning))
        else:
            self._begin(request, beginning)

    def _count(self, request: Request) -> None:
        if request.operation == _STATS:
            return
        if not self._counted:
            self._counted = True
            self._store.connected()
        self._store.began(request)

    def _begin(self, request: Request, beginning: memoryview) -> None:
        """A head was taken."""
        length = request.length or 0
        if len(beginning) > length:  # the next request
            self._answer(Refused("BadRequest").answer, last=True)
            return
        self._left = length - len(beginning)
        self._kept = None
        if request.operation == "CompleteMultipartUpload":
            self._kept = memoryview(bytearray(length))
            self._kept[: len(beginning)] = beginning
        if request.expects_continue and self._left:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body_came(len(beginning))

    def _body_came(self, size: int) -> None:
        """Some bytes of a body are there, or all of none."""
        self._store.bytes_received += size
        seconds = self._pace.seconds_for(size, self._loop.time()) if size and self._pace is not None else 0.0
        whole = not self._left and not self._over
        self._after(seconds, self._perform if whole else lambda: None)

    def _perform(self) -> None:
        """The whole request is there."""
        assert self._request is not None
        request, body = self._request, b"" if self._kept is None else bytes(self._kept)
        try:
            answer = self._store.perform(request, body)
        except Refused as refused:
            answer = refused.answer
        self._answer(answer, last=request.is_last)

    def _answer(self, answer: Answer, *, last: bool) -> None:
        own = self._request is not None and self._request.operation == _STATS
        self._after(0.0 if own else self._latency_seconds, lambda: self._send(answer, last=last))

    def _send(self, answer: Answer, *, last: bool) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._store.ended(request)
        with_body = request is None or request.method != "HEAD"
        self._transport.write(answer.rendered(with_body=with_body, last=last))
        if last:
            self._over = True
            self._transport.write_eof()

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something later, and read nothing until then, so that TCP holds the client back."""
        if seconds <= 0:
            then()
            return
        self._transport.pause_reading()
        self._timer = self._loop.call_later(seconds, self._go_on, then)

    def _go_on(self, then: Callable[[], None]) -> None:
        self._transport.resume_reading()
        then()


class NullStore:
    """A null store that runs in a process of its own, with one bucket."""

    def __init__(self, server: Server, bucket: str) -> None:
        self.server = server
        self.bucket = bucket
        self.endpoint_url = server.url
        #: What an app needs to find it.
        self.environ: Mapping[str, str] = {
            "UPLOAD_S3_ENDPOINT_URL": server.url,
            "UPLOAD_BUCKET": bucket,
            "AWS_ACCESS_KEY_ID": "null",
            "AWS_SECRET_ACCESS_KEY": "null-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stats(self) -> Stats:
        """What it holds and what it saw; waits for one that is still starting.

        Raises:
            StartError: it does not answer; one line.
        """
        connection = HTTPConnection(self.endpoint_url.removeprefix("http://"), timeout=START_SECONDS)
        try:
            connection.request("GET", _STATS_PATH)
            return Stats(**json.load(connection.getresponse()))
        except (OSError, HTTPException) as error:
            raise StartError(f"the null store at {self.endpoint_url} does not answer: {error!r}; see above") from None
        finally:
            connection.close()


@contextmanager
def running(
    *, bytes_per_second: int | None = None, latency_ms: float = 0, bucket: str = "uploads"
) -> Iterator[NullStore]:
    """Start a null store for the block.

    Args:
        bytes_per_second: how much it reads of all bodies together; by default, as much as it can.
        latency_ms: how much later than it could it sends each answer.
        bucket: the bucket that it has from the start.

    Raises:
        StartError: it did not start; one line.
    """
    command = python("benchmarks.null_store", "--fd", "{fd}", "--bucket", bucket, "--latency", str(latency_ms))
    if bytes_per_second is not None:
        command += ["--bytes-per-second", str(bytes_per_second)]
    listener = listen("the null store", "nothing", 0)
    server = Server("the null store", command, listener, os.environ, log=None, drain_seconds=0)
    with ending([server]):
        store = NullStore(server, bucket)
        store.stats()
        yield store


async def serve(listener: socket.socket, store: Store, pace: Pace | None, latency_seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if pace is not None:
        # each connection inherits it; the default holds megabytes, which would be taken at any rate
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    server = await loop.create_server(lambda: Connection(store, pace, latency_seconds), sock=listener, backlog=1024)
    await stop.wait()
    server.close()
    server.abort_clients()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_store")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited socket that listens")
    where.add_argument("--port", type=int, help="a port of loopback, 0 for any free one; it is printed when ready")
    parser.add_argument("--bucket", default="uploads", help="the bucket that there is from the start (%(default)s)")
    parser.add_argument("--bytes-per-second", type=int, metavar="N", help="read so much of all bodies together")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="send each answer so much later")
    arguments = parser.parse_args()
    if arguments.bytes_per_second is not None and arguments.bytes_per_second < 1:
        parser.error("--bytes-per-second must be 1 or more")
    if arguments.fd is not None:
        listener = socket.socket(fileno=arguments.fd)
    else:
        try:
            listener = listen("the null store", "--port", arguments.port)
        except StartError as error:
            parser.error(str(error))
        print(listener.getsockname()[1], flush=True)
    store = Store()
    store.buckets[arguments.bucket] = {}
    pace = None if arguments.bytes_per_second is None else Pace(arguments.bytes_per_second)
    asyncio.run(serve(listener, store, pace, arguments.latency / 1000))


if __name__ == "__main__":
    main()
