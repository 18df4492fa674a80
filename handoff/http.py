"""What both apps decide alike about a request's headers."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Self

from handoff.keys import content_disposition, decode_name
from handoff.receipt import FILENAME_METADATA

REQUEST_ID_HEADER = "X-Request-Id"

#: The request ids that are kept.
REQUEST_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
_SINGLE_RANGE = re.compile(r"bytes=(?:\d{1,19}-\d{0,19}|-\d{1,19})", re.IGNORECASE | re.ASCII)


def request_id(header: str | None) -> str:
    """The client's `X-Request-Id` if it has a safe shape, otherwise a new one."""
    return header if header and _REQUEST_ID.fullmatch(header) else uuid.uuid4().hex


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


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as S3's head or get describes it: `length` bytes come, a part of the whole if `content_range`."""

    length: int
    content_type: str
    etag: str
    disposition: str
    modified: datetime | None = None
    content_range: str | None = None

    @classmethod
    def from_s3(cls, key: str, answer: Mapping[str, Any]) -> Self:
        """What boto's `head_object` or `get_object` answered; some stores change the case of metadata names."""
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
        return cls(
            length=answer["ContentLength"],
            content_type=answer["ContentType"],
            etag=answer["ETag"],
            disposition=content_disposition(decode_name(metadata.get(FILENAME_METADATA, "")), key),
            modified=answer.get("LastModified"),
            content_range=answer.get("ContentRange"),
        )

    @property
    def status(self) -> int:
        """200, or 206 for a part of the object."""
        return 206 if self.content_range else 200

    def headers(self) -> dict[str, str]:
        """The answer's headers; a browser never guesses the type and never shows the file as a page of ours."""
        headers = {
            "Content-Length": str(self.length),
            "Content-Type": self.content_type,
            "ETag": self.etag,
            "Accept-Ranges": "bytes",
            "Content-Disposition": self.disposition,
            "X-Content-Type-Options": "nosniff",
        }
        if self.modified is not None:
            # botocore's dates are in UTC by dateutil, which is not the UTC that format_datetime knows.
            headers["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        if self.content_range:
            headers["Content-Range"] = self.content_range
        return headers
