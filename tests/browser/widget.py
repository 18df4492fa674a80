"""A client of other people in a page: its start, its files, its progress and the bytes in S3."""

import hashlib
from dataclasses import dataclass

import pytest
from browser.recipes import FOLDER, Recipe, Site
from browser.visit import Visit
from patience import PATIENCE
from playwright.sync_api import Page

#: Each app, with a page of its own origin and of another one; `make browser` runs the first.
PLACES = [("flask", "other"), ("flask", "same"), ("quart", "same"), ("quart", "other")]
each_place = pytest.mark.parametrize(
    ("app_name", "widget"),
    [
        pytest.param(
            *place, id=f"{place[0]}, {place[1]} origin", marks=[pytest.mark.thorough] if place != PLACES[0] else []
        )
        for place in PLACES
    ],
    indirect=True,
)


@dataclass
class Widget:
    """A page with a client; `is_elsewhere` if its origin is not the app's.

    `service` is the address that the client sends to.
    """

    visit: Visit
    site: Site
    is_elsewhere: bool
    service: str

    @property
    def page(self) -> Page:
        """The page."""
        return self.visit.page

    def open(self, recipe: Recipe) -> None:
        """Open a recipe's page and wait for the client."""
        self.site.recipe = recipe
        origin = self.site.url if self.is_elsewhere else self.visit.url
        if self.is_elsewhere:
            self.visit.others.append(self.site.url)
        else:
            self.page.route(f"{origin}{FOLDER}**", self.site.fulfil)
            # Chromium does not know from which address a fulfilled page came, and keeps such pages from loopback
            self.page.context.grant_permissions(["local-network-access"])
        self.page.goto(f"{origin}{FOLDER}{recipe.name}?service={self.service}")
        self.page.wait_for_function("() => window.client", timeout=PATIENCE * 1000)

    def choose(self, name: str, data: bytes) -> None:
        """Choose a file in the client's first input."""
        self.visit.choose({name: data})

    def check_stored(self, *files: bytes) -> None:
        """Assert that the client has seen progress up to the end, and that the bucket has these files and no others."""
        assert max(self.page.evaluate("() => window.fractions")) == 1
        bucket = self.visit.bucket
        assert {bucket.sha256(key) for key in bucket.files()} == {hashlib.sha256(one).hexdigest() for one in files}
        assert bucket.unfinished() == []
