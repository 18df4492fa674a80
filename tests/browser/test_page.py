"""The page as a whole: by keyboard, for assistive technology, in every light and width, and by its policy."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.visit import Visit, violations
from contract.bucket import Bucket
from playwright.sync_api import Browser, Page, expect

from demo.stack import Stack

thorough = pytest.mark.thorough
both_apps = pytest.mark.parametrize(
    "app_name", ["flask", pytest.param("quart", marks=thorough, id="quart")], indirect=True
)
other_app = pytest.mark.parametrize("app_name", [pytest.param("flask", marks=thorough), "quart"], indirect=True)
#: Adds a script to the page, as markup of a stranger would.
INLINE_SCRIPT = """{
    const script = document.createElement("script");
    script.textContent = "window.ran = 1";
    document.body.append(script);
}"""
#: The page's lights and widths, as options of a browser's context.
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}


@both_apps
def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    """Tab, arrows, Space and Enter choose a pair, upload, delete, run a cause and run the grid."""
    visit.refusals |= {500}
    visit.choose({"keys.txt": b"by keyboard"})  # the dialog for files belongs to the browser
    keys = visit.page.keyboard
    tab_to(visit.page, "stream")
    keys.press("ArrowUp")
    tab_to(visit.page, "bound")
    keys.press("ArrowDown")
    expect(visit.page.get_by_label("byte_queue", exact=True)).to_be_checked()
    expect(visit.page.get_by_label("snapshot", exact=True)).to_be_checked()
    tab_to(visit.page, "start")
    keys.press("Enter")
    visit.transfer("keys.txt", "stored")
    tab_to(visit.page, "Delete keys.txt")
    keys.press("Space")
    visit.transfer("keys.txt", "deleted")
    tab_to(visit.page, "Run it: boto3's upload_fileobj closes the file")
    keys.press("Enter")
    expect(visit.page.locator("#cause-transfer_closes .message")).to_be_visible()
    tab_to(visit.page, "run-grid")
    keys.press("Enter")
    expect(visit.page.get_by_text("keys.txt: stored 17 times, lost 1 time.")).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this id, value or label has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = "() => { const e = document.activeElement; return [e.id, e.value, e.ariaLabel]; }"
        if name in page.evaluate(focused):
            return
    pytest.fail(f"Tab does not reach {name}")


@pytest.mark.parametrize("look", LOOKS)
@other_app
def test_axe_finds_nothing_serious(
    browser: Browser, stack: Stack, bucket: Bucket, app_name: str, look: str, screenshots: Path
) -> None:
    """With every kind of result on it, the page has no serious finding, no sideways scroll, and a screenshot."""
    with Visit.of(browser, stack, bucket, app_name, **LOOKS[look]) as visit:
        visit.refusals |= {500}
        visit.open()
        show_everything(visit)
        found = Axe().run(visit.page)
        visit.page.evaluate("() => scrollTo(0, 0)")
        visit.page.screenshot(path=screenshots / f"{app_name}-{look}.png", full_page=True)
        assert violations(found.response) == []
        wider = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(wider) == 0
        visit.check()


def show_everything(visit: Visit) -> None:
    """Store a file, lose one, run the causes, and fill the grid."""
    visit.choose({"holiday.jpg": os.urandom(300_000)})
    visit.upload()
    visit.transfer("holiday.jpg", "stored")
    visit.choose({"report.pdf": os.urandom(800_000)})
    visit.select("file", "copied")
    visit.upload()
    visit.transfer("report.pdf", "refused")
    visit.run_causes()
    visit.page.get_by_role("button", name="Run the grid").click()
    expect(visit.page.get_by_text("report.pdf: stored 17 times, lost 1 time.")).to_be_visible()


@thorough
def test_a_section_is_reached_by_its_link(visit: Visit) -> None:
    """A link to a section moves the focus there, and stays on the page."""
    visit.page.get_by_role("link", name="The grid", exact=True).click()
    expect(visit.page.locator("#grid")).to_be_focused()
    assert visit.page.url == f"{visit.url}/"


@thorough
def test_a_second_visit_transfers_no_file_again(visit: Visit) -> None:
    """The browser keeps the page's files, and asks for each only whether it has changed."""
    statuses: dict[str, int] = {}
    visit.page.on("response", lambda answer: statuses.update({answer.url: answer.status}))
    visit.open()
    names = {url.rpartition("/")[2] for url in statuses}
    assert {"main.js", "page.css"} <= names
    answer = httpx.get(f"{visit.url}/page/main.js")
    assert httpx.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


@thorough
def test_no_inline_script_runs(browser: Browser, stack: Stack, bucket: Bucket) -> None:
    """The policy of the page allows no inline code: a script of a stranger does not run."""
    with Visit.of(browser, stack, bucket, "flask") as visit:
        visit.open()
        visit.page.evaluate(f"() => {INLINE_SCRIPT}")
        assert visit.page.evaluate("() => window.ran ?? null") is None
        assert any("Content Security Policy" in line for line in visit.console)
