"""What both apps decide alike about a request's headers, and by which headers they answer with an object."""

import re
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Self

from filehandoff.errors import PreconditionFailed
from filehandoff.form import DEFAULT_CONTENT_TYPE
from filehandoff.keys import content_disposition, decode_name
from filehandoff.receipt import FILENAME_METADATA
from filehandoff.verify import quoted_etag, require

REQUEST_ID_HEADER = "X-Request-Id"

#: The request ids that are kept.
REQUEST_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
#: Stored by the client's own cache alone, since whoever lets clients through to us may check who asks; and asked for
#: anew each time, though the bytes under a key never change (RFC 8246 would call them immutable): an upload that was
#: deleted, or that this client may not see any more, must not live on in a cache. What is still there costs a 304.
CACHE_CONTROL = "private, no-cache"
#: An uploaded page or SVG is code of a stranger's. Every answer is a download, but not all that read it care; where
#: one is shown, it loads nothing, runs nothing, and is of no origin (https://www.w3.org/TR/CSP3/#directive-sandbox).
CONTENT_SECURITY_POLICY = "default-src 'none'; sandbox"

#: The preconditions that the whole answer depends on (RFC 9110, section 13.1); `if-range` is only about its range.
PRECONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
_CONDITIONAL = PRECONDITIONS | {"if-range", "range"}
#: The methods that a client's own copy may answer (RFC 9110, section 13.1.2).
_READING = frozenset({"GET", "HEAD"})
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_DATE = re.compile(
    r"(?:[a-z]{3}, \d\d [a-z]{3} \d{4}|[a-z]{6,9}, \d\d-[a-z]{3}-\d\d) \d\d:\d\d:\d\d GMT"
    r"|[a-z]{3} [a-z]{3} [ \d]\d \d\d:\d\d:\d\d \d{4}",
    re.ASCII | re.IGNORECASE,
)
_SINGLE_RANGE = re.compile(r"bytes=(?:\d{1,19}-\d{0,19}|-\d{1,19})", re.IGNORECASE | re.ASCII)


def request_id(header: str | None) -> str:
    """The client's `X-Request-Id` if it has a safe shape, otherwise a new one."""
    return header if header and _REQUEST_ID.fullmatch(header) else uuid.uuid4().hex


def joined(headers: Iterable[tuple[str, str]], names: Container[str]) -> dict[str, str]:
    """The fields of these lowercase names; several lines of a field are one list (RFC 9110, section 5.3)."""
    fields: dict[str, str] = {}
    for name, value in headers:
        if (field := name.lower()) in names:
            fields[field] = f"{fields[field]}, {value}" if field in fields else value
    return fields


def single_range(header: str | None) -> str | None:
    """The `Range` to ask S3 for: one range of bytes; None for no, several or unreadable ranges.

    A server may ignore a Range and send the whole (RFC 9110, section 14.2), and for those we do.
    """
    if not header or not _SINGLE_RANGE.fullmatch(header):
        return None
    first, _, last = header[len("bytes=") :].partition("-")
    if first and last and int(first) > int(last):
        return None  # RFC 9110, section 14.1.1: an invalid range is ignored
    return f"bytes={first}-{last}"


def clamp(byte_range: str, length: int) -> str | None:
    """A single range (of `single_range`) as it lies within so many bytes; None if none of it does.

    A suffix longer than the object is all of it, and a range may end after it, however far (RFC 9110, section 14.1.2).
    Not every store can do with that.
    """
    first, _, last = byte_range.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(length - int(last), 0)
    end = min(int(last), length - 1) if first and last else length - 1
    return f"bytes={start}-{end}" if start <= end else None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as S3's head or get describes it: `length` bytes come, a part of the whole if `content_range`.

    The names of the metadata are in lowercase.
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
        """What boto's `head_object` or `get_object` answered; some stores change the case of metadata names.

        Raises:
            StoreRejected: it lacks what every object has.
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
        """200, or 206 for a part of the object."""
        return 206 if self.content_range else 200

    def headers(self) -> dict[str, str]:
        """The answer's headers; a browser never guesses the type and never shows the file as a page of ours.

        They are the same for every request, so there is nothing to `Vary` by.
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
            # botocore's dates are in UTC by dateutil, which is not the UTC that format_datetime knows.
            headers["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        if self.content_range:
            headers["Content-Range"] = self.content_range
        return headers


@dataclass(frozen=True, slots=True)
class ConditionalRequest:
    """What of an object is asked for, and under which conditions (RFC 9110, sections 13 and 14).

    `fields` are the request's conditional fields by their lowercase names. We judge them, on what S3's head says: S3
    would know them itself, but not every store that speaks its API does. A head costs a moment more where the object
    is sent after all, and less than a get that is broken off, which costs the connection, where it is not.
    """

    method: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, method: str, headers: Iterable[tuple[str, str]]) -> Self:
        """From a request."""
        return cls(method, joined(headers, _CONDITIONAL))

    @property
    def needs_head(self) -> bool:
        """Whether the answer depends on what S3's head says."""
        conditional = not PRECONDITIONS.isdisjoint(self.fields)
        return conditional or self.method == "HEAD" or ("if-range" in self.fields and self._single_range is not None)

    def check(self, info: ObjectInfo) -> bool:
        """Whether all preconditions hold, in the order of RFC 9110, section 13.2.2; if not, the client has it already.

        Raises:
            PreconditionFailed: the request was for an object in another state.
        """
        match, since = self.fields.get("if-match"), _date(self.fields.get("if-unmodified-since"))
        if match is not None:
            if not _names(match, info.etag, weakly=False):
                raise PreconditionFailed(f"The object's ETag is {info.etag}, which If-Match does not name.")
        elif since and info.modified and info.modified > since:
            raise PreconditionFailed("The object was stored after the date of If-Unmodified-Since.")
        none_match, since = self.fields.get("if-none-match"), _date(self.fields.get("if-modified-since"))
        if none_match is not None:
            known = _names(none_match, info.etag, weakly=True)
            if known and self.method not in _READING:
                raise PreconditionFailed(f"The object's ETag is {info.etag}, which If-None-Match names.")
            return not known
        return not (self.method in _READING and since and info.modified and info.modified <= since)

    def without_body(self, info: ObjectInfo) -> tuple[int, dict[str, str]] | None:
        """Status and headers of an answer that has no body: 304, or any to HEAD; None where the object is to be sent.

        Raises:
            PreconditionFailed: the request was for an object in another state.
        """
        if not self.check(info):
            # the date would be of use only if there were no ETag (RFC 9110, section 15.4.5), and werkzeug removes it
            return 304, {"ETag": info.etag, "Cache-Control": CACHE_CONTROL}
        # HEAD has no ranges (RFC 9110, section 14.2)
        return (info.status, info.headers()) if self.method == "HEAD" else None

    def byte_range(self, info: ObjectInfo | None) -> str | None:
        """The range to ask S3 for: none if `If-Range` is about another state of the object than that of its head."""
        condition = self.fields.get("if-range")
        if condition is not None and info is not None and not _is_current(condition, info):
            return None
        return self._single_range

    @property
    def _single_range(self) -> str | None:
        return single_range(self.fields.get("range"))


def _names(header: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, names this one; strongly, only if neither is weak (section 8.8.3.2)."""
    if header.strip() == "*":
        return True
    tags = _ENTITY_TAG.findall(header)
    if weakly:
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    return not etag.startswith("W/") and etag in tags


def _is_current(condition: str, info: ObjectInfo) -> bool:
    """Whether `If-Range` is the object's ETag, or its very date (RFC 9110, section 13.1.5).

    A date is a strong validator here, though of a second only: nothing is stored under a key twice (section 8.8.2.2).
    """
    if _ENTITY_TAG.fullmatch(condition.strip()):
        return _names(condition, info.etag, weakly=False)
    return info.modified is not None and _date(condition) == info.modified


def _date(header: str | None) -> datetime | None:
    """An HTTP date in any of its three forms (RFC 9110, section 5.6.7); None if it is none, and so to be ignored."""
    if not header or not _DATE.fullmatch(header.strip()):
        return None  # email's parser takes much more, such as two dates for the first
    try:
        return parsedate_to_datetime(header).replace(tzinfo=UTC)  # asctime's form names no zone, and is in UTC as well
    except ValueError:
        return None
