"""The number of glibc's heaps, by glibc's own report in a new process."""

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import filehandoff
from filehandoff.arenas import ARENAS, limit_arenas

ROOT = Path(filehandoff.__file__).parent.parent
#: Run after the code under test: threads that allocate at the same time, then glibc's number of heaps.
COUNT = """
import ctypes, os, tempfile, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(16)
def allocate():
    together.wait(30)
    libc.malloc(50_000)
    together.wait(30)
threads = [threading.Thread(target=allocate) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with tempfile.NamedTemporaryFile() as file:
    stream = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(stream))
    libc.fclose(ctypes.c_void_p(stream))
    print(file.read().count(b"<heap nr="))
"""
ENVIRON = {
    "UPLOAD_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
}

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread")


def heaps(code: str, **environ: str) -> int:
    """Return the number of glibc's heaps after this code, in threads that allocate."""
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code + COUNT],
        cwd=ROOT,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


@glibc
@pytest.mark.parametrize(
    "load",
    [
        pytest.param("import runpy; runpy.run_path('flask_app/gunicorn.conf.py')", id="flask"),
        pytest.param("import quart_app.asgi", id="quart"),
    ],
)
def test_the_shipped_start_keeps_one_heap(load: str) -> None:
    """A process started as shipped has one heap, however many threads allocate."""
    assert heaps(load) == 1


@glibc
def test_the_environment_has_the_last_word() -> None:
    """MALLOC_ARENA_MAX in the environment sets the number of heaps."""
    code = "import os; from filehandoff.arenas import limit_arenas; assert not limit_arenas(os.environ)"
    assert heaps(code, MALLOC_ARENA_MAX="5") > ARENAS


@pytest.mark.parametrize(
    ("environ", "libc", "limited"),
    [
        pytest.param({}, SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *_: 1), True, id="glibc"),
        pytest.param({}, SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *_: 0), False, id="refused"),
        pytest.param({}, SimpleNamespace(), False, id="musl or macOS"),
        pytest.param({"MALLOC_ARENA_MAX": "8"}, None, False, id="set"),
        pytest.param({"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}, None, False, id="set as a tunable"),
    ],
)
def test_only_glibc_s_own_number_is_replaced(environ: dict[str, str], libc: object, limited: bool) -> None:  # noqa: FBT001 - parametrised
    """Another C library, and a number set by the environment, stay unchanged."""
    assert limit_arenas(environ, libc) is limited
