"""The grid in the page, filled while it runs."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser.visit import Visit, texts
from contract.bucket import Bucket
from playwright.sync_api import Browser, expect

from demo.stack import running
from filehandoff.strategies import HANDOFFS, HOOKS, verdict

thorough = pytest.mark.thorough
other_app = pytest.mark.parametrize("app_name", [pytest.param("flask", marks=thorough), "quart"], indirect=True)


@other_app
@pytest.mark.parametrize(
    ("size", "size_class"),
    [(100, "memory"), pytest.param(500_001, "rolled", marks=thorough), pytest.param(11 << 20, "parts", marks=thorough)],
)
def test_the_grid_fills_with_the_known_outcomes(visit: Visit, size: int, size_class: str) -> None:
    """Each cell has its known outcome, each loss its reason, and the page deletes the objects that it stored."""
    visit.refusals |= {500}
    visit.choose({"grid.bin": os.urandom(size)})
    visit.page.get_by_role("button", name="Run the grid").click()
    expect(visit.page.get_by_text("grid.bin: stored ")).to_be_visible()
    rows = visit.page.get_by_role("row").filter(has=visit.page.get_by_role("cell"))
    for name, row in zip(HANDOFFS, rows.all(), strict=True):
        states = [cell.get_attribute("data-state") for cell in row.get_by_role("cell").all()]
        assert states == [verdict(visit.framework, name, hook, size_class) for hook in HOOKS], name
        assert all(" ms" in text for text in texts(row.get_by_role("cell")))
    reasons = visit.page.get_by_role("list", name="The reasons of the losses").get_by_role("listitem")
    expect(reasons.first).to_contain_text(f"stamp_from_request ({visit.framework}_app/hooks.py:")
    visit.page.get_by_role("cell").locator("a").first.click()
    expect(reasons.first).to_be_focused()
    assert visit.bucket.stored_keys() == set()
    assert visit.bucket.unfinished() == []


@thorough
def test_a_stopped_grid_leaves_nothing(visit: Visit) -> None:
    """A stop ends the running cell, and the others stay empty."""
    visit.refusals |= {500}
    visit.choose({"grid.bin": bytes(4 << 20)})
    visit.slow_down(1 << 20)
    visit.page.get_by_role("button", name="Run the grid").click()
    visit.page.get_by_role("button", name="Stop").click()
    expect(visit.page.get_by_text("Stopped. grid.bin: ")).to_be_visible()
    expect(visit.page.locator("td[data-state=idle]").last).to_be_visible()


@pytest.fixture
def pair(browser: Browser, tmp_path: Path, app_name: str) -> Iterator[Visit]:
    """The page of an app that names the other app, which allows its pages."""
    with (
        running(
            {"UPLOAD_S3": "moto", "UPLOAD_DRAIN_SECONDS": "1", "TMPDIR": str(tmp_path)},
            log_path=tmp_path / "servers.log",
        ) as stack,
        closing(stack.store.client()) as client,
    ):
        bucket = Bucket(client, stack.settings.bucket, stack)
        with Visit.of(browser, stack, bucket, app_name) as visited:
            visited.others += [app.url for app in stack.apps.values()]
            visited.open()
            yield visited
            visited.check()


@thorough
def test_both_services_stand_side_by_side(pair: Visit) -> None:
    """The page fills a column for each service, and names both; the other service answers across origins."""
    pair.refusals |= {500}
    pair.page.get_by_role("button", name="Run the grid").click()
    expect(pair.page.get_by_text("hello.txt: stored 34 times, lost 2 times.")).to_be_visible()
    heads = pair.page.get_by_role("columnheader").filter(has_text=re.compile("Flask|Quart"))
    assert sorted(texts(heads)) == ["Flask", "Quart"]
    reasons = pair.page.get_by_role("list", name="The reasons of the losses").get_by_role("listitem")
    expect(reasons).to_have_count(2)
    assert pair.bucket.stored_keys() == set()
