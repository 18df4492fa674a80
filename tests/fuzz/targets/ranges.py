"""Ranges and conditions: werkzeug reads each accepted range alike, and only one error is raised."""

import re
from datetime import UTC, datetime, timedelta

from fuzz.inputs import fields, number
from werkzeug.http import parse_etags, parse_range_header

from filehandoff.errors import PreconditionFailed
from filehandoff.http import REQUEST_ID_PATTERN, ConditionalRequest, ObjectInfo, clamp, request_id, single_range

WORDS = (
    b"bytes=0-4",
    b"bytes=-5",
    b"bytes=5-",
    b"bytes=0-0,2-3",
    b"If-Match: ",
    b"If-None-Match: ",
    b"If-Range: ",
    b"If-Modified-Since: ",
    b"If-Unmodified-Since: ",
    b"Range: ",
    b'W/"a"',
    b'"a"',
    b"Fri, 02 Jan 1970 00:00:00 GMT",
    b"Friday, 02-Jan-70 00:00:00 GMT",
    b"Fri Jan  2 00:00:00 1970",
    b"9999999999999999999",
    b"*",
)
EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
METHODS = ("GET", "HEAD", "DELETE")


def check(data: bytes) -> None:
    """Read the input as a range, as conditional headers and as a request's id."""
    options, *lines = fields(data, 7, b"\n")
    length = number(options[1:3])
    for line in lines:
        check_range(line.decode("latin-1"), length)
    headers = [
        (name.strip(), value.strip()) for name, _, value in (line.decode("latin-1").partition(":") for line in lines)
    ]
    info = ObjectInfo(length, "text/plain", '"a"', "attachment", EPOCH + timedelta(seconds=ord(options[3:4] or b"0")))
    check_conditions(METHODS[len(options) % 3], headers, info)
    assert re.fullmatch(REQUEST_ID_PATTERN, request_id(lines[-1].decode("latin-1"))), "a request's id is unsafe"


def check_range(header: str, length: int) -> None:
    """Compare a range with werkzeug's."""
    ours = single_range(header)
    if ours is None:
        return
    expected = range(length)[_slice(header)]
    clamped = clamp(ours, length)
    if clamped is None:
        assert not expected, "a range within the object is refused"
        return
    start, end = map(int, clamped.removeprefix("bytes=").split("-"))
    assert 0 <= start <= end < length, "a range leaves the object"
    assert expected == range(start, end + 1), "werkzeug reads another range"
    assert clamp(single_range(clamped) or "", length) == clamped, "a cut range is cut again"


def _slice(header: str) -> slice:
    """Return a range by werkzeug, which rejects the last 0 bytes."""
    if re.fullmatch("bytes=-0+", header, re.IGNORECASE):
        return slice(0)
    theirs = parse_range_header(header.lower())
    assert theirs, "werkzeug rejects the range"
    assert len(theirs.ranges) == 1, "several ranges count as one"
    return slice(*theirs.ranges[0])


def check_conditions(method: str, headers: list[tuple[str, str]], info: ObjectInfo) -> None:
    """Check that the answer is one of the four, and that a condition needs the object's head."""
    request = ConditionalRequest.of(method, headers)
    try:
        answer = request.without_body(info)
    except PreconditionFailed:
        assert request.needs_head, "a condition is checked without the object's head"
        return
    if answer is not None:
        assert request.needs_head, "an answer without a body needs no head"
        assert answer[0] in {200, 304}, "the status is another one"
    byte_range = request.byte_range(info)
    assert byte_range is None or byte_range == request.byte_range(None), "If-Range changes the range"
    tags = request.fields.get("if-none-match", "")
    if method == "GET" and re.fullmatch(r'(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*', tags):
        current = parse_etags(tags).contains_weak("a")
        assert (answer is not None) == current, "werkzeug compares If-None-Match otherwise"
