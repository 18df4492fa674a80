"""Where a server's CPU time goes, by the sampling profiler py-spy: which functions were running, and whose they are."""

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

#: Samples in each second.
RATE = 200
#: How many functions and packages are kept of a profile.
KEPT = 15
_STOP_SECONDS = 30.0

#: Functions that do nothing but wait. py-spy leaves out threads that wait, but cannot tell on every kernel.
_WAITS = re.compile(
    r"^(_worker \(concurrent/futures/thread|\w*\.?select \(selectors|\S*do_poll \(urllib3|SocketIO\.readinto \(socket"
    r"|\S*\bwait \(|\S*\.get \(queue|\S*accept \(socket)"
)


@dataclass
class Profile:
    """Shares of the samples in which a thread was running: by the function that ran itself, and by its package."""

    samples: int = 0
    functions: list[tuple[str, float]] = field(default_factory=list)
    packages: list[tuple[str, float]] = field(default_factory=list)
    reason: str | None = None


@contextmanager
def profiling(pid: int) -> Iterator[Profile]:
    """Profile a process and its children during the block; the profile is filled after it, or has a reason."""
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
            said = _stop(process)
        read(Path(file.name).read_text("utf-8"), profile)
    if not profile.samples:
        profile.reason = said.splitlines()[-1] if said else "nothing was sampled"


def _stop(process: "subprocess.Popen[str]") -> str:
    """Have the profiler write what it has; what it said."""
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    return said.strip()


def read(stacks: str, profile: Profile) -> None:
    """Take py-spy's raw format: a line for each stack, its frames from the outermost, and how often it was seen."""
    functions, packages = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        name = stack.rpartition(";")[2]
        if not count.isdecimal() or _WAITS.match(name):  # a command line that has line feeds is cut at them
            continue
        functions[name] += int(count)
        packages[package(name)] += int(count)
    profile.samples = sum(functions.values())
    if not profile.samples:
        return
    for counter, shares in ((functions, profile.functions), (packages, profile.packages)):
        shares += [(name, count / profile.samples) for name, count in counter.most_common(KEPT)]


def package(frame: str) -> str:
    """Whose function it is: `aiohttp` of `write (aiohttp/http_writer.py:84)`; a module of its own is its name."""
    place = frame.rpartition("(")[2].partition(":")[0].rstrip(")")
    return place.partition("/")[0].removesuffix(".py") or "?"
