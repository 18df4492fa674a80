"""The packages of npm that a folder locks, installed once for all processes."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from demo.processes import ROOT, StartError

#: Seconds for the installation of the packages.
INSTALL_SECONDS = 300


def installed(sources: Path) -> Path:
    """Copy a folder's files below `build`, install its locked packages beside them, and return that folder.

    Raises:
        StartError: npm is missing, or cannot install them; a one-line message.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise StartError("no npm is found; install it with `apt-get install npm`")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources.iterdir()))).hexdigest()
    folder = ROOT / "build" / sources.name / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.copytree(sources, folder, dirs_exist_ok=True)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_SECONDS, capture_output=True)  # noqa: S603 - npm itself
            except subprocess.SubprocessError as error:
                raise StartError(f"npm cannot install the packages of {sources.name}: {error}") from None
            (folder / "ready").touch()
    return folder
