"""Every link of the documentation leads somewhere: on the site by Sphinx, in the repository by this."""

import re
from pathlib import Path

import pytest
from sphinx.cmd.build import build_main

ROOT = Path(__file__).parents[2]
#: The Markdown of the repository that people read there.
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "filehandoff/explain/pages").glob("*.md"),
    *(ROOT / "tests").rglob("*.md"),
]
_CODE = re.compile(r"^( *)(`{3,}).*?^\1\2$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in sorted(PAGES)])
def test_every_link_in_the_repository_leads_to_a_file_and_a_heading(page: Path) -> None:
    """A relative link of Markdown, as on GitHub: to a text, not to the site's page that names the text."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _CODE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        found = target.exists() and (not anchor or anchor in anchors(target))
        if "://" not in link and not (found and not target.read_bytes().startswith(b"[The text of this page]")):
            broken.append(link)
    assert broken == []


def build(source: Path, page: str) -> int:
    """Build a site of one page with the configuration of ours; return the exit status."""
    source.joinpath("index.md").write_text(page, "utf-8")
    return build_main(["-W", "-q", "-c", str(ROOT / "docs"), str(source), str(source / "built")])


@pytest.mark.filterwarnings("ignore")  # from Sphinx and its extensions
@pytest.mark.parametrize(
    "link",
    [
        pytest.param("[a page](nowhere.md)", id="no page"),
        pytest.param("[a heading](#nowhere)", id="no heading"),
        pytest.param("[a file](nowhere.py)", id="no file"),
        pytest.param('<a href="nowhere.html">HTML</a>', id="no page, in HTML"),
        pytest.param('<a href="index.html#nowhere">HTML</a>', id="no heading, in HTML"),
        pytest.param('<img src="nowhere.svg">', id="no picture, in HTML"),
    ],
)
def test_a_broken_link_fails_the_build(link: str, tmp_path: Path) -> None:
    """Wherever it stands; the same page builds with a link that works."""
    assert build(tmp_path, f"# Title\n\n{link}\n") == 1


@pytest.mark.filterwarnings("ignore")  # from Sphinx and its extensions
def test_working_links_pass_the_build(tmp_path: Path) -> None:
    """In Markdown and in HTML, to a page and to a heading."""
    links = '[a heading](#title)\n\n<a href="index.html#title">HTML</a> <a href="search.html">HTML</a>'
    assert build(tmp_path, f"# Title\n\n{links}\n") == 0
