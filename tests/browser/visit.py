"""A visit of the page: its elements by their roles, and a record of its requests and its console."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from contract.bucket import Bucket
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from demo.stack import Stack

#: A line of the console for an answer that is no success; a test of a refusal expects it.
_REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


@dataclass
class Visit:
    """The page of an app.

    `folder` has the files that `choose` gives. `refusals` are the statuses of the answers that a test expects to be no
    success, `others` further addresses that the page may use.
    """

    page: Page
    url: str
    store: str
    bucket: Bucket
    framework: str
    folder: Path
    refusals: set[int] = field(default_factory=set)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(cls, browser: Browser, stack: Stack, bucket: Bucket, framework: str, **options: Any) -> Iterator[Self]:
        """Make a page in a new context with these options, without opening the app's address."""
        context = browser.new_context(**({"reduced_motion": "reduce"} | options))
        page = context.new_page()
        with TemporaryDirectory() as folder:
            visited = cls(page, stack.apps[framework].url, stack.store.endpoint_url, bucket, framework, Path(folder))
            page.on("console", visited.note)
            page.on("pageerror", lambda error: visited.console.append(str(error)))
            page.on("request", lambda request: visited.requests.append(request.url))
            yield visited
            context.close()

    def note(self, message: ConsoleMessage) -> None:
        """Keep an error or a warning of the console, unless the test expects it."""
        refused = _REFUSED.match(message.text)
        if message.type in {"error", "warning"} and not (refused and int(refused[1]) in self.refusals):
            self.console.append(message.text)

    def open(self, path: str = "/") -> None:
        """Open the page and wait for the choices, which come from the app."""
        self.page.goto(self.url + path)
        expect(self.page.get_by_role("radio")).to_have_count(9)

    def check(self) -> None:
        """Assert that the console is silent, and that no request has left the app and its store."""
        assert self.console == []
        own = (*(f"{url}/" for url in (self.url, self.store, *self.others)), "blob:")
        assert [one for one in self.requests if not one.startswith(own)] == []

    def choose(self, files: Mapping[str, bytes]) -> None:
        """Choose files with these names and bytes in the page's first input for files.

        They are on disk: Playwright would send 13 MiB from memory to the browser in ten seconds, as base64.
        """
        paths = [self.folder / name for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.write_bytes(data)
        self.page.locator("input[type=file]").first.set_input_files(paths)

    def select(self, handoff: str, hook: str = "bound") -> None:
        """Select a pair of hand-off and hook."""
        self.page.get_by_label(handoff, exact=True).check()
        self.page.get_by_label(hook, exact=True).check()

    def upload(self) -> None:
        """Press the first button named "Upload"."""
        self.page.get_by_role("button", name="Upload", exact=True).first.click()

    def transfer(self, name: str, state: str) -> Locator:
        """Wait until a file's transfer is in this state."""
        item = self.page.locator("#transfers > li").filter(has=self.page.get_by_text(name, exact=True))
        expect(item).to_have_attribute("data-state", state)
        return item

    def run_causes(self) -> Locator:
        """Run each cause, one after another, because a result moves the next button; return the results' messages."""
        messages = self.page.locator(".result .message")
        for number, button in enumerate(self.page.get_by_role("button", name="Run it").all(), 1):
            button.click()
            expect(messages).to_have_count(number)
        return messages

    def slow_down(self, bytes_per_second: int) -> None:
        """Let the browser send no faster than this."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
        session.send("Network.emulateNetworkConditions", conditions)


def texts(items: Locator) -> Sequence[str]:
    """Return the texts of elements, with single spaces."""
    return [" ".join(text.split()) for text in items.all_inner_texts()]


def violations(found: Mapping[str, Any]) -> list[str]:
    """Return the serious findings of axe as lines."""
    return [
        f"{one['impact']}: {one['id']}: {[node['target'] for node in one['nodes']]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
