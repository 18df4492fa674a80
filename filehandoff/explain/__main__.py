"""`python -m filehandoff.explain CAUSE`: print the page about one cause of a closed file, with code that works.

Without a cause, lists all of them.
"""

import argparse
import re
import sys
from importlib.resources import files

#: The marks of a tab in Markdown: the documentation shows tabs, a terminal shows one text after the other.
_TAB = re.compile(r"^:::(?:\{tab\} (.+))?\n", re.MULTILINE)


def main() -> None:
    """Print a page or the list of pages; exit with status 2 for an unknown cause."""
    folder = files("filehandoff.explain") / "pages"
    texts = {entry.name.removesuffix(".md"): entry.read_text("utf-8") for entry in folder.iterdir()}
    pages = {name: _TAB.sub(_without_tab, text) for name, text in sorted(texts.items())}
    parser = argparse.ArgumentParser("python -m filehandoff.explain", description="Why an uploaded file is closed.")
    parser.add_argument("cause", nargs="?", choices=pages, help="print the page about this cause")
    cause = parser.parse_args().cause
    titles = [f"{name:16} {page.splitlines()[0].removeprefix('# ')}\n" for name, page in pages.items()]
    sys.stdout.write(pages[cause] if cause else "".join(titles))


def _without_tab(mark: re.Match[str]) -> str:
    return f"In {mark[1]}:\n\n" if mark[1] else ""


main()
