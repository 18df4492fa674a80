"""The causes in the page, each as a timeline."""

import os

import pytest
from browser.visit import Visit, texts
from playwright.sync_api import expect

from filehandoff.settings import MIB

thorough = pytest.mark.thorough
both_apps = pytest.mark.parametrize(
    "app_name", ["flask", pytest.param("quart", marks=thorough, id="quart")], indirect=True
)


@both_apps
def test_the_timeline_names_the_hook(visit: Visit) -> None:
    """The moments stand in order, from the request's arrival to the failed read, and the closer is the hook."""
    visit.choose({"mine.bin": os.urandom(600_000)})
    visit.page.get_by_role("button", name="Run it: A boto hook").click()
    cause = visit.page.locator("#cause-copied_context")
    expect(cause).to_contain_text("mine.bin was closed before its last read")
    moments = cause.get_by_role("list").first.get_by_role("listitem")
    assert texts(moments.locator(".what")) == [
        *("request arrived", "view began", "hook entered", "context left", "file closed", "read failed"),
    ]
    closed = moments.nth(4)
    expect(closed).to_contain_text(f"{visit.framework}/ctx.py:")
    expect(closed).to_contain_text(f"stamp ({visit.framework}_app/causes.py:")
    expect(moments.last).to_contain_text("I/O operation on closed file")
    assert visit.bucket.stored_keys() == set()


@thorough
def test_each_cause_has_its_fix_for_both_frameworks(visit: Visit) -> None:
    """Without a chosen file, the page sends its own; each cause shows its result beside the code for both."""
    outcomes = texts(visit.run_causes().locator("strong"))
    assert outcomes == ["Lost.", "Lost." if visit.framework == "flask" else "Not closed.", "Lost."]
    for cause in visit.page.get_by_role("article").all():
        listings = cause.locator("pre")
        expect(listings).to_have_count(2)
        expect(listings.first).to_be_visible()
        expect(listings.first).to_contain_text(f"from {visit.framework} import")
        expect(listings.first.locator("mark").first).to_be_visible()
        cause.get_by_text("In Quart" if visit.framework == "flask" else "In Flask").click()
        expect(listings.last).to_be_visible()


@thorough
def test_a_refusal_is_shown(visit: Visit) -> None:
    """A file above the limit gets the problem's title and detail."""
    visit.refusals |= {413}
    visit.choose({"large.bin": bytes(13 * MIB)})
    visit.page.get_by_role("button", name="Run it").first.click()
    expect(visit.page.locator("#cause-copied_context .result")).to_contain_text("The request is too large")
