"""The apps' HTTP rules: request ids, preconditions, ranges, and an object's headers."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from secrets import token_hex
from typing import Any, Self

from filehandoff.errors import PreconditionFailed
from filehandoff.form import DEFAULT_CONTENT_TYPE
from filehandoff.keys import content_disposition, decode_name
from filehandoff.receipt import FILENAME_METADATA
from filehandoff.verify import quoted_etag, require

REQUEST_ID_HEADER = "X-Request-Id"

#: The form of a client's request id that both apps keep.
REQUEST_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
#: Only the client's own cache may store an object, since a proxy may check each client's access. The cache must
#: revalidate its copy each time, although the bytes under a key never change (RFC 8246 would call them immutable): an
#: object that was deleted, or that this client may no longer see, must not live on in a cache. Each check costs a 304.
CACHE_CONTROL = "private, no-cache"
#: An uploaded page or SVG is a stranger's code. Every response is a download, but some readers show it anyway: then it
#: loads nothing, runs nothing and has no origin (https://www.w3.org/TR/CSP3/#directive-sandbox).
CONTENT_SECURITY_POLICY = "default-src 'none'; sandbox"

#: The preconditions of a whole response (RFC 9110, section 13.1); `if-range` is a precondition of its range only.
PRECONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
_CONDITIONAL = PRECONDITIONS | {"if-range", "range"}
#: The methods that a client's cached copy can satisfy (RFC 9110, section 13.1.2).
_READING = frozenset({"GET", "HEAD"})
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_DATE = re.compile(
    r"(?:[a-z]{3}, \d\d [a-z]{3} \d{4}|[a-z]{6,9}, \d\d-[a-z]{3}-\d\d) \d\d:\d\d:\d\d GMT"
    r"|[a-z]{3} [a-z]{3} [ \d]\d \d\d:\d\d:\d\d \d{4}",
    re.ASCII | re.IGNORECASE,
)
_SINGLE_RANGE = re.compile(r"bytes=(?:\d{1,19}-\d{0,19}|-\d{1,19})", re.IGNORECASE | re.ASCII)


def request_id(header: str | None) -> str:
    """Return the client's `X-Request-Id` if it has a safe form, otherwise a new id."""
    return header if header and _REQUEST_ID.fullmatch(header) else token_hex(16)


def joined(headers: Iterable[tuple[str, str]], names: Container[str]) -> dict[str, str]:
    """Return the fields with these lowercase names; join repeated ones (RFC 9110, section 5.3)."""
    fields: dict[str, str] = {}
    for name, value in headers:
        if (field := name.lower()) in names:
            fields[field] = f"{fields[field]}, {value}" if field in fields else value
    return fields


def single_range(header: str | None) -> str | None:
    """Return a request's single range for S3; None for no, several or malformed ranges.

    The server ignores those and sends the whole object, as RFC 9110, section 14.2, allows.
    """
    if not header or not _SINGLE_RANGE.fullmatch(header):
        return None
    first, _, last = header[len("bytes=") :].partition("-")
    if first and last and int(first) > int(last):
        return None  # an invalid range is ignored (RFC 9110, section 14.1.1)
    return f"bytes={first}-{last}"


def clamp(byte_range: str, length: int) -> str | None:
    """Cut a range of `single_range` to an object's length; None if it lies outside.

    A suffix longer than the object means the whole object, and a range may end after the object (RFC 9110, section
    14.1.2). Some stores handle neither.
    """
    first, _, last = byte_range.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(length - int(last), 0)
    end = min(int(last), length - 1) if first and last else length - 1
    return f"bytes={start}-{end}" if start <= end else None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's description by `head_object` or `get_object`; the metadata's names are in lower case.

    `length` is the number of bytes in the response, fewer than the object's if `content_range` is set.
    """

    length: int
    content_type: str
    etag: str
    disposition: str
    modified: datetime | None = None
    content_range: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_s3(cls, key: str, answer: Mapping[str, Any]) -> Self:
        """Read the response to `head_object` or `get_object`; some stores change the case of metadata names.

        Raises:
            StoreRejected: the response lacks the length or the ETag.
        """
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return cls(
            length=require(answer, "ContentLength"),
            content_type=answer.get("ContentType") or DEFAULT_CONTENT_TYPE,  # RFC 9110, section 8.3
            etag=quoted_etag(answer),
            disposition=content_disposition(decode_name(metadata.get(FILENAME_METADATA, "")), key),
            modified=answer.get("LastModified"),
            content_range=answer.get("ContentRange"),
            metadata=metadata,
        )

    @property
    def status(self) -> int:
        """200 for the whole object, 206 for a range of it."""
        return 206 if self.content_range else 200

    def headers(self) -> dict[str, str]:
        """Return the response's headers, which keep browsers from showing the file as a page.

        They are the same for every request, so the response needs no `Vary`.
        """
        headers = {
            "Content-Length": str(self.length),
            "Content-Type": self.content_type,
            "ETag": self.etag,
            "Accept-Ranges": "bytes",
            "Content-Disposition": self.disposition,
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cache-Control": CACHE_CONTROL,
        }
        if self.modified is not None:
            # botocore's dates have dateutil's UTC, and format_datetime accepts only the standard library's.
            headers["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        if self.content_range:
            headers["Content-Range"] = self.content_range
        return headers


@dataclass(frozen=True, slots=True)
class ConditionalRequest:
    """A request for an object, its conditions and its range (RFC 9110, sections 13, 14).

    `fields` are the request's conditional fields by their lowercase names. The app checks them itself against S3's
    response to a head, since some stores ignore them. If the object is sent after all, the head costs a short delay. If
    not, the head is cheaper than a get that must be aborted, which costs the connection.
    """

    method: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, method: str, headers: Iterable[tuple[str, str]]) -> Self:
        """Read the conditions from a request's headers."""
        return cls(method, joined(headers, _CONDITIONAL))

    @property
    def needs_head(self) -> bool:
        """Whether the response depends on the object's head."""
        conditional = not PRECONDITIONS.isdisjoint(self.fields)
        return conditional or self.method == "HEAD" or ("if-range" in self.fields and self._single_range is not None)

    def check(self, info: ObjectInfo) -> bool:
        """Return whether to send the object; False for a current copy (RFC 9110, section 13.2.2).

        Raises:
            PreconditionFailed: the object does not meet a precondition.
        """
        match, since = self.fields.get("if-match"), _date(self.fields.get("if-unmodified-since"))
        if match is not None:
            if not _names(match, info.etag, weakly=False):
                raise PreconditionFailed(f"The object's ETag is {info.etag}, which If-Match does not list.")
        elif since and info.modified and info.modified > since:
            raise PreconditionFailed("The object was stored after the date of If-Unmodified-Since.")
        none_match, since = self.fields.get("if-none-match"), _date(self.fields.get("if-modified-since"))
        if none_match is not None:
            known = _names(none_match, info.etag, weakly=True)
            if known and self.method not in _READING:
                raise PreconditionFailed(f"The object's ETag is {info.etag}, which If-None-Match lists.")
            return not known
        return not (self.method in _READING and since and info.modified and info.modified <= since)

    def without_body(self, info: ObjectInfo) -> tuple[int, dict[str, str]] | None:
        """Return a 304, or any response to HEAD; None to send the object.

        Raises:
            PreconditionFailed: the object does not meet a precondition.
        """
        if not self.check(info):
            # a 304 with an ETag needs no date (RFC 9110, section 15.4.5), and werkzeug removes it
            return 304, {"ETag": info.etag, "Cache-Control": CACHE_CONTROL}
        # a Range has no meaning for HEAD (RFC 9110, section 14.2)
        return (info.status, info.headers()) if self.method == "HEAD" else None

    def byte_range(self, info: ObjectInfo | None) -> str | None:
        """Return the range for S3; None if `If-Range` does not match the object's head."""
        condition = self.fields.get("if-range")
        if condition is not None and info is not None and not _is_current(condition, info):
            return None
        return self._single_range

    @property
    def _single_range(self) -> str | None:
        return single_range(self.fields.get("range"))


def _names(header: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of tags, or `*`, matches this ETag.

    A strong comparison never matches a weak tag (RFC 9110, section 8.8.3.2).
    """
    if header.strip() == "*":
        return True
    tags = _ENTITY_TAG.findall(header)
    if weakly:
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    return not etag.startswith("W/") and etag in tags


def _is_current(condition: str, info: ObjectInfo) -> bool:
    """Whether `If-Range` is the object's ETag or its exact date (RFC 9110, section 13.1.5).

    A date has a resolution of a second. It is a strong validator here, since no key is written twice (section 8.8.2.2).
    """
    if _ENTITY_TAG.fullmatch(condition.strip()):
        return _names(condition, info.etag, weakly=False)
    return info.modified is not None and _date(condition) == info.modified


def _date(header: str | None) -> datetime | None:
    """Parse an HTTP date in any of its three forms; None for anything else.

    RFC 9110, section 5.6.7.
    """
    if not header or not _DATE.fullmatch(header.strip()):
        return None  # the parser of `email` accepts much more, such as two dates
    try:
        return parsedate_to_datetime(header).replace(tzinfo=UTC)  # asctime's form names no zone; it is UTC
    except ValueError:
        return None
