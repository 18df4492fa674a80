"""Uploads in the page: progress, cancel, receipts, refusals, and files straight to S3."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser.conftest import SETTINGS
from browser.visit import Visit
from contract.bucket import Bucket
from patience import wait_until
from playwright.sync_api import Browser, expect

from demo.stack import running
from filehandoff import tokens
from filehandoff.settings import MIB

thorough = pytest.mark.thorough
both_apps = pytest.mark.parametrize(
    "app_name", ["flask", pytest.param("quart", marks=thorough, id="quart")], indirect=True
)
other_app = pytest.mark.parametrize("app_name", [pytest.param("flask", marks=thorough), "quart"], indirect=True)


@both_apps
def test_several_files_are_sent_with_progress(visit: Visit) -> None:
    """Each file shows its progress in bytes with speed and time left, then its receipt with the SHA-256 in hex."""
    files = {"one.bin": os.urandom(2 * MIB), "two.bin": os.urandom(MIB), "empty.txt": b""}
    visit.slow_down(2 * MIB)
    visit.choose(files)
    expect(visit.page.get_by_text("3 files, 3.15 MB: one.bin, two.bin, empty.txt")).to_be_visible()
    visit.upload()
    progress = visit.page.get_by_role("progressbar", name="Progress of one.bin")
    item = visit.page.locator("#transfers > li").first
    expect(item).to_contain_text("a second, ")
    expect(item).to_contain_text(" left")
    assert 0 < progress.evaluate("shown => shown.position") < 1
    for name, data in files.items():
        expect(visit.transfer(name, "stored")).to_contain_text(hashlib.sha256(data).hexdigest())
    assert sorted(visit.bucket.sizes().values()) == sorted(map(len, files.values()))


@both_apps
@pytest.mark.parametrize("handoff", ["stream", pytest.param("temp_file", marks=thorough), "presigned"])
def test_a_cancelled_upload_leaves_nothing_in_s3(visit: Visit, handoff: str) -> None:
    """After a cancel, S3 has neither the object nor parts, and a retry stores the file."""
    visit.slow_down(4 * MIB)
    visit.choose({"large.bin": bytes(11 * MIB)})
    visit.select(handoff)
    visit.upload()
    progress = visit.page.get_by_role("progressbar", name="Progress of large.bin")
    expect(progress).not_to_have_js_property("value", 0)
    visit.page.get_by_role("button", name="Cancel large.bin").click()
    visit.transfer("large.bin", "cancelled")
    visit.refusals |= {404}  # the page's own removal may find nothing
    wait_until(
        lambda: not visit.bucket.stored_keys() and not visit.bucket.unfinished(),
        lambda: f"left in S3: {visit.bucket.stored_keys()}, {visit.bucket.unfinished()}",
    )
    visit.slow_down(-1)
    visit.page.get_by_role("button", name="Retry large.bin").click()
    visit.transfer("large.bin", "stored")
    assert list(visit.bucket.sizes().values()) == [11 * MIB]


@thorough
def test_all_transfers_are_cancelled_at_once(visit: Visit) -> None:
    """One button cancels the running and the waiting transfers, and S3 stays empty."""
    visit.slow_down(MIB)
    names = [f"{number}.bin" for number in range(5)]
    visit.choose({name: bytes(2 * MIB) for name in names})
    visit.upload()
    visit.page.get_by_role("button", name="Cancel all").click()
    for name in names:
        visit.transfer(name, "cancelled")
    wait_until(lambda: not visit.bucket.stored_keys(), lambda: f"left in S3: {visit.bucket.stored_keys()}")


@other_app
def test_a_stored_file_is_downloaded_and_deleted(visit: Visit) -> None:
    """The receipt's link returns the bytes, and its button removes the object."""
    data = os.urandom(1000)
    visit.choose({"kept.bin": data})
    visit.upload()
    item = visit.transfer("kept.bin", "stored")
    with visit.page.expect_download() as download:
        item.get_by_role("link", name="Download kept.bin").click()
    assert download.value.suggested_filename == "kept.bin"
    assert download.value.path().read_bytes() == data
    item.get_by_role("button", name="Delete kept.bin").click()
    visit.transfer("kept.bin", "deleted")
    assert visit.bucket.stored_keys() == set()


@other_app
def test_a_lost_file_is_explained(visit: Visit) -> None:
    """Before the upload the page warns of the pair; afterwards the problem's title and detail name the hook."""
    visit.refusals |= {500}
    visit.choose({"lost.bin": os.urandom(100)})
    visit.select("file", "copied")
    expect(visit.page.get_by_text("is known to lose a file of this size")).to_be_visible()
    visit.upload()
    item = visit.transfer("lost.bin", "refused")
    expect(item).to_contain_text("Not stored")
    expect(item).to_contain_text("The file was closed before S3 had read it")
    expect(item).to_contain_text(f"stamp_from_request ({visit.framework}_app/hooks.py:")
    assert visit.bucket.stored_keys() == set()


@both_apps
@pytest.mark.parametrize(
    "handoff", ["presigned", pytest.param("stream", marks=thorough), pytest.param("file", marks=thorough)]
)
def test_a_refusal_is_shown(visit: Visit, handoff: str) -> None:
    """A file above the limit gets the title and the detail of the service's problem."""
    visit.refusals |= {413}
    visit.choose({"huge.bin": bytes(13 * MIB)})
    visit.select(handoff)
    visit.upload()
    item = visit.transfer("huge.bin", "refused")
    expect(item).to_contain_text(re.compile("(A file|The request) is too large"))
    expect(item).to_contain_text(re.compile("(file|body)-too-large"))


@other_app
@pytest.mark.parametrize(
    ("size", "parts"), [pytest.param(1000, "1 part", id="one put"), pytest.param(11 * MIB, "3 parts", id="parts")]
)
def test_a_presigned_file_goes_straight_to_s3(visit: Visit, size: int, parts: str) -> None:
    """The bytes go to the store's own address, and the receipt has their digest."""
    data = os.urandom(size)
    visit.choose({"direct.bin": data})
    visit.select("presigned")
    visit.upload()
    item = visit.transfer("direct.bin", "stored")
    expect(item).to_contain_text(hashlib.sha256(data).hexdigest())
    expect(item).to_contain_text(f"as {parts}")
    assert any(url.startswith(f"{visit.store}/") for url in visit.requests)
    sent = [url for url in visit.requests if url.startswith(f"{visit.url}/uploads/")]
    assert [url for url in sent if not url.startswith(f"{visit.url}/uploads/presigned")] == []


@thorough
def test_a_store_without_a_rule_for_the_page_is_named(visit: Visit, stack: Any) -> None:
    """If the bucket allows no page of this origin, the page says so and names CORS."""
    client, name = stack.store.client(), visit.bucket.name
    rules = client.get_bucket_cors(Bucket=name)["CORSRules"]
    client.put_bucket_cors(
        Bucket=name,
        CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["https://other.example"], "AllowedMethods": ["PUT"]}]},
    )
    try:
        visit.choose({"refused.bin": os.urandom(100)})
        visit.select("presigned")
        visit.upload()
        item = visit.transfer("refused.bin", "refused")
        expect(item).to_contain_text(f"No answer from {visit.store}")
        expect(item).to_contain_text("CORS")
    finally:
        client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": rules})
        client.close()
    visit.console.clear()  # the browser's own lines about CORS


@thorough
def test_all_files_of_a_folder_are_sent(visit: Visit, tmp_path: Path) -> None:
    """The second input takes a folder, and the transfers have the paths below it."""
    (tmp_path / "album" / "inner").mkdir(parents=True)
    (tmp_path / "album" / "a.txt").write_bytes(b"a")
    (tmp_path / "album" / "inner" / "b.txt").write_bytes(b"bb")
    visit.page.locator("input[type=file]").nth(1).set_input_files(tmp_path / "album")
    visit.upload()
    visit.transfer("album/a.txt", "stored")
    visit.transfer("album/inner/b.txt", "stored")
    assert sorted(visit.bucket.sizes().values()) == [1, 2]


@thorough
def test_dropped_files_are_chosen(visit: Visit) -> None:
    """A file that is dropped on the page is chosen like one of the input."""
    transfer = visit.page.evaluate_handle(
        "() => { const all = new DataTransfer(); all.items.add(new File(['dropped'], 'dropped.txt')); return all; }"
    )
    visit.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(visit.page.get_by_text("1 file, 7 bytes: dropped.txt")).to_be_visible()
    visit.upload()
    visit.transfer("dropped.txt", "stored")


@pytest.fixture
def identified(browser: Browser, tmp_path: Path, app_name: str) -> Iterator[tuple[Visit, str]]:
    """The page of an app that identifies senders, and a token."""
    token, line = tokens.make("ann", "upload,read,delete")
    (tmp_path / "tokens").write_text(line)
    environ = SETTINGS | {"UPLOAD_S3": "moto", "TMPDIR": str(tmp_path)}
    environ |= {"UPLOAD_AUTH": "bearer", "UPLOAD_TOKENS_FILE": str(tmp_path / "tokens")}
    with (
        running(environ, log_path=tmp_path / "servers.log") as stack,
        closing(stack.store.client()) as client,
        Visit.of(browser, stack, Bucket(client, stack.settings.bucket, stack), app_name) as visited,
    ):
        visited.open()
        yield visited, token
        visited.check()


@other_app
def test_a_token_goes_with_each_request(identified: tuple[Visit, str]) -> None:
    """The page shows a refusal, has a field for a token, sends it, and keeps it nowhere."""
    visit, token = identified
    visit.refusals |= {401}
    visit.choose({"mine.bin": os.urandom(100)})
    visit.upload()
    item = visit.transfer("mine.bin", "refused")
    expect(item.get_by_text("The request needs valid credentials")).to_be_visible()
    visit.page.get_by_label("Token", exact=True).fill(token)
    visit.page.get_by_role("button", name="Use the token").click()
    item.get_by_role("button", name="Retry").click()
    item = visit.transfer("mine.bin", "stored")
    with visit.page.expect_download() as download:
        item.get_by_role("link", name="Download mine.bin").click()
    assert download.value.path().stat().st_size == 100
    kept = visit.page.evaluate("() => [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]")
    assert kept == [[], [], ""]
