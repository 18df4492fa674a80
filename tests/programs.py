"""Programs that tests run, and that Debian installs."""

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program; a missing one is a failure in CI and a skip elsewhere."""
    if path := shutil.which(name):
        return path
    missing = f"no {name} is found; install it with `apt-get install {package}`"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
