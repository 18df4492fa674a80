"""The programs of docs/clients.md send files to both apps."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from client_code import code_blocks
from contract.bucket import Bucket
from patience import PATIENCE
from programs import program

from demo import stack
from demo.processes import ROOT
from filehandoff.settings import MIB

#: The command that runs each program of the page, and its package of Debian, by the end of the program's name.
COMMANDS = {".sh": ("sh", "dash"), ".py": (sys.executable, "python3"), ".mjs": ("node", "nodejs")}
NAMES = ["send.sh", "send_httpx.py", "send_requests.py", "send_aiohttp.py", "send.mjs"]
LIMIT = 12 * MIB


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """The store and both apps."""
    folder = tmp_path_factory.mktemp("programs")
    environ = {"UPLOAD_S3": "moto", "UPLOAD_MAX_FILE_BYTES": str(LIMIT), "TMPDIR": str(folder)}
    with stack.running(environ | {"UPLOAD_PART_BYTES": "5 MiB"}, log_path=folder / "servers.log") as started:
        yield started


@pytest.fixture(scope="module")
def every_object(running: stack.Stack) -> Iterator[Bucket]:
    """The apps' bucket."""
    with closing(running.store.client()) as client:
        yield Bucket(client, running.settings.bucket, running)


@pytest.fixture
def bucket(every_object: Bucket) -> Iterator[Bucket]:
    """The apps' bucket, which is empty again after each test."""
    yield every_object
    every_object.check_and_empty(every_object.stored_keys())


def run(name: str, folder: Path, service: str, data: bytes) -> subprocess.CompletedProcess[str]:
    """Run a program of the page with a file of these bytes."""
    command, package = COMMANDS[Path(name).suffix]
    (folder / name).write_text(code_blocks()[name], "utf-8")
    (folder / "photo ü.bin").write_bytes(data)
    return subprocess.run(  # noqa: S603 - a program of our page
        [program(command, package), str(folder / name), service, str(folder / "photo ü.bin")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_lock_of_the_widgets_names_no_registry() -> None:
    """Each package has its digest, and npm takes it from the registry that it is configured with."""
    lock = json.loads((ROOT / "tests" / "browser" / "clients" / "package-lock.json").read_text("utf-8"))
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages
    assert all(package["integrity"] and "resolved" not in package for package in packages)


@pytest.mark.every_other
@pytest.mark.parametrize("framework", stack.COMMANDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "size", [pytest.param(1000, marks=pytest.mark.thorough, id="small"), pytest.param(11 * MIB, id="large")]
)
def test_a_program_stores_a_file(
    running: stack.Stack, bucket: Bucket, framework: str, name: str, size: int, tmp_path: Path
) -> None:
    """The program prints the key, and S3 has the bytes and nothing else."""
    data = os.urandom(size)
    done = run(name, tmp_path, running.apps[framework].url, data)
    assert done.returncode == 0, done.stderr
    (key,) = bucket.stored_keys()
    assert key in done.stdout
    assert bucket.sha256(key) == hashlib.sha256(data).hexdigest()
    assert bucket.filename(key) == "photo ü.bin"


@pytest.mark.parametrize("framework", ["quart", pytest.param("flask", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", NAMES)
def test_a_program_shows_a_refusal(
    running: stack.Stack, bucket: Bucket, framework: str, name: str, tmp_path: Path
) -> None:
    """A file above the limit ends the program with the service's detail, and stores nothing."""
    done = run(name, tmp_path, running.apps[framework].url, bytes(LIMIT + MIB))
    assert done.returncode != 0
    assert "has more than" in done.stdout + done.stderr
    assert bucket.stored_keys() == set()
