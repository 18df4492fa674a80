"""Uppy with the recipes of docs/clients.md, docs/uppy-s3.md and docs/tus.md."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browser.recipes import Recipe
from browser.widget import Widget, each_place
from patience import PATIENCE, wait_until
from playwright.sync_api import expect
from resuming.cutting import CuttingProxy

from filehandoff.settings import MIB

thorough = pytest.mark.thorough


def uppy(name: str, package: str = "uppy") -> Recipe:
    """Return a recipe of Uppy."""
    style, fraction = f"{package}/dist/uppy.min.css", "progress => progress.bytesUploaded / progress.bytesTotal"
    return Recipe(name, "uppy", f"{package}/dist/uppy.min.mjs", style, "upload-progress", fraction)


RECIPES = {
    "XHR upload": uppy("uppy-xhr"),
    "Uppy 6 to S3": uppy("uppy-6-s3"),
    "Uppy 5 to S3": uppy("uppy-5-s3", "uppy-5"),
    "tus": uppy("uppy-tus"),
}


def each_recipe(*usual: str) -> pytest.MarkDecorator:
    """Take each recipe; `make test` takes only the usual ones."""
    each = [pytest.param(it, id=name, marks=() if name in usual else thorough) for name, it in RECIPES.items()]
    return pytest.mark.parametrize("recipe", each)


def send(widget: Widget, recipe: Recipe, data: bytes) -> None:
    """Choose a file in the dashboard, and press its button."""
    widget.open(recipe)
    widget.choose("photo.bin", data)
    widget.page.get_by_role("button", name="Upload 1 file").click()


@each_place
@each_recipe("XHR upload", "Uppy 6 to S3", "tus")
@pytest.mark.parametrize("size", [pytest.param(1000, marks=thorough, id="small"), pytest.param(11 * MIB, id="large")])
def test_a_file_is_stored(widget: Widget, recipe: Recipe, size: int) -> None:
    """Uppy shows its progress and its success, and S3 has the bytes and nothing else."""
    data = os.urandom(size)
    send(widget, recipe, data)
    expect(widget.page.get_by_text("Complete", exact=True)).to_be_visible()
    widget.check_stored(data)


@each_place
@each_recipe("tus")
@pytest.mark.parametrize(
    "size", [pytest.param(4 * MIB, marks=thorough, id="small"), pytest.param(11 * MIB, id="large")]
)
def test_a_cancelled_upload_leaves_nothing_in_s3(widget: Widget, recipe: Recipe, size: int) -> None:
    """Uppy's button "Cancel" ends the requests and aborts an upload in parts."""
    widget.visit.refusals |= {423}  # by tus, Uppy sends DELETE again until the last bytes are stored
    widget.visit.slow_down(2 * MIB)
    send(widget, recipe, os.urandom(size))
    widget.page.wait_for_function("() => fractions.some((fraction) => fraction > 0)", timeout=PATIENCE * 1000)
    widget.page.locator("[data-cy=cancel]").click()
    expect(widget.page.get_by_text("photo.bin")).to_have_count(0)
    bucket = widget.visit.bucket
    wait_until(
        lambda: not bucket.stored_keys() and not bucket.unfinished(),
        lambda: f"left in S3: {bucket.stored_keys()}, {bucket.unfinished()}",
    )


@each_place
@pytest.mark.parametrize("recipe", [pytest.param(uppy("uppy-6-s3"), id="Uppy 6 to S3", marks=thorough)])
def test_a_paused_upload_goes_on_with_the_parts_in_s3(widget: Widget, recipe: Recipe) -> None:
    """After a pause that outlasts the URLs, Uppy sends only the missing parts, to new URLs."""
    widget.visit.slow_down(2 * MIB)
    data = os.urandom(11 * MIB)
    send(widget, recipe, data)
    widget.page.wait_for_function("() => fractions.some((fraction) => fraction > 0.5)", timeout=PATIENCE * 1000)
    widget.page.evaluate("() => client.pauseAll()")
    widget.visit.slow_down(-1)
    widget.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=1))
    widget.page.evaluate("() => client.resumeAll()")
    expect(widget.page.get_by_text("Complete", exact=True)).to_be_visible()
    widget.check_stored(data)
    requests = widget.visit.requests
    assert len([url for url in requests if "partNumber=1&" in url]) == 1
    assert [url for url in requests if "/parts?" in url and "&after=1" in url]


@thorough
@pytest.mark.parametrize(("app_name", "widget"), [("flask", "other"), ("quart", "same")], indirect=True)
def test_uppy_5_lists_the_parts_in_s3(widget: Widget) -> None:
    """The hook `listParts`, which Uppy calls after a reload of the page, has each part's number, size and ETag."""
    widget.visit.slow_down(2 * MIB)
    data = os.urandom(11 * MIB)
    send(widget, uppy("uppy-5-s3", "uppy-5"), data)
    widget.page.wait_for_function("() => fractions.some((fraction) => fraction > 0)", timeout=PATIENCE * 1000)
    listing = "client.getPlugin('AwsS3Multipart').opts.listParts(client.getFiles()[0])"
    widget.page.wait_for_function(f"async () => (await {listing}).length", timeout=PATIENCE * 1000)
    parts = widget.page.evaluate(f"() => {listing}")
    sizes = {1: 5 * MIB, 2: 5 * MIB, 3: MIB}
    assert [(part["Size"], bool(part["ETag"])) for part in parts] == [
        (sizes[part["PartNumber"]], True) for part in parts
    ]
    expect(widget.page.get_by_text("Complete", exact=True)).to_be_visible()
    widget.check_stored(data)


@each_place
@each_recipe("Uppy 6 to S3")
def test_a_refusal_is_shown(widget: Widget, recipe: Recipe) -> None:
    """Uppy shows the detail of the service's problem."""
    widget.visit.refusals |= {413}
    send(widget, recipe, bytes(13 * MIB))
    expect(widget.page.get_by_role("button", name=re.compile("has more than"))).to_be_visible()
    expect(widget.page.get_by_text("Upload failed")).to_be_visible()
    assert widget.visit.bucket.stored_keys() == set()
    console = widget.visit.console
    console[:] = [line for line in console if not line.startswith("[Uppy]")]  # Uppy logs each refusal


@pytest.mark.parametrize(
    ("app_name", "widget"), [pytest.param("flask", "other", marks=thorough), ("quart", "other")], indirect=True
)
def test_uppy_resumes_by_tus_after_cuts(widget: Widget, rounds: int) -> None:
    """With connections that end at random bytes, each file is stored whole."""
    visit, bucket = widget.visit, widget.visit.bucket
    visit.refusals |= {409, 423}  # bytes of a lost connection that the app still stores
    with CuttingProxy([visit.url], seed=7) as proxy:
        visit.others.append(proxy.url)
        widget.service = proxy.url
        while proxy.cuts < rounds:
            data = os.urandom(11 * MIB)
            proxy.cut_every(2 * MIB)
            send(widget, uppy("uppy-tus"), data)
            expect(widget.page.get_by_text("Complete", exact=True)).to_be_visible()
            proxy.cut_every(0)
            widget.check_stored(data)
            for key in bucket.stored_keys():
                bucket.delete(key)
    visit.console[:] = [line for line in visit.console if "net::ERR_" not in line and "CORS policy" not in line]


@pytest.mark.parametrize(
    ("app_name", "widget"), [("flask", "other"), pytest.param("quart", "other", marks=thorough)], indirect=True
)
def test_uppy_resumes_by_tus_after_a_reload(widget: Widget, tmp_path: Path) -> None:
    """A file that is chosen again after a reload goes on behind the bytes that have arrived."""
    data = os.urandom(11 * MIB)
    file = tmp_path / "photo.bin"
    file.write_bytes(data)
    widget.visit.slow_down(2 * MIB)
    offsets: list[int] = []
    for is_first in (True, False):
        widget.open(uppy("uppy-tus"))
        widget.page.locator("input[type=file]").first.set_input_files(file)
        widget.page.get_by_role("button", name="Upload 1 file").click()
        if is_first:
            widget.page.wait_for_function("() => fractions.some((fraction) => fraction > 0.7)", timeout=PATIENCE * 1000)
            widget.visit.slow_down(-1)
            widget.page.on("request", lambda request: offsets.append(int(request.headers.get("upload-offset", 0))))
    expect(widget.page.get_by_text("Complete", exact=True)).to_be_visible()
    widget.check_stored(data)
    assert max(offsets) >= 5 * MIB
