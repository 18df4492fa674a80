"""Broken clients of `presigned`, whose only request to the app is some JSON."""

import json

import pytest
from faults import raw
from faults.app import App
from faults.raw import Answer

from filehandoff.settings import MIB

WANTED = json.dumps({"filename": "name", "size": 5, "content_type": "text/plain", "sha256": 64 * "0"}).encode()


def head(length: int, *headers: str) -> bytes:
    """The head of a request for URLs."""
    return raw.head("presigned", f"Content-Length: {length}", *headers, content_type="application/json")


def ask(app: App, sent: bytes) -> Answer:
    """Send all bytes and read the answer."""
    with app.connected() as connection:
        raw.send(connection, sent)
        return raw.read_answer(connection)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        pytest.param(
            head(len(WANTED), "Content-Encoding: gzip") + WANTED, 415, "unsupported-media-type", id="compresses"
        ),
        pytest.param(raw.whole("presigned", WANTED), 415, "unsupported-media-type", id="sends a form"),
        pytest.param(head(len(WANTED) - 9) + WANTED, 400, "form-malformed", id="says less than it sends"),
        pytest.param(head(12 * MIB) + bytes(12 * MIB), 413, "body-too-large", id="sends far too much"),
    ],
)
def test_the_answer_is_an_error(app: App, sent: bytes, status: int, code: str) -> None:
    """A broken request gets its error, and nothing begins in S3."""
    answer = ask(app, sent)
    assert (answer.status, answer.code) == (status, code), answer
