"""A profile counts running functions and their packages."""

import subprocess
import sys

import pytest

from benchmarks.profiles import Profile, package, profiling, read

STACKS = """\
main (app.py:1);write (aiohttp/http_writer.py:84) 6
main (app.py:1);hash_all (filehandoff/digest.py:3) 3
main (app.py:1) 1
run (threading.py:1);_worker (concurrent/futures/thread.py:69) 90
run (threading.py:1);EpollSelector.select (selectors.py:435) 90
run (threading.py:1);Event.wait (threading.py:60) 90
"""


def test_shares_count_running_functions_only() -> None:
    """Shares count running functions only, by function and by package, largest first."""
    profile = Profile()
    read(STACKS, profile)
    assert profile.samples == 10
    assert profile.functions == [
        ("write (aiohttp/http_writer.py:84)", 0.6),
        ("hash_all (filehandoff/digest.py:3)", 0.3),
        ("main (app.py:1)", 0.1),
    ]
    assert [name for name, _ in profile.packages] == ["aiohttp", "filehandoff", "app"]


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        ("write (aiohttp/http_writer.py:84)", "aiohttp"),
        ("uuid4 (uuid.py:710)", "uuid"),
        ("<module> (<string>:1)", "<string>"),
    ],
)
def test_a_frame_has_a_package(frame: str, name: str) -> None:
    """A frame's package is the first part of its path."""
    assert package(frame) == name


def test_a_process_that_works_is_seen_working() -> None:
    """A busy process is profiled in its function, or the profile has a reason."""
    script = "import sys\ndef busy():\n    while True: sum(range(1000))\nprint('on', flush=True)\nbusy()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        process.stdout.readline()
        try:
            with profiling(process.pid) as profile:
                for _ in range(20):
                    subprocess.run([sys.executable, "-c", ""], check=True)
        finally:
            process.kill()
    assert profile.reason or profile.functions[0][0].startswith("busy (")


def test_a_process_that_is_gone_has_no_profile() -> None:
    """The profile of an ended process is empty and has a reason."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    with profiling(process.pid) as profile:
        pass
    assert profile.samples == 0
    assert profile.reason
