"""`make serve` ends every process that it started, however it ends."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from alive import alive
from patience import PATIENCE, wait_until

from demo.processes import ROOT, python


class Serve:
    """A running `python -m demo.serve` with its descendants."""

    def __init__(self, log: Path, store: str) -> None:
        environ = {**os.environ, "FLASK_PORT": "0", "QUART_PORT": "0", "UPLOAD_DRAIN_SECONDS": "1", "S3_PORT": "0"}
        environ |= {"UPLOAD_S3": store, "TMPDIR": str(log.parent)}
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                python("demo.serve"), cwd=ROOT, env=environ, stdout=output, stderr=output
            )
        wait_until(self.is_ready, self.log.read_text)
        self.children = descendants(self.process.pid)

    def is_ready(self) -> bool:
        """Whether it printed that it is ready; fails if it ended instead."""
        assert self.process.poll() is None, self.log.read_text()
        return "Ready." in self.log.read_text()

    def url(self, framework: str) -> str:
        """The printed URL of an app."""
        match = re.search(rf"^ +{framework} +(http://\S+)$", self.log.read_text(), re.MULTILINE)
        assert match is not None
        return match[1]

    def end(self) -> int:
        """Wait for its end; return the exit status."""
        return self.process.wait(PATIENCE)

    def check_gone(self) -> None:
        """Wait until no descendant is left, and check that no folder is."""
        wait_until(lambda: not alive(self.children), lambda: f"still alive: {alive(self.children)}")
        assert [*self.log.parent.glob("handoff-rclone-*"), *self.log.parent.glob("handoff-swift-*")] == []


@pytest.fixture
def store() -> str:
    """The S3 server, unless a test chooses another."""
    return "moto"


@pytest.fixture
def serve(tmp_path: Path, store: str) -> Iterator[Serve]:
    """A ready `make serve`, killed after the test if it still runs."""
    served = Serve(tmp_path / "serve.log", store)
    yield served
    for pid in (served.process.pid, *served.children):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    served.process.wait()


def descendants(pid: int) -> list[int]:
    """The ids of all processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found, below = [], parents.get(pid, [])
    while below:
        found += below
        below = [child for one in below for child in parents.get(one, [])]
    return found


@pytest.mark.parametrize(
    ("store", "signum"),
    [
        pytest.param("moto", signal.SIGINT),
        pytest.param("moto", signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param("rclone", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("rclone", signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param("swift", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("swift", signal.SIGTERM),
    ],
)
def test_serve_answers_until_a_signal_ends_it(serve: Serve, signum: signal.Signals) -> None:
    """Both apps take an upload.

    Ctrl-C or SIGTERM ends every process with status 0 and deletes the folders.
    """
    assert len(serve.children) >= 4  # the store, gunicorn and its worker, hypercorn
    for framework in ("flask", "quart"):
        files = {"file": ("name", b"data")}
        answer = httpx.post(f"{serve.url(framework)}/uploads", files=files, timeout=PATIENCE)
        assert answer.status_code == 201, answer.text
    serve.process.send_signal(signum)
    assert serve.end() == 0, serve.log.read_text()
    serve.check_gone()


@pytest.mark.parametrize(
    ("store", "victim", "name"),
    [
        pytest.param("moto", "demo.moto_server", "moto died (-9)", id="moto", marks=pytest.mark.thorough),
        pytest.param("rclone", "--auth-key", "rclone died (247)", id="rclone", marks=pytest.mark.thorough),
        pytest.param("swift", "demo.swift_cluster", "swift died (247)", id="swift"),
        pytest.param("moto", "flask_app.wsgi", "flask died (-9)", id="flask"),
        pytest.param("moto", "quart_app.asgi", "quart died (-9)", id="quart", marks=pytest.mark.thorough),
    ],
)
def test_when_one_dies_the_others_are_ended(serve: Serve, victim: str, name: str) -> None:
    """The death of one server ends the others, with status 1 and its name."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in serve.children}
    pid = min(pid for pid, command in commands.items() if victim in command)
    os.kill(pid, signal.SIGKILL)
    assert serve.end() == 1
    assert f"serve: {name}; ending the others" in serve.log.read_text()
    serve.check_gone()


def test_each_page_names_the_other_app(serve: Serve) -> None:
    """The page of each app may connect to the other one, and knows its address."""
    for framework, other in (("flask", "quart"), ("quart", "flask")):
        page = httpx.get(serve.url(framework), timeout=PATIENCE)
        assert f'data-other-app="{serve.url(other)}"' in page.text
        assert f" {serve.url(other)};" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "store",
    [pytest.param("moto", marks=pytest.mark.thorough), "rclone", pytest.param("swift", marks=pytest.mark.thorough)],
)
def test_a_killed_serve_takes_its_servers_with_it(serve: Serve) -> None:
    """SIGKILL of `make serve` leaves no server behind, because the kernel ends the children."""
    os.kill(serve.process.pid, signal.SIGKILL)
    serve.end()
    serve.check_gone()
