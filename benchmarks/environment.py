"""The machine and software of a run, without names of persons or places."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from demo.processes import ROOT
from evidence.state import UNKNOWN, code_commit, is_clean

_SETTINGS = ("UPLOAD_", "AWS_DEFAULT_REGION")
#: Words in the names of settings that may hold a secret or name a place.
_SECRET_WORDS = ("ENDPOINT", "KEY", "TOKEN", "SECRET")


def captured(environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Collect everything that may influence a figure.

    Args:
        environ: this process's environment.
        folder: the folder for the servers' temporary files.
    """
    packages = {it.metadata["Name"]: it.version for it in importlib.metadata.distributions()}
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "settings": {
            name: value
            for name, value in sorted(environ.items())
            if name.startswith(_SETTINGS) and not any(word in name for word in _SECRET_WORDS)
        },
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": code_commit(ROOT) != UNKNOWN and not is_clean(ROOT),
        "temporary_files_on": filesystem(folder),
        "load_average_before": os.getloadavg()[0],
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(*arguments: str) -> str:
    """The output of a git command in this repository.

    It is empty if this is not a repository.
    """
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - ours
    except (OSError, subprocess.CalledProcessError):
        return ""


def filesystem(folder: Path) -> str:
    """The type of the file system that holds a folder, such as `ext4`."""
    folder = folder.resolve()
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    fitting = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    # the later of two mounts on one place covers the earlier
    return max(reversed(fitting), key=lambda it: it[0], default=(0, "unknown"))[1]
