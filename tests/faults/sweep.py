"""The command by which an app aborts the unfinished uploads of killed processes."""

import subprocess
from collections.abc import Mapping

from demo.processes import ROOT, python


def sweep(name: str, environ: Mapping[str, str]) -> None:
    """Run the sweep of an app, for uploads of any age."""
    command = python(name, "--app", f"{name}_app", "sweep-uploads", "--older-than", "0s", "--abort")
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
