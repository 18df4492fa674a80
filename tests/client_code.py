"""The code of the pages about clients."""

import re

from demo.processes import ROOT

PAGES = ("clients.md", "uppy-s3.md", "tus.md")
_BLOCK = re.compile(r"^```\w+\n(?://|#) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks() -> dict[str, str]:
    """Return the code of the pages by the file name in each first line."""
    pages = [(ROOT / "docs" / name).read_text("utf-8") for name in PAGES]
    return dict(_BLOCK.findall("\n".join(pages)))
