"""Profile a server's CPU time by function and package, with the sampling profiler py-spy."""

import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: Samples per second.
RATE = 200
#: Number of functions and packages kept of a profile.
KEPT = 15
_STOP_SECONDS = 30.0

#: Functions that only wait. py-spy skips waiting threads, but cannot recognize them on every kernel.
_WAITS = re.compile(
    r"^(_worker \(concurrent/futures/thread|\w*\.?select \(selectors|\S*do_poll \(urllib3|SocketIO\.readinto \(socket"
    r"|\S*\bwait \(|\S*\.get \(queue|\S*accept \(socket)"
)


@dataclass
class Profile:
    """Shares of the samples by running function and by its package."""

    samples: int = 0
    functions: list[tuple[str, float]] = field(default_factory=list)
    packages: list[tuple[str, float]] = field(default_factory=list)
    reason: str | None = None


@contextmanager
def profiling(pid: int) -> Iterator[Profile]:
    """Profile a process and its children during the block.

    The profile is filled in after the block, or has a `reason` why not.
    """
    profile = Profile()
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if program is None:
        profile.reason = "py-spy is not installed"
        yield profile
        return
    with tempfile.NamedTemporaryFile("r") as file:
        options = ["--subprocesses", "--function", "--format", "raw", "--rate", str(RATE)]
        process = subprocess.Popen(  # noqa: S603 - a program of this environment
            [program, "record", "--pid", str(pid), *options, "--output", file.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield profile
        finally:
            messages = _stop(process)
        read(Path(file.name).read_text("utf-8"), profile)
    if not profile.samples:
        profile.reason = messages.splitlines()[-1] if messages else "nothing was sampled"


def _stop(process: "subprocess.Popen[str]") -> str:
    """Make the profiler write its samples and end; return its messages."""
    process.send_signal(signal.SIGINT)
    try:
        _, messages = process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, messages = process.communicate()
    return messages.strip()


def read(stacks: str, profile: Profile) -> None:
    """Read py-spy's raw format: lines with a stack, outermost frame first, and a count."""
    functions, packages = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        name = stack.rpartition(";")[2]
        if not count.isdecimal() or _WAITS.match(name):  # py-spy cuts command lines at line feeds
            continue
        functions[name] += int(count)
        packages[package(name)] += int(count)
    profile.samples = sum(functions.values())
    if not profile.samples:
        return
    for counter, shares in ((functions, profile.functions), (packages, profile.packages)):
        shares += [(name, count / profile.samples) for name, count in counter.most_common(KEPT)]


def package(frame: str) -> str:
    """The package of a frame: `aiohttp` for `write (aiohttp/http_writer.py:84)`; a top-level module is its own."""
    place = frame.rpartition("(")[2].partition(":")[0].rstrip(")")
    return place.partition("/")[0].removesuffix(".py") or "?"
