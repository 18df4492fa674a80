"""The code of the pages about clients, and the programs that run it."""

import os
import re
import shutil

import pytest

from demo.processes import ROOT

PAGES = ("clients.md", "uppy-s3.md", "tus.md")
_BLOCK = re.compile(r"^```\w+\n(?://|#) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks() -> dict[str, str]:
    """Return the code of the pages by the file name in each first line."""
    pages = [(ROOT / "docs" / name).read_text("utf-8") for name in PAGES]
    return dict(_BLOCK.findall("\n".join(pages)))


def program(name: str, package: str) -> str:
    """Return the path of a program; a missing one is a failure in CI and a skip elsewhere."""
    if path := shutil.which(name):
        return path
    missing = f"no {name} is found; install it with `apt-get install {package}`"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
