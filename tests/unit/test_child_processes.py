"""The start of the demo's, the tests' and the benchmark's processes."""

import signal
import subprocess
import sys

import pytest

from demo.processes import ROOT, start_child

#: Sends itself a signal during a fork; prints whether it is alone then, and the signals that it still blocks.
INTERRUPTED = """
import os, signal, sys
from demo.processes import family, start_child
number = signal.Signals[sys.argv[1]]
signal.signal(number, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), number))
try:
    start_child(["sleep", "60"])
except KeyboardInterrupt:
    print("interrupted", list(family(os.getpid())) == [os.getpid()], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_the_fork_interrupts_and_leaves_no_process(name: str) -> None:
    """A Ctrl-C or SIGTERM during a fork interrupts the start, and the child has ended."""
    command = [sys.executable, "-c", INTERRUPTED, name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    assert (ended.stdout, ended.stderr) == ("interrupted True set()\n", "")


def test_a_child_blocks_no_signal() -> None:
    """A child gets the signals that end it, though they wait in its parent during its start."""
    program = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with start_child([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.communicate()[0] == b"set()\n"


def test_a_start_that_fails_blocks_no_signal() -> None:
    """After an error of the start, this process gets its signals again."""
    with pytest.raises(FileNotFoundError):
        start_child(["/no such program"])
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
