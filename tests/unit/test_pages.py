"""The pages for a browser that sends a plain HTML form."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from filehandoff.http import ObjectInfo
from filehandoff.web.pages import (
    MAX_PATH_BYTES,
    MAX_RECEIPTS,
    PAGE_HEADERS,
    StoredReceipt,
    problem_page,
    receipts_page,
    receipts_path,
)

EVIL = "<script>alert(1)</script>.txt"


def info(filename: str = "UTF-8''cat.png", modified: datetime | None = None) -> ObjectInfo:
    """Return an object's head in S3."""
    return ObjectInfo(
        length=1234567,
        content_type="image/png",
        etag='"abc-2"',
        disposition="attachment",
        modified=modified,
        metadata={"filename": filename, "request-id": "the-request"},
    )


def test_a_receipt_is_made_of_the_objects_head() -> None:
    """The receipt's members come from the object, its time is in UTC."""
    receipt = StoredReceipt.of("a/key.png", info(modified=datetime(2026, 1, 31, 12, tzinfo=UTC)), "https://x/key")
    assert receipt.as_json() == {
        "key": "a/key.png",
        "url": "https://x/key",
        "filename": "cat.png",
        "content_type": "image/png",
        "size": 1234567,
        "etag": "abc-2",
        "stored_at": "2026-01-31T12:00:00+00:00",
        "request_id": "the-request",
    }


def test_the_page_names_the_object_and_links_to_it() -> None:
    """The page shows name, size and a link, or else the key's end."""
    known = receipts_page([StoredReceipt.of("a/key.png", info(), "https://x/key")], more=0)
    assert '<a href="https://x/key">cat.png</a>' in known
    assert "1,234,567 bytes" in known
    assert "more files" not in known
    assert ">key.png</a>" in receipts_page([StoredReceipt.of("a/key.png", info("none of ours"), "")], more=0)


def test_files_that_are_not_shown_are_counted() -> None:
    """A page with only the first files shows the number of the others."""
    assert "7 more files" in receipts_page([StoredReceipt.of("a/key.png", info(), "")], more=7)


def test_a_page_runs_nothing_that_a_client_named() -> None:
    """Markup in a filename or in a problem appears as text."""
    receipt = StoredReceipt.of("a/key", info(f"UTF-8''{EVIL}"), f"https://x/{EVIL}")
    problem: dict[str, str | int] = {"title": EVIL, "detail": EVIL, "status": 404, "code": EVIL, "request_id": EVIL}
    for page in (receipts_page([receipt], more=0), problem_page(problem)):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    assert PAGE_HEADERS["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")


def test_the_address_names_every_key() -> None:
    """The address of a page with few objects has all their keys."""
    path = receipts_path("/files", ["a/1.txt", "a/2&3.txt"])
    assert path.startswith("/files/receipts?")
    assert parse_qs(urlsplit(path).query) == {"key": ["a/1.txt", "a/2&3.txt"]}


@pytest.mark.parametrize(
    ("length", "shown"),
    [pytest.param(10, MAX_RECEIPTS, id="many"), pytest.param(1000, 3, id="long")],
)
def test_the_address_stays_short(length: int, shown: int) -> None:
    """Keys that do not fit into the address are counted; the first key always fits."""
    query = parse_qs(urlsplit(path := receipts_path("", ["x" * length] * 100)).query)
    assert len(query["key"]) == shown
    assert query["more"] == [str(100 - shown)]
    assert len(path) <= MAX_PATH_BYTES + 10
