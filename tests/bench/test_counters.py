"""The counters of a process include its children and its ended threads."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.counters import ProcessTree
from benchmarks.environment import captured, filesystem
from filehandoff.settings import MIB

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"


@contextmanager
def paused(script: str) -> Iterator[tuple[ProcessTree, "subprocess.Popen[str]"]]:
    """Start a process whose child alternates between reading and printing a line."""
    command = [sys.executable, "-c", PARENT, script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            yield ProcessTree(process.pid), process
        finally:
            process.kill()


def step(process: "subprocess.Popen[str]") -> None:
    """Let the script run to its next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline()


def test_cpu_of_a_childs_dead_thread_counts() -> None:
    """Half a second of CPU in a thread counts after the thread has ended."""
    script = """
import threading, time
def work():
    end = time.thread_time() + 0.5
    while time.thread_time() < end: pass
input(); print("ready", flush=True); input()
thread = threading.Thread(target=work); thread.start(); thread.join()
print("done", flush=True); input()
"""
    with paused(script) as (tree, process):
        step(process)
        before = tree.counts()
        step(process)
        assert 0.5 <= tree.counts().cpu_seconds - before.cpu_seconds < 1.5


def test_the_peak_is_seen_after_it_and_forgotten_when_asked() -> None:
    """A peak of 64 MiB is counted after the memory is freed, until `forget_peak`."""
    script = """
input(); print("ready", flush=True); input()
data = bytearray(64 * 2**20); del data
print("done", flush=True); input()
"""
    with paused(script) as (tree, process):
        step(process)
        tree.forget_peak()
        before = tree.counts()
        step(process)
        assert tree.counts().peak_bytes - before.resident_bytes >= 60 * MIB  # Linux rounds per core
        tree.forget_peak()
        assert tree.counts().peak_bytes - before.resident_bytes < 32 * MIB


def test_bytes_written_to_a_deleted_file_count(tmp_path: Path) -> None:
    """16 MiB written to an unnamed file count; bytes written to a pipe do not."""
    if filesystem(tmp_path) == "tmpfs":
        pytest.skip("TMPDIR is in memory, where Linux counts nothing as written to disk: name a folder on a disk")
    script = f"""
import os, tempfile
input(); print("ready", flush=True); input()
with tempfile.TemporaryFile(dir={str(tmp_path)!r}) as file: file.write(bytes(16 * 2**20))
read, write = os.pipe()
for _ in range(1024): os.write(write, bytes(16384)); os.read(read, 16384)
print("done", flush=True); input()
"""
    with paused(script) as (tree, process):
        step(process)
        before = tree.counts()
        step(process)
        assert 16 * MIB <= tree.counts().disk_bytes - before.disk_bytes < 20 * MIB


def test_a_process_that_is_gone_counts_nothing() -> None:
    """A process that has ended counts as zero."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert ProcessTree(process.pid).counts().resident_bytes == 0


def test_the_environment_is_recorded_without_secrets(tmp_path: Path) -> None:
    """The environment has packages, settings and cores, but no endpoint and no key."""
    environ = {
        "UPLOAD_PART_BYTES": "5 MiB",
        "UPLOAD_S3_ENDPOINT_URL": "http://secret.example",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "UPLOAD_KEY_PREFIX": "mine/",
    }
    seen = captured(environ, tmp_path)
    assert seen["settings"] == {"UPLOAD_PART_BYTES": "5 MiB"}
    assert seen["packages"]["boto3"]
    assert seen["cores"] >= 1
    assert "hush" not in str(seen)
