"""The Sphinx configuration of the documentation site. The build needs no network."""
# ruff: noqa: INP001 - Sphinx runs it, nothing imports it

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

from filehandoff.typing_backports import override

project = "filehandoff"
copyright = "the filehandoff contributors, MIT licence"  # noqa: A001 - the name that Sphinx reads
release = metadata.version(project)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_inline_tabs"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"  # one backtick in a docstring, as in Markdown
exclude_patterns = ["evidence/*"]  # tables that other pages include
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False

#: The line by which a page of the site names a file of the repository as its text.
_TEXT = re.compile(r"\[The text of this page\]\((.*)\)\n")
#: A link of Markdown to a file, and its anchor.
_LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)")

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


def text_of(page: Path) -> Path:
    """Return the file that a page of the site names as its text, or the page itself."""
    named = _TEXT.match(page.read_text("utf-8"))
    return (page.parent / named[1]).resolve() if named else page


def take_text(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the line that names a page's text by that text, and lead its links to the pages of the site."""
    page = Path(app.srcdir, f"{docname}.md").resolve()
    text = text_of(page)
    pages = {text_of(other): other for other in Path(app.srcdir).resolve().rglob("*.md")}

    def lead(link: re.Match[str]) -> str:
        target = (text.parent / link[1]).resolve()
        return f"]({os.path.relpath(pages.get(target, target), page.parent)}{link[2] or ''})"

    whole = _TEXT.sub(lambda _: text.read_text("utf-8"), source[0])
    source[0] = _LINK.sub(lead, whole)


def mark_code(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Let an indented block of a docstring be code, as in Markdown; a napoleon section has no blank line before it."""
    for index in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[:index]) if line), "")
        if lines[index].startswith("    ") and not lines[index - 1] and not above.startswith(" "):
            lines[index:index] = ["::", ""]


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
    app.connect("source-read", take_text)
    app.connect("build-finished", warn_of_broken_links)
