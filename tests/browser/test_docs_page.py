"""The page at /docs, where Swagger UI shows the description and sends requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.visit import Visit
from contract.bucket import Bucket
from playwright.sync_api import Browser, expect

from demo.stack import Stack

thorough = pytest.mark.thorough
other_app = pytest.mark.parametrize("app_name", [pytest.param("flask", marks=thorough), "quart"], indirect=True)


@pytest.fixture(params=["light", pytest.param("dark", marks=thorough)])
def docs(
    browser: Browser, stack: Stack, bucket: Bucket, app_name: str, request: pytest.FixtureRequest, screenshots: Path
) -> Iterator[Visit]:
    """The page at /docs, in each light, with a screenshot of its end."""
    options = {"viewport": {"width": 1280, "height": 900}, "color_scheme": request.param}
    with Visit.of(browser, stack, bucket, app_name, **options) as visited:
        visited.page.goto(f"{visited.url}/docs")
        yield visited
        visited.page.screenshot(path=screenshots / f"{app_name}-docs-{request.param}.png")
        visited.check()


@other_app
def test_an_operation_is_read_and_tried(docs: Visit) -> None:
    """The viewer lists the operations, shows the parameters of one, sends its request, and shows the answer."""
    expect(docs.page.get_by_role("heading", name="filehandoff")).to_be_visible()
    operation = docs.page.locator("#operations-about-getHealth")
    operation.get_by_role("button", name="GET /healthz").first.click()
    expect(operation.locator(".parameter__name")).to_have_text("X-Request-Id")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_have_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text('"status": "ok"')
