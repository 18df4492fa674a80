"""FilePond and Dropzone with the recipes of docs/clients.md."""

import os
from dataclasses import dataclass

import pytest
from browser.recipes import Recipe
from browser.widget import Widget, each_place
from patience import wait_until
from playwright.sync_api import expect

from filehandoff.settings import MIB

thorough = pytest.mark.thorough


@dataclass(frozen=True)
class Client:
    """A client and its elements: those of a stored and of a refused file, and the one that removes a stored file."""

    recipe: Recipe
    stored: str
    refused: str
    removes: str


FILEPOND = Client(
    Recipe(
        "pond",
        "filepond",
        "filepond/dist/filepond.esm.min.js",
        "filepond/dist/filepond.min.css",
        "processfileprogress",
        "progress => progress",
    ),
    stored="[data-filepond-item-state=processing-complete]",
    refused="[data-filepond-item-state=processing-error]",
    removes=".filepond--action-revert-item-processing",
)
DROPZONE = Client(
    Recipe(
        "drop",
        "dropzone",
        "dropzone/dist/dropzone.mjs",
        "dropzone/dist/dropzone.css",
        "uploadprogress",
        "percent => percent / 100",
    ),
    stored=".dz-preview.dz-success",
    refused=".dz-preview.dz-error",
    removes=".dz-remove",
)
each_client = pytest.mark.parametrize(
    "client", [pytest.param(FILEPOND, id="FilePond"), pytest.param(DROPZONE, id="Dropzone")]
)


def send(widget: Widget, client: Client, data: bytes) -> None:
    """Choose a file; the client sends it at once."""
    widget.open(client.recipe)
    widget.choose("photo.bin", data)


@each_place
@each_client
@pytest.mark.parametrize("size", [pytest.param(1000, marks=thorough, id="small"), pytest.param(11 * MIB, id="large")])
def test_a_file_is_stored_and_removed(widget: Widget, client: Client, size: int) -> None:
    """The client shows its progress and its success, S3 has the bytes, and the client's own button removes them."""
    data = os.urandom(size)
    send(widget, client, data)
    expect(widget.page.locator(client.stored)).to_be_visible()
    widget.check_stored(data)
    widget.page.locator(client.removes).first.click()
    wait_until(lambda: not widget.visit.bucket.stored_keys(), widget.visit.bucket.stored_keys)


@each_place
@pytest.mark.parametrize(
    "client", [pytest.param(FILEPOND, id="FilePond"), pytest.param(DROPZONE, id="Dropzone", marks=thorough)]
)
def test_a_refusal_is_shown(widget: Widget, client: Client) -> None:
    """The client shows the detail of the service's problem."""
    widget.visit.refusals |= {413}
    send(widget, client, bytes(13 * MIB))
    expect(widget.page.locator(client.refused)).to_contain_text("has more than")
    assert widget.visit.bucket.stored_keys() == set()
