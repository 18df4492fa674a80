"""A wrong start ends with one clear line."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from patience import PATIENCE

from demo import stores
from demo.processes import ROOT, ending, python
from demo.stack import COMMANDS, Stack, wait_until_ready
from filehandoff.settings import Settings

ENVIRON = {**os.environ, **stores.EMBEDDED_CREDENTIALS}
#: A sample: the unit tests cover all settings, because starting both apps for each takes half a minute.
CASES = [
    pytest.param("UPLOAD_PART_BYTES", "1 MiB", id="a part S3 does not take"),
    pytest.param("AWS_PROFILE", "nobody", id="no such profile"),
    pytest.param("UPLOAD_MAX_FILE_BYTES", "lots", id="no size", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_S3_ENDPOINT_URL", "localhost:9000", id="no URL", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_IDLE_TIMEOUT", "0", id="no time at all", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_BUCKET", "Not A Bucket", id="no bucket name", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_KEY_PREFIX", "/../", id="a prefix that climbs", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_S3_OPTIONS", '{"Key": "k"}', id="a parameter of ours", marks=pytest.mark.thorough),
    pytest.param("UPLOAD_ALLOWED_TYPES", "text/csv", id="a type of no file", marks=pytest.mark.thorough),
]


@pytest.fixture(scope="module")
def empty_store() -> Iterator[stores.Store]:
    """An S3 server without buckets that already answers, so no app waits for it."""
    store = stores.start("moto", {}, None)
    assert store.server is not None
    with ending([store.server]), closing(store.client()) as client:
        wait_until_ready(Stack(store, Settings(), {}, [store.server]), store.endpoint_url, None)
        assert client.list_buckets()["Buckets"] == []
        yield store


def run(command: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command that must end by itself."""
    return subprocess.run(  # noqa: S603 - our own commands
        command, cwd=ROOT, env=ENVIRON | environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def serve_app(framework: str) -> list[str]:
    """The command that serves an app on a free port."""
    return [part.replace("fd://{fd}", "127.0.0.1:0").format(drain=1) for part in COMMANDS[framework]]


def own_lines(text: str) -> list[str]:
    """The printed lines without the servers' own log."""
    return [line for line in text.splitlines() if not line.startswith("[")]


@pytest.mark.every_other
@pytest.mark.parametrize("framework", COMMANDS)
@pytest.mark.parametrize(("variable", "value"), CASES)
def test_a_wrong_setting_stops_the_start_with_one_line(framework: str, variable: str, value: str) -> None:
    """A wrong setting ends the server with one line that names the allowed values."""
    ended = run(serve_app(framework), {variable: value})
    assert ended.returncode not in {0, None}
    (line,) = own_lines(ended.stdout + ended.stderr)
    assert line.startswith(f"{framework}_app: {variable} is '{value}'; it must be ")


@pytest.mark.parametrize("framework", COMMANDS)
def test_a_missing_bucket_stops_the_start_with_one_line(framework: str, empty_store: stores.Store) -> None:
    """A missing bucket ends the start; the app does not create it."""
    ended = run(serve_app(framework), {"UPLOAD_S3_ENDPOINT_URL": empty_store.endpoint_url, "UPLOAD_BUCKET": "nowhere"})
    assert ended.returncode not in {0, None}
    (line,) = own_lines(ended.stdout + ended.stderr)
    assert line == f"{framework}_app: there is no bucket 'nowhere'; create it or set UPLOAD_BUCKET"


@pytest.mark.parametrize("framework", COMMANDS)
def test_a_misspelt_setting_is_pointed_out(framework: str, empty_store: stores.Store) -> None:
    """A variable that resembles a setting's name gets a warning."""
    environ = {"UPLOAD_S3_ENDPOINT_URL": empty_store.endpoint_url, "UPLOAD_BUCKETS": "mine"}
    ended = run(serve_app(framework), environ)
    lines = own_lines(ended.stdout + ended.stderr)
    assert f"{framework}_app: UPLOAD_BUCKETS is no setting; was UPLOAD_BUCKET meant?" in lines


@pytest.mark.parametrize("framework", COMMANDS)
def test_a_missing_folder_for_numbers_stops_the_start_with_one_line(
    framework: str, empty_store: stores.Store, tmp_path: Path
) -> None:
    """A missing PROMETHEUS_MULTIPROC_DIR folder ends the start with one line."""
    environ = {"UPLOAD_S3_ENDPOINT_URL": empty_store.endpoint_url, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "no")}
    ended = run(serve_app(framework), environ)
    assert ended.returncode not in {0, None}
    (line,) = own_lines(ended.stdout + ended.stderr)
    assert line.startswith(f"{framework}_app: PROMETHEUS_MULTIPROC_DIR is '{tmp_path / 'no'}'; it must be a folder ")


@pytest.mark.every_other
@pytest.mark.parametrize("framework", COMMANDS)
@pytest.mark.parametrize(
    ("variable", "value", "more"),
    [
        pytest.param("UPLOAD_TOKENS_FILE", "/nowhere", {"UPLOAD_AUTH": "bearer"}, id="no file"),
        pytest.param("TMPDIR", "/nowhere", {}, id="no temporary folder"),
        pytest.param("OTEL_TRACES_EXPORTER", "otpl", {"UPLOAD_TRACES": "on"}, id="no exporter"),
    ],
)
def test_a_setting_that_only_the_app_can_check_stops_the_start(
    framework: str, variable: str, value: str, more: dict[str, str]
) -> None:
    """Gunicorn's worker ends its master, which would otherwise start the next worker for ever."""
    ended = run(serve_app(framework), {"UPLOAD_S3_ENDPOINT_URL": "http://127.0.0.1:9", variable: value, **more})
    assert ended.returncode not in {0, None}
    (line,) = own_lines(ended.stdout + ended.stderr)
    assert line.startswith(f"{framework}_app: {variable} is '{value}'; it must be ")


#: The start of a server, as a program.
STARTS = {
    "flask": "import flask_app.wsgi",
    "quart": "import asyncio; from quart_app.asgi import app; asyncio.run(app.startup())",
}


@pytest.mark.parametrize("framework", STARTS)
def test_no_collection_of_garbage_looks_at_the_start(framework: str) -> None:
    """The objects of the start are most of a process's, and would make a full collection long."""
    program = f"{STARTS[framework]}; import gc; print(gc.get_freeze_count(), len(gc.get_objects()))"
    ended = run([sys.executable, "-c", program], {"UPLOAD_S3_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert ended.returncode == 0, ended.stderr
    passed_over, looked_at = map(int, ended.stdout.split()[-2:])
    assert passed_over > 100 * looked_at


@pytest.mark.every_other
@pytest.mark.parametrize("module", ["demo", "demo.serve"])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        pytest.param("UPLOAD_S3", "floppy", "UPLOAD_S3 is 'floppy'; it must be moto", id="an unknown store"),
        pytest.param("UPLOAD_BUCKET", "X", "UPLOAD_BUCKET is 'X'; it must be a bucket name", id="a wrong setting"),
        pytest.param("S3_PORT", "http", "S3_PORT is 'http'; it must be a port number", id="a wrong port"),
    ],
)
def test_the_demo_and_serve_name_the_wrong_variable(module: str, variable: str, value: str, message: str) -> None:
    """`make demo` and `make serve` report a wrong variable before they start a server."""
    ended = run(python(module), {variable: value, "FLASK_PORT": "0", "QUART_PORT": "0"})
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert message in line


def test_a_port_in_use_is_one_line() -> None:
    """`make serve` on a used port names the port and the variable that sets another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(python("demo.serve"), {"FLASK_PORT": str(port), "QUART_PORT": "0"})
    assert ended.returncode == 1
    assert ended.stderr == (
        f"serve: port {port} for flask is not available (Address already in use); set FLASK_PORT to another\n"
    )


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A fresh checkout on a machine whose only Python is too old."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "rm", "touch", "sed"):
        (tools / tool).symlink_to(shutil.which(tool) or "missing")
    old = tools / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.9;; *) exit 1;; esac\n')
    old.chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("target", ["demo", "test", "serve"])
def test_a_python_too_old_is_one_line(bare_machine: Path, target: str) -> None:
    """Without Python 3.11, make names the Pythons found and creates nothing."""
    ended = subprocess.run(  # noqa: S603 - make, by its path
        [shutil.which("make") or "make", target],
        cwd=bare_machine,
        env={"PATH": str(bare_machine / "bin")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 2  # make's status for a failed recipe
    line, *makes_own = ended.stderr.splitlines()
    assert line == (
        "filehandoff needs Python 3.11 or newer; found: python3=3.9. Name one: make PYTHON=/path/to/python3.11 …"
    )
    assert all(own.startswith("make: ***") for own in makes_own)
    assert not (bare_machine / ".venv").exists()


def make_environment(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make lint` on the bare machine, whose environments have no working tool."""
    return subprocess.run(  # noqa: S603 - make, by its path
        [shutil.which("make") or "make", "lint", *arguments],
        cwd=machine,
        env={"PATH": str(machine / "bin")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def add_python(machine: Path, name: str, version: str) -> None:
    """Add an interpreter of a version, which makes no environment."""
    path = machine / "bin" / name
    path.write_text(f'#!/bin/sh\ncase "$*" in *"%d.%d"*|--version) echo {version};; *) exit 1;; esac\n')
    path.chmod(0o755)


def test_make_takes_the_newest_python(bare_machine: Path) -> None:
    """Without PYTHON, make takes the newest of all interpreters that it finds."""
    for name, version in (("python3.11", "3.11"), ("python3.12", "3.12"), ("python3", "3.9")):
        add_python(bare_machine, name, version)
    assert "Making the environment in .venv with 3.12" in make_environment(bare_machine).stdout


def test_make_takes_the_named_python(bare_machine: Path) -> None:
    """With PYTHON, make takes that interpreter, and no other."""
    for name, version in (("python3.11", "3.11"), ("python3.12", "3.12")):
        add_python(bare_machine, name, version)
    assert "Making the environment in .venv with 3.11" in make_environment(bare_machine, "PYTHON=python3.11").stdout
    assert "needs Python 3.11 or newer; found: none." in make_environment(bare_machine, "PYTHON=missing").stderr


def test_make_notices_an_environment_of_another_python(bare_machine: Path) -> None:
    """With PYTHON, make replaces an environment that another interpreter made."""
    add_python(bare_machine, "python3.11", "3.11")
    tools = bare_machine / ".venv" / "bin"
    tools.mkdir(parents=True)
    add_python(bare_machine / ".venv", "python", "3.12")
    (bare_machine / ".venv" / "ready").touch()
    assert "Making" not in make_environment(bare_machine).stdout
    assert "Making the environment in .venv with 3.11" in make_environment(bare_machine, "PYTHON=python3.11").stdout


def test_this_python_is_new_enough() -> None:
    """The tests run on a Python that pyproject.toml allows."""
    assert sys.version_info >= (3, 11)


def test_gunicorn_without_our_configuration_warns_with_the_line_to_use() -> None:
    """Without our configuration, gunicorn logs a warning with the right command."""
    command = python("gunicorn", "-b", "127.0.0.1:0", "flask_app.wsgi:app")
    server = subprocess.Popen(command, cwd=ROOT, env=ENVIRON, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "another configuration" in line)
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert f"gunicorn -c {ROOT / 'flask_app' / 'gunicorn.conf.py'} flask_app.wsgi:app" in line
