"""What both apps decide alike about a request's and an object's headers."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.http import REQUEST_ID_HEADER, ObjectInfo, request_id, single_range

INFO = ObjectInfo(3, "text/plain", '"abc"', 'attachment; filename="a.txt"')


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("a", id="one character"),
        pytest.param("A.b_c-9", id="every kind of character"),
        pytest.param("x" * 64, id="64 characters"),
    ],
)
def test_a_safe_request_id_is_kept(header: str) -> None:
    """A client's own id is kept if it has a safe shape."""
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
    """An id of any other shape is replaced by a new one, another each time."""
    first, second = request_id(header), request_id(header)
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


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
    """One readable range of bytes is passed on to S3, anything else is ignored (RFC 9110, section 14.2)."""
    assert single_range(header) == expected


@given(st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True))
def test_a_range_for_s3_is_plain_ascii(header: str) -> None:
    """Whatever a client sends, S3 is asked for a range that it can read, or for none."""
    asked = single_range(header)
    assert asked is None or re.fullmatch(r"bytes=(?:[0-9]+-[0-9]*|-[0-9]+)", asked)


def test_the_request_id_travels_in_its_usual_header() -> None:
    """Proxies and clients know the id by this name."""
    assert REQUEST_ID_HEADER == "X-Request-Id"


def test_an_object_has_the_headers_of_a_safe_download() -> None:
    """A whole object is answered with 200, and a browser neither guesses its type nor shows it."""
    assert INFO.status == 200
    assert INFO.headers() == {
        "Content-Length": "3",
        "Content-Type": "text/plain",
        "ETag": '"abc"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": 'attachment; filename="a.txt"',
        "X-Content-Type-Options": "nosniff",
    }


def test_a_part_of_an_object_says_which() -> None:
    """A range is answered with 206 and where it lies."""
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
    """Last-Modified is in HTTP's own form, in GMT (RFC 9110, section 5.6.7)."""
    info = ObjectInfo(1, "text/plain", '"abc"', "attachment", modified=modified)
    assert info.headers()["Last-Modified"] == "Sat, 31 Jan 2026 12:00:00 GMT"


@pytest.mark.parametrize("name", ["filename", "Filename"])
def test_an_object_is_what_s3_says_of_it(name: str) -> None:
    """Length, type, ETag, date and range are S3's; the download's name is the one in the metadata, in any case."""
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
        2, "text/plain", '"abc"', disposition, modified, "bytes 0-1/9"
    )


def test_an_object_without_a_name_is_downloaded_under_its_key() -> None:
    """What S3 leaves out is left out: no name, no date, no range."""
    answer = {"ContentLength": 0, "ContentType": "a/b", "ETag": '"e"', "Metadata": {}}
    assert ObjectInfo.from_s3("a/b/key.bin", answer) == ObjectInfo(0, "a/b", '"e"', 'attachment; filename="key.bin"')
