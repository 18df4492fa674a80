"""A file before and after its upload: its metadata, and the client's receipt."""

import json
from dataclasses import fields

import pytest

from filehandoff.receipt import FILENAME_METADATA, REQUEST_ID_METADATA, Incoming, Receipt, Stored, UploadContext

INCOMING = Incoming(key="2026/01/31/x/a.txt", filename="é.txt", content_type="text/plain")
STORED = Stored(INCOMING, size=3, sha256="0" * 64, etag="abc", parts=1)
WAY = UploadContext("flask", "temp_file", "bound", "the-request")


def test_the_metadata_holds_the_original_name() -> None:
    """The metadata has the original filename, encoded, and no request id, which the hook stamps."""
    assert INCOMING.metadata() == {"filename": "UTF-8''%C3%A9.txt"}


def test_a_name_that_deceives_is_cleaned_before_it_is_stored() -> None:
    """The receipt and the metadata have the same clean name."""
    incoming = Incoming("a-key", "a\u202eb\x00.txt", "text/plain")
    assert (incoming.filename, incoming.metadata()["filename"]) == ("ab.txt", "UTF-8''ab.txt")


def test_the_names_of_the_metadata_are_a_promise() -> None:
    """The metadata's names never change: stored objects are read by them."""
    assert (FILENAME_METADATA, REQUEST_ID_METADATA) == ("filename", "request-id")


def test_nothing_is_promised_unless_it_is() -> None:
    """A file comes without a promised digest by default."""
    assert INCOMING.promised is None


def test_a_receipt_describes_the_file_and_its_upload() -> None:
    """A receipt has the file's values and those of its upload, as plain JSON."""
    members = WAY.receipt(STORED, 0.25, "https://here.example/files").as_json()
    assert json.loads(json.dumps(members)) == {
        "key": "2026/01/31/x/a.txt",
        "url": "https://here.example/files/objects/2026/01/31/x/a.txt",
        "filename": "é.txt",
        "content_type": "text/plain",
        "size": 3,
        "sha256": "0" * 64,
        "etag": "abc",
        "parts": 1,
        "framework": "flask",
        "handoff": "temp_file",
        "hook": "bound",
        "request_id": "the-request",
        "elapsed_ms": 250.0,
    }
    assert list(members) == [field.name for field in fields(Receipt)]


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        pytest.param(0.0, 0.0, id="no time"),
        pytest.param(0.00126, 1.3, id="rounded to a tenth"),
        pytest.param(12.0, 12_000.0, id="seconds"),
    ],
)
def test_elapsed_time_is_in_milliseconds(seconds: float, milliseconds: float) -> None:
    """Seconds become milliseconds with one decimal."""
    assert WAY.receipt(STORED, seconds, "").elapsed_ms == milliseconds
