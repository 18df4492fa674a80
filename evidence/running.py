"""Run a stage's command, and leave none of its processes behind."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from demo.processes import INTERRUPTS, family, start_child

#: Seconds between two looks at a running command.
LOOK_EVERY = 0.1
#: Seconds that the processes of an interrupted command get for each signal before the next one.
GRACE_SECONDS = 60.0
#: Seconds between two notes of progress.
NOTE_EVERY = 60.0
_PR_SET_CHILD_SUBREAPER = 36


def run(command: str, log: Path, note: Callable[[float], None], *, folder: Path, environ: Mapping[str, str]) -> int:
    """Run a shell command with its output in a file; return its exit status.

    All its processes have ended before this function returns or raises, for example at Ctrl-C.
    """
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # until the command can be ended
    try:
        with log.open("wb") as file:
            process = start_child(
                ["sh", "-e", "-c", command],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C reaches only this process
            )
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
            return _wait(process, note)
        finally:
            _end_at_once_if_asked(process)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def _wait(process: subprocess.Popen[bytes], note: Callable[[float], None]) -> int:
    began = noted = time.monotonic()
    while process.poll() is None:
        time.sleep(LOOK_EVERY)
        if time.monotonic() - noted >= NOTE_EVERY:
            noted = time.monotonic()
            note(noted - began)
    return process.returncode


def _end_at_once_if_asked(process: subprocess.Popen[bytes]) -> None:
    try:
        end(process)
    except KeyboardInterrupt:  # a second one
        end(process, signals=())
        raise


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose own parent ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end(process: subprocess.Popen[bytes], signals: Sequence[int] = INTERRUPTS) -> None:
    """End a command and all processes that it started, in its group or in others."""
    for number in signals:
        if not has_children():
            break
        if number == signal.SIGINT and process.poll() is None:
            os.killpg(process.pid, number)  # the programs of the group end their own servers
        else:
            signal_children(number)
        deadline = time.monotonic() + GRACE_SECONDS
        while has_children() and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
    while has_children():
        signal_children(signal.SIGKILL)
        time.sleep(LOOK_EVERY)
    process.poll()


def has_children() -> bool:
    """Collect the ended children; return whether others run, or processes below them."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def signal_children(number: int) -> None:
    """Send a signal to all processes below this one."""
    for pid in family(os.getpid()):
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C raise KeyboardInterrupt for the block."""
    before = [(number, signal.signal(number, signal.default_int_handler)) for number in INTERRUPTS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
