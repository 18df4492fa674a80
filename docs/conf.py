"""The Sphinx configuration of the documentation site. The build needs no network."""
# ruff: noqa: INP001 - Sphinx runs it, nothing imports it

from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import override
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

project = "filehandoff"
copyright = "the filehandoff contributors, MIT licence"  # noqa: A001 - the name that Sphinx reads
release = metadata.version(project)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_inline_tabs"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"  # one backtick in a docstring, as in Markdown
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False

logger = getLogger(__name__)


class Page(HTMLParser):
    """The ids of a built page, and its links to other files of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids = {"", "top"}
        self.links: list[str] = []
        self.feed(path.read_text("utf-8"))

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in {"href", "src"} and value and not urlsplit(value).scheme:
                self.links.append(value)


def broken_links(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield each link of the built site that leads to no file or no anchor, with its page."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (target in pages and unquote(parts.fragment) not in pages[target].ids):
                yield path, link


def warn_of_broken_links(app: Sphinx, error: Exception | None) -> None:
    """Check the links that MyST does not: those in raw HTML, to downloads, and to anchors of docstrings."""
    if error is None and app.builder.format == "html":
        for path, link in broken_links(Path(app.outdir).resolve()):
            logger.warning("%s: broken link to %s", path.name, link)


def lead_readme_links_to_the_first_page(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Let a link to README.md work on the site too, whose first page includes it."""
    source[0] = source[0].replace("](../README.md", "](index.md")


def mark_code(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Let an indented block of a docstring be code, as in Markdown; a napoleon section has no blank line before it."""
    for index in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[:index]) if line), "")
        if lines[index].startswith("    ") and not lines[index - 1] and not above.startswith(" "):
            lines[index:index] = ["::", ""]


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
    app.connect("source-read", lead_readme_links_to_the_first_page)
    app.connect("build-finished", warn_of_broken_links)
