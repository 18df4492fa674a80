"""A plain HTML form gets pages as answers, and a reload stores nothing again."""

import os

import pytest
from contract.api import Api, form, part

#: The Accept header of a navigation in Chromium and Firefox.
ACCEPTS = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
)


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("path", ["/uploads", "/uploads/temp_file"])
def test_a_form_post_leads_to_the_receipts(app: Api, path: str, accept: str) -> None:
    """A form gets 303 to a page that shows its files, at every load."""
    body = form(part("file", b"first", "one.txt"), part("file", os.urandom(1000), "two.bin"))
    answer = app.upload(body, path, {"Accept": accept})
    assert answer.status_code == 303
    assert answer.headers["Vary"] == "Accept"
    address = answer.headers["Location"]
    receipts = app.send("GET", address).json()["receipts"]
    app.stored |= {receipt["key"] for receipt in receipts}
    assert [(receipt["filename"], receipt["size"]) for receipt in receipts] == [("one.txt", 5), ("two.bin", 1000)]
    assert {receipt["request_id"] for receipt in receipts} == {answer.headers["X-Request-Id"]}
    for _ in range(2):
        page = app.send("GET", address, headers={"Accept": accept})
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "one.txt" in page.text
        assert "two.bin" in page.text
    assert app.send("GET", receipts[0]["url"]).content == b"first"


def test_each_app_shows_the_receipts_of_another(apps: list[Api]) -> None:
    """Each app shows the same receipts, because no process remembers them."""
    key = apps[0].upload_file(b"data").json()["receipts"][0]["key"]
    shown = [app.send("GET", f"/receipts?key={key}").json()["receipts"][0] for app in apps]
    for app, receipt in zip(apps, shown, strict=True):
        assert receipt.pop("url") == f"{app.url}/objects/{key}"
    assert all(receipt == shown[0] for receipt in shown)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        pytest.param("POST", "/uploads/stream", 400, "form-malformed", id="a broken form"),
        pytest.param("POST", "/uploads/unknown", 404, "unknown-handoff", id="an unknown hand-off"),
        pytest.param("GET", "/receipts", 404, "object-missing", id="receipts of nothing"),
        pytest.param("GET", "/receipts?key=not/ours", 404, "object-missing", id="receipts of another object"),
        pytest.param("GET", "/nothing", 404, "not-found", id="an unknown path"),
    ],
)
def test_an_error_is_a_page_to_read(app: Api, method: str, path: str, status: int, words: str) -> None:
    """A browser gets an error as a page with its code and request id."""
    headers = {"Accept": ACCEPTS[0]}
    answer = app.upload(b"no form", path, headers) if method == "POST" else app.send("GET", path, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert "script" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.5", ""])
def test_other_clients_get_json(app: Api, accept: str) -> None:
    """A client that does not prefer HTML to JSON gets receipts and problems in JSON."""
    answer = app.upload(form(part("file", b"data", "name")), "/uploads", {"Accept": accept})
    assert answer.json()["receipts"][0]["url"].startswith(f"{app.url}/objects/")
    assert app.send("GET", "/nothing", headers={"Accept": accept}).json()["code"] == "not-found"
