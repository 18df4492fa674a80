"""S3's requests, responses and errors as the null store reads and writes them, without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

#: S3's error codes with status and message.
_ERRORS = {
    "BadRequest": (400, "An error occurred when parsing the HTTP request."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "IncompleteBody": (400, "The request body terminated unexpectedly"),
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

#: S3's operation names by method, presence of a key, and the query parameters that decide.
_OPERATIONS: Mapping[tuple[str, bool, frozenset[str]], str] = {
    ("PUT", False, frozenset()): "CreateBucket",
    ("HEAD", False, frozenset()): "HeadBucket",
    ("GET", False, frozenset({"uploads"})): "ListMultipartUploads",
    ("GET", False, frozenset({"list-type"})): "ListObjectsV2",
    ("PUT", True, frozenset()): "PutObject",
    ("HEAD", True, frozenset()): "HeadObject",
    ("GET", True, frozenset()): "GetObject",
    ("DELETE", True, frozenset()): "DeleteObject",
    ("POST", True, frozenset({"uploads"})): "CreateMultipartUpload",
    ("PUT", True, frozenset({"partNumber", "uploadId"})): "UploadPart",
    ("POST", True, frozenset({"uploadId"})): "CompleteMultipartUpload",
    ("DELETE", True, frozenset({"uploadId"})): "AbortMultipartUpload",
}
#: Stands for all operations that the null store does not support.
UNKNOWN = "unknown"
#: Operations whose body is bytes of an object.
WITH_BYTES = {"PutObject", "UploadPart"}
#: The operation that returns our own counters; its path is no valid bucket name.
STATS = "stats"
STATS_PATH = "/_null/stats"

#: Query parameters that do not decide the operation. The last three sign it, as do those that begin with `X-Amz-`.
_INDECISIVE = {"prefix", "encoding-type", "x-id", "AWSAccessKeyId", "Signature", "Expires"}


class Refused(Exception):
    """An error that S3 would return: its code, with elements such as `PartNumber`."""

    def __init__(self, code: str, **details: object) -> None:
        super().__init__(code)
        status, message = _ERRORS[code]
        self.answer = Answer.xml(element("Error", {"Code": code, "Message": message, **details}), status)


@dataclass(frozen=True)
class Answer:
    """A response; `Content-Length` is that of the body unless `headers` has another."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def xml(cls, document: str, status: int = 200) -> Self:
        """Make a response with an XML document."""
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()
        return cls(status, {"Content-Type": "application/xml"}, body)

    def rendered(self, *, with_body: bool, last: bool) -> bytes:
        """Render the bytes: no body for HEAD, `Connection: close` on the last answer."""
        headers = {**self.headers, "Connection": "close" if last else "keep-alive"}
        if self.status != HTTPStatus.NO_CONTENT:
            headers.setdefault("Content-Length", str(len(self.body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n".encode()
        return head + self.body if with_body else head


@dataclass(frozen=True)
class Request:
    """The head of a request.

    `key` is empty for the bucket itself. `length` is that of the object's bytes, None if no header declares it.
    """

    operation: str
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int | None

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Parse a request line and headers, without the empty line after them.

        Raises:
            Refused: they are not HTTP/1.1.
        """
        first, *lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, version = first.split(" ")
            headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        except ValueError:
            raise Refused("BadRequest") from None
        declared = headers.get("x-amz-decoded-content-length" if _is_chunked(headers) else "content-length")
        length = None if declared is None else digits(declared)
        if version != "HTTP/1.1" or (declared is not None and length is None):
            raise Refused("BadRequest")
        path, _, query_text = target.partition("?")
        bucket, _, key = unquote(path.removeprefix("/")).partition("/")
        query = dict(parse_qsl(query_text, keep_blank_values=True))
        decisive = frozenset(it for it in query if it not in _INDECISIVE and not it.lower().startswith("x-amz-"))
        operation = _OPERATIONS.get((method, bool(key), decisive), UNKNOWN) if bucket else UNKNOWN
        if (method, path) == ("GET", STATS_PATH):
            operation = STATS
        return cls(operation, method, bucket, key, query, headers, length)

    @property
    def is_chunked(self) -> bool:
        """Whether the body is in chunks of known total length, as boto3 sends it over TLS."""
        return self.length is not None and _is_chunked(self.headers)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def is_last(self) -> bool:
        """Whether the client closes the connection after this request."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def has_body(self) -> bool:
        """Whether a body follows, or may follow."""
        if self.length is None:
            return "transfer-encoding" in self.headers or self.method in {"PUT", "POST"}
        return self.length > 0


def _is_chunked(headers: Mapping[str, str]) -> bool:
    """Whether a body is in S3's own chunks inside HTTP's."""
    return "aws-chunked" in headers.get("content-encoding", "") and headers.get("transfer-encoding") == "chunked"


def digits(text: str) -> int | None:
    """Parse ASCII digits; int() accepts more than HTTP and S3 do."""
    return int(text) if text.isascii() and text.isdecimal() else None


def result(name: str, about: Mapping[str, object], *nested: str) -> Answer:
    """Make a response with a namespaced XML document."""
    namespaced = f'{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return Answer.xml(f"<{namespaced}>{_elements(about)}{''.join(nested)}</{name}>")


def element(name: str, values: Mapping[str, object]) -> str:
    """Render an XML element with a child for each value."""
    return f"<{name}>{_elements(values)}</{name}>"


def _elements(values: Mapping[str, object]) -> str:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())
