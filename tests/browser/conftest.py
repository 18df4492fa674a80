"""Open the page of both apps in Debian's Chromium, and watch all that it does."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser.recipes import Site, serving
from browser.visit import Visit
from browser.widget import Widget
from contract.bucket import Bucket
from patience import PATIENCE
from playwright.sync_api import Browser, expect, sync_playwright
from programs import program

from demo.processes import ROOT
from demo.stack import Stack, running

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
#: Settings of the apps: small parts, and a small limit to exceed. Each page has its own app alone.
SETTINGS = {
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "12 MiB",
    "UPLOAD_DRAIN_SECONDS": "1",
    "UPLOAD_OTHER_APP_URL": "",
}
#: The folder for the screenshots, which the repository does not hold.
SCREENSHOTS = ROOT / "build" / "browser"

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or the program that the variable CHROMIUM names."""
    path = os.environ.get("CHROMIUM") or program("chromium", "chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The pages of the recipes in docs/clients.md, on an origin of their own."""
    with serving() as started:
        yield started


@pytest.fixture(scope="session")
def stack(browser: Browser, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A store and both apps, if there is a browser; pages of the recipes' origin may use both."""
    assert browser.is_connected()
    folder = tmp_path_factory.mktemp("browser")
    environ = SETTINGS | {"UPLOAD_S3": "moto", "TMPDIR": str(folder), "UPLOAD_CORS_ORIGINS": site.url}
    with running(environ, log_path=folder / "servers.log") as started:
        allow_origin(started, site.url)
        yield started


def allow_origin(stack: Stack, origin: str) -> None:
    """Let pages of one more origin send to the bucket by presigned URLs."""
    with closing(stack.store.client()) as client:
        rules = client.get_bucket_cors(Bucket=stack.settings.bucket)["CORSRules"]
        rules[0]["AllowedOrigins"].append(origin)
        client.put_bucket_cors(Bucket=stack.settings.bucket, CORSConfiguration={"CORSRules": rules})


@pytest.fixture(scope="session")
def every_object(stack: Stack) -> Iterator[Bucket]:
    """The apps' bucket."""
    client = stack.store.client()
    yield Bucket(client, stack.settings.bucket, stack)
    client.close()


@pytest.fixture
def bucket(every_object: Bucket) -> Iterator[Bucket]:
    """The apps' bucket, which is empty again after each test."""
    yield every_object
    every_object.delete_states()
    every_object.check_and_empty(every_object.stored_keys())


@pytest.fixture(params=["flask", "quart"])
def app_name(request: pytest.FixtureRequest) -> str:
    """Each of the apps in turn."""
    return str(request.param)


@pytest.fixture
def visit(browser: Browser, stack: Stack, bucket: Bucket, app_name: str) -> Iterator[Visit]:
    """The page of an app, in a browser's context of its own; `Visit.check` judges it in the end."""
    with Visit.of(browser, stack, bucket, app_name) as visited:
        visited.open()
        yield visited
        visited.check()


@pytest.fixture
def widget(
    request: pytest.FixtureRequest, browser: Browser, stack: Stack, bucket: Bucket, app_name: str, site: Site
) -> Iterator[Widget]:
    """A page for other people's clients, of the app's origin ("same") or of another one."""
    site.install()
    with Visit.of(browser, stack, bucket, app_name) as visited:
        yield Widget(visited, site, request.param == "other", visited.url)
        visited.check()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder for screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
