"""The rules that both apps share about the headers of a request and an object."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.errors import PreconditionFailed
from filehandoff.http import (
    PRECONDITIONS,
    REQUEST_ID_HEADER,
    ConditionalRequest,
    ObjectInfo,
    clamp,
    request_id,
    single_range,
)

INFO = ObjectInfo(3, "text/plain", '"abc"', 'attachment; filename="a.txt"')
STORED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
DATED = replace(INFO, modified=STORED)
BEFORE, AT, AFTER = (format_datetime(STORED + timedelta(seconds=step), usegmt=True) for step in (-1, 0, 1))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("a", id="one character"),
        pytest.param("A.b_c-9", id="every kind of character"),
        pytest.param("x" * 64, id="64 characters"),
    ],
)
def test_a_safe_request_id_is_kept(header: str) -> None:
    """A client's own id is kept if it has a safe form."""
    assert request_id(header) == header


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("x" * 65, id="65 characters"),
        pytest.param("a b", id="a space"),
        pytest.param("a\r\nX: y", id="a line end"),
        pytest.param("a\n", id="a line end behind it"),
        pytest.param("é", id="not ASCII"),
    ],
)
def test_any_other_request_id_is_replaced(header: str | None) -> None:
    """An id of another form is replaced by a new id, each time another one."""
    first, second = request_id(header), request_id(header)
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


@pytest.mark.parametrize(
    ("asked", "length", "expected"),
    [
        pytest.param("bytes=0-4", 15, "bytes=0-4", id="within"),
        pytest.param("bytes=5-", 15, "bytes=5-14", id="to the end"),
        pytest.param("bytes=14-99999999999999999999", 15, "bytes=14-14", id="past the end"),
        pytest.param("bytes=-3", 15, "bytes=12-14", id="the last bytes"),
        pytest.param("bytes=-20", 15, "bytes=0-14", id="a suffix longer than the object"),
        pytest.param("bytes=15-", 15, None, id="behind the end"),
        pytest.param("bytes=-0", 15, None, id="no bytes"),
        pytest.param("bytes=0-", 0, None, id="of an empty object"),
        pytest.param("bytes=-5", 0, None, id="the last bytes of an empty object"),
    ],
)
def test_a_range_is_cut_to_the_object(asked: str, length: int, expected: str | None) -> None:
    """The range is cut to the object, and None if it lies outside the object."""
    assert clamp(asked, length) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("", None, id="empty"),
        pytest.param("bytes=0-0", "bytes=0-0", id="one byte"),
        pytest.param("bytes=1-2", "bytes=1-2", id="from and to"),
        pytest.param("bytes=1-", "bytes=1-", id="from"),
        pytest.param("bytes=-1", "bytes=-1", id="the last"),
        pytest.param("Bytes=1-2", "bytes=1-2", id="the unit in any case"),
        pytest.param("bytes=2-1", None, id="backwards"),
        pytest.param("bytes=10-9", None, id="backwards, not by the alphabet"),
        pytest.param("bytes=9-10", "bytes=9-10", id="forwards, not by the alphabet"),
        pytest.param("bytes=-", None, id="neither from nor to"),
        pytest.param("bytes=0-1,3-4", None, id="two ranges"),
        pytest.param("bytes=0-1 ", None, id="a space behind it"),
        pytest.param("bytes 0-1", None, id="no equals sign"),
        pytest.param("lines=0-1", None, id="another unit"),
        pytest.param(f"bytes=0-{'9' * 19}", f"bytes=0-{'9' * 19}", id="19 digits"),
        pytest.param(f"bytes=0-{'9' * 20}", None, id="20 digits"),
        pytest.param("bytes=\u0660-\u0669", None, id="digits of another script"),
    ],
)
def test_only_a_single_range_is_asked_for(header: str | None, expected: str | None) -> None:
    """Only one well-formed range is passed on to S3 (RFC 9110, section 14.2)."""
    assert single_range(header) == expected


@given(st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True))
def test_a_range_for_s3_is_plain_ascii(header: str) -> None:
    """Any header gives a range that S3 can read, or None."""
    asked = single_range(header)
    assert asked is None or re.fullmatch(r"bytes=(?:[0-9]+-[0-9]*|-[0-9]+)", asked)


def test_the_request_id_travels_in_its_usual_header() -> None:
    """The header's name is the one that proxies and clients use."""
    assert REQUEST_ID_HEADER == "X-Request-Id"


def test_an_object_has_the_headers_of_a_safe_download() -> None:
    """A whole object is a 200, with headers against guessing, showing and caching."""
    assert INFO.status == 200
    assert INFO.headers() == {
        "Content-Length": "3",
        "Content-Type": "text/plain",
        "ETag": '"abc"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": 'attachment; filename="a.txt"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache",
    }


def test_a_part_of_an_object_says_which() -> None:
    """A range is a 206 with its place in the object."""
    info = ObjectInfo(1, "text/plain", '"abc"', "attachment", content_range="bytes 0-0/3")
    assert info.status == 206
    assert info.headers()["Content-Range"] == "bytes 0-0/3"


@pytest.mark.parametrize(
    "modified",
    [
        pytest.param(datetime(2026, 1, 31, 12, 0, tzinfo=UTC), id="UTC"),
        pytest.param(datetime(2026, 1, 31, 13, 0, tzinfo=timezone(timedelta(hours=1))), id="another zone"),
    ],
)
def test_a_date_is_an_http_date(modified: datetime) -> None:
    """Last-Modified is an HTTP date in GMT (RFC 9110, section 5.6.7)."""
    info = ObjectInfo(1, "text/plain", '"abc"', "attachment", modified=modified)
    assert info.headers()["Last-Modified"] == "Sat, 31 Jan 2026 12:00:00 GMT"


@pytest.mark.parametrize("name", ["filename", "Filename"])
def test_an_object_is_read_from_s3s_response(name: str) -> None:
    """All values come from S3, and the name from its metadata, in any case."""
    modified = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    answer = {
        "ContentLength": 2,
        "ContentType": "text/plain",
        "ETag": '"abc"',
        "Metadata": {name: "UTF-8''%C3%9C.txt"},
        "LastModified": modified,
        "ContentRange": "bytes 0-1/9",
    }
    disposition = "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%9C.txt"
    assert ObjectInfo.from_s3("a/b/_.txt", answer) == ObjectInfo(
        2, "text/plain", '"abc"', disposition, modified, "bytes 0-1/9", {"filename": "UTF-8''%C3%9C.txt"}
    )


def test_an_object_without_a_name_is_downloaded_under_its_key() -> None:
    """Without a name, date or range in S3's response, the object has none."""
    answer = {"ContentLength": 0, "ContentType": "a/b", "ETag": '"e"', "Metadata": {}}
    assert ObjectInfo.from_s3("a/b/key.bin", answer) == ObjectInfo(0, "a/b", '"e"', 'attachment; filename="key.bin"')


def outcome(method: str, headers: dict[str, str], info: ObjectInfo = DATED) -> int:
    """Return the status of a request with these conditions, without its range."""
    try:
        return 200 if ConditionalRequest.of(method, headers.items()).check(info) else 304
    except PreconditionFailed as error:
        return error.status


@pytest.mark.parametrize(
    ("header", "etag", "weakly", "strongly"),
    [
        pytest.param('"abc"', '"abc"', True, True, id="itself"),
        pytest.param('"abd"', '"abc"', False, False, id="another"),
        pytest.param('"ab"', '"abc"', False, False, id="its beginning"),
        pytest.param('"ABC"', '"abc"', False, False, id="in another case"),
        pytest.param('"a", "abc"', '"abc"', True, True, id="a list"),
        pytest.param('"a","abc","b"', '"abc"', True, True, id="a list without spaces"),
        pytest.param(', ,"abc",', '"abc"', True, True, id="empty members"),
        pytest.param('"a,", "b"', '", "', False, False, id="text between two"),
        pytest.param('"a,b"', '"a,b"', True, True, id="a comma"),
        pytest.param('W/"abc"', '"abc"', True, False, id="a weak one"),
        pytest.param('"abc"', 'W/"abc"', True, False, id="of a weak one"),
        pytest.param('W/"abc"', 'W/"abc"', True, False, id="two weak ones"),
        pytest.param("*", '"abc"', True, True, id="any"),
        pytest.param(" * ", '"abc"', True, True, id="any, with spaces"),
        pytest.param('"a", *', '"abc"', False, False, id="any in a list"),
        pytest.param("abc", '"abc"', False, False, id="without quotes"),
        pytest.param('"abc', '"abc"', False, False, id="half a tag"),
        pytest.param("", '"abc"', False, False, id="nothing"),
    ],
)
def test_a_list_of_etags_names_an_object(header: str, etag: str, *, weakly: bool, strongly: bool) -> None:
    """If-None-Match compares weakly, If-Match strongly (RFC 9110, section 8.8.3.2); `*` matches any object."""
    info = replace(INFO, etag=etag)
    assert outcome("GET", {"If-None-Match": header}, info) == (304 if weakly else 200)
    assert outcome("GET", {"If-Match": header}, info) == (200 if strongly else 412)


@pytest.mark.parametrize(
    ("date", "modified_since", "unmodified_since"),
    [
        pytest.param(BEFORE, 200, 412, id="a second before"),
        pytest.param(AT, 304, 200, id="the same second"),
        pytest.param(AFTER, 304, 200, id="a second after"),
        pytest.param("Saturday, 31-Jan-26 11:59:59 GMT", 200, 412, id="RFC 850"),
        pytest.param("Sat Jan 31 11:59:59 2026", 200, 412, id="asctime"),
        pytest.param("Sat Jan 31 12:00:00 2026", 304, 200, id="asctime, the same second"),
        pytest.param("yesterday", 200, 200, id="no date"),
        pytest.param("", 200, 200, id="nothing"),
        pytest.param("Sat, 32 Jan 2026 12:00:00 GMT", 200, 200, id="no such day"),
        pytest.param(f"{AFTER}, {AFTER}", 200, 200, id="two dates"),
        pytest.param(f"Sat, 31 Jan {'9' * 40} 12:00:00 GMT", 200, 200, id="a year beyond all"),
        pytest.param("Sat, 31 Jan 2026 12:00:01 +0000", 200, 200, id="another zone"),
    ],
)
def test_a_date_is_compared_in_whole_seconds(date: str, modified_since: int, unmodified_since: int) -> None:
    """Only HTTP's three forms of a date are read (RFC 9110, section 13.1.3)."""
    assert outcome("GET", {"If-Modified-Since": date}) == modified_since
    assert outcome("GET", {"If-Unmodified-Since": date}) == unmodified_since


def test_an_object_without_a_date_is_under_no_condition_of_a_date() -> None:
    """If S3 returns no date, no date is compared (RFC 9110, sections 13.1.3 and 13.1.4)."""
    assert outcome("GET", {"If-Modified-Since": AFTER}, INFO) == 200
    assert outcome("GET", {"If-Unmodified-Since": BEFORE}, INFO) == 200


YES, NO = '"abc"', '"other"'


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, 200, id="no condition"),
        pytest.param({"If-Match": YES, "If-Unmodified-Since": BEFORE}, 200, id="If-Match before If-Unmodified-Since"),
        pytest.param({"If-Match": NO, "If-Unmodified-Since": AFTER}, 412, id="and if it fails"),
        pytest.param(
            {"If-None-Match": NO, "If-Modified-Since": AFTER}, 200, id="If-None-Match before If-Modified-Since"
        ),
        pytest.param({"If-None-Match": YES, "If-Modified-Since": BEFORE}, 304, id="and if it is known"),
        pytest.param({"If-Match": NO, "If-None-Match": YES}, 412, id="If-Match before If-None-Match"),
        pytest.param({"If-Match": YES, "If-None-Match": YES}, 304, id="and both"),
        pytest.param({"If-Unmodified-Since": BEFORE, "If-None-Match": YES}, 412, id="a date before If-None-Match"),
        pytest.param({"If-Unmodified-Since": AT, "If-Modified-Since": AT}, 304, id="both dates"),
        pytest.param({"If-Range": NO, "Range": "bytes=0-0"}, 200, id="If-Range is about the range alone"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_are_judged_in_order(method: str, headers: dict[str, str], expected: int) -> None:
    """Conditions apply in the order of RFC 9110, section 13.2.2, also for HEAD."""
    assert outcome(method, headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"If-None-Match": YES}, 412, id="If-None-Match"),
        pytest.param({"If-None-Match": NO}, 200, id="If-None-Match of another"),
        pytest.param({"If-Match": NO}, 412, id="If-Match of another"),
        pytest.param({"If-Modified-Since": AFTER}, 200, id="If-Modified-Since"),
    ],
)
def test_a_client_that_changes_something_has_nothing_already(headers: dict[str, str], expected: int) -> None:
    """DELETE fails where GET gets 304, and ignores If-Modified-Since (RFC 9110, section 13.1)."""
    assert outcome("DELETE", headers) == expected


def test_a_field_of_several_lines_is_one_list() -> None:
    """ETags may come in several lines, by any case of the name."""
    asked = ConditionalRequest.of("GET", [("If-None-Match", NO), ("Accept", "*/*"), ("if-none-match", YES)])
    assert asked == ConditionalRequest("GET", {"if-none-match": f"{NO}, {YES}"})
    assert not asked.check(INFO)


@pytest.mark.parametrize(
    ("condition", "info", "applies"),
    [
        pytest.param('"abc"', DATED, True, id="its ETag"),
        pytest.param(' "abc" ', DATED, True, id="its ETag, with spaces"),
        pytest.param('"other"', DATED, False, id="another ETag"),
        pytest.param('W/"abc"', DATED, False, id="a weak ETag"),
        pytest.param('"abc"', replace(DATED, etag='W/"abc"'), False, id="of a weak ETag"),
        pytest.param('"abc", "other"', DATED, False, id="a list, which it cannot be"),
        pytest.param("*", DATED, False, id="any, which it cannot be"),
        pytest.param(AT, DATED, True, id="its date"),
        pytest.param("Sat Jan 31 12:00:00 2026", DATED, True, id="its date by asctime"),
        pytest.param(BEFORE, DATED, False, id="an earlier date"),
        pytest.param(AFTER, DATED, False, id="a later date"),
        pytest.param(AT, INFO, False, id="a date, where there is none"),
        pytest.param("nonsense", INFO, False, id="nonsense, where there is no date"),
    ],
)
def test_a_range_is_of_the_object_that_the_client_means(condition: str, info: ObjectInfo, *, applies: bool) -> None:
    """If-Range must be the object's strong ETag or exact date (section 13.1.5)."""
    asked = ConditionalRequest.of("GET", {"Range": "bytes=1-2", "If-Range": condition}.items())
    assert asked.needs_head
    assert asked.byte_range(info) == ("bytes=1-2" if applies else None)


@pytest.mark.parametrize(
    ("method", "headers", "needs_head"),
    [
        pytest.param("GET", {}, False, id="GET"),
        pytest.param("GET", {"Range": "bytes=0-"}, False, id="a range"),
        pytest.param("GET", {"If-Range": "*"}, False, id="If-Range without a range"),
        pytest.param("GET", {"If-Range": "*", "Range": "lines=1-"}, False, id="If-Range without a range we serve"),
        pytest.param("GET", {"If-Range": "*", "Range": "bytes=0-"}, True, id="If-Range"),
        *(pytest.param("GET", {name: "x"}, True, id=name) for name in sorted(PRECONDITIONS)),
        pytest.param("HEAD", {}, True, id="HEAD"),
    ],
)
def test_s3_is_asked_twice_only_for_a_condition(method: str, headers: dict[str, str], *, needs_head: bool) -> None:
    """Only a condition needs a head before the object."""
    asked = ConditionalRequest.of(method, headers.items())
    assert asked.needs_head is needs_head


def test_a_plain_range_needs_no_head() -> None:
    """A range without a condition is requested unchanged."""
    assert ConditionalRequest.of("GET", [("Range", "bytes=1-2")]).byte_range(None) == "bytes=1-2"
    assert ConditionalRequest.of("GET", []).byte_range(None) is None


def test_a_current_copy_is_not_sent_again() -> None:
    """A 304 has the ETag and Cache-Control, and nothing more (section 15.4.5)."""
    for method in ("GET", "HEAD"):
        answer = ConditionalRequest.of(method, [("If-None-Match", "*")]).without_body(DATED)
        assert answer == (304, {"ETag": '"abc"', "Cache-Control": "private, no-cache"})


def test_head_has_the_headers_of_the_whole() -> None:
    """HEAD returns the headers of the whole object, without a range."""
    asked = ConditionalRequest.of("HEAD", [("Range", "bytes=0-0"), ("If-Match", YES)])
    assert asked.without_body(DATED) == (200, DATED.headers())


def test_a_get_that_may_have_the_object_has_a_body() -> None:
    """A GET whose conditions hold has a body."""
    assert ConditionalRequest.of("GET", [("If-Match", YES)]).without_body(DATED) is None


dates = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
conditions = st.dictionaries(
    st.sampled_from([*sorted(PRECONDITIONS), "if-range", "range"]),
    st.text() | st.sampled_from([YES, NO, "*", BEFORE, AT, AFTER, "bytes=0-0"]),
)


@given(st.sampled_from(["GET", "HEAD", "DELETE"]), conditions)
def test_no_condition_is_too_strange(method: str, headers: dict[str, str]) -> None:
    """Any request has one of three outcomes, and its range only from its Range."""
    assert outcome(method, headers) in ({200, 304, 412} if method != "DELETE" else {200, 412})
    asked = ConditionalRequest.of(method, headers.items())
    assert asked.byte_range(DATED) in {None, single_range(headers.get("range"))}


@given(dates, dates)
def test_a_date_tells_before_from_after(stored: datetime, date: datetime) -> None:
    """Of the two conditions on one date, exactly one lets the object be sent."""
    info, header = replace(INFO, modified=stored), format_datetime(date, usegmt=True)
    assert (outcome("GET", {"If-Modified-Since": header}, info) == 200) is (stored > date)
    assert (outcome("GET", {"If-Unmodified-Since": header}, info) == 200) is (stored <= date)


@given(st.lists(st.from_regex(r'(?:W/)?"[!#-~\x80-\xff]*"', fullmatch=True), min_size=1), st.data())
def test_every_member_of_a_list_is_named(tags: list[str], data: st.DataObject) -> None:
    """An object whose ETag is anywhere in the list matches it."""
    etag = data.draw(st.sampled_from(tags))
    assert outcome("GET", {"If-None-Match": ", ".join(tags)}, replace(INFO, etag=etag)) == 304
