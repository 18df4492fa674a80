"""Both services call a handler, or a webhook, between the last confirmed object and the 201."""

import json
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from contract.api import CONTENT_TYPE, Api, check_problem, form, part
from contract.bucket import Bucket
from contract.numbers import ended, grown, numbers, stored, wait_for
from patience import PATIENCE, wait_until
from standardwebhooks import Webhook

from demo import stack
from filehandoff.settings import MIB
from filehandoff.typing_backports import override

#: The folder from which the apps import their handlers.
TESTS = Path(__file__).parent.parent
#: Seconds of UPLOAD_HANDLER_TIMEOUT.
LIMIT = 4
SETTINGS = {
    "UPLOAD_S3": "moto",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_DRAIN_SECONDS": "1",
    "UPLOAD_HANDLER_TIMEOUT": str(LIMIT),
}
#: The apps with a handler, by the shipped servers.
COMMANDS = {
    framework: [
        part.replace("flask_app.wsgi", "processes.handlers.handled_flask").replace(
            "quart_app.asgi", "processes.handlers.handled_quart"
        )
        for part in command
    ]
    for framework, command in stack.COMMANDS.items()
}
each_app = pytest.mark.parametrize("framework", stack.COMMANDS)


class Running:
    """A running stack, and its log."""

    def __init__(self, started: stack.Stack, log: Path) -> None:
        self.stack = started
        self.log = log
        self.client = started.store.client()
        self.bucket = Bucket(self.client, started.settings.bucket, None)

    def kept(self) -> set[str]:
        """The objects; no upload may be unfinished."""
        assert self.bucket.unfinished() == []
        return self.bucket.stored_keys()


@pytest.fixture(scope="module")
def handled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Both apps with a handler."""
    folder = tmp_path_factory.mktemp("handled")
    (folder / "notes").mkdir()
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    environ = SETTINGS | {"HANDLED": str(folder / "notes"), "PYTHONPATH": paths}
    with stack.running(environ, log_path=folder / "servers.log", commands=COMMANDS) as started:
        running = Running(started, folder / "servers.log")
        with closing(running.client):
            yield running


def notes(running: Running, request_id: str) -> list[list[dict[str, Any]]]:
    """The receipts of each call of the handler for this request."""
    folder = Path(running.stack.environ["HANDLED"])
    return [json.loads(note.read_text("utf-8")) for note in sorted(folder.glob(f"{request_id}-*.json"))]


@pytest.fixture
def empty(handled: Running) -> Iterator[Running]:
    """The apps with a handler, and a bucket that is empty before and after."""
    folder = Path(handled.stack.environ["HANDLED"])
    yield handled
    for path in folder.iterdir():
        path.unlink()
    for key in handled.kept():
        handled.bucket.delete(key)


def send(api: Api, *files: bytes, handoff: str = "stream", request_id: str = "", path: str = "") -> httpx.Response:
    """Send a form of files."""
    headers = {"X-Request-Id": request_id or uuid.uuid4().hex}
    return api.upload(form(*files), path or f"/uploads/{handoff}", headers)


def named(name: str, size: int = 10) -> bytes:
    """A file whose name chooses the work of the handler."""
    return part("file", os.urandom(size), name, Content_Type="text/plain")


@each_app
def test_the_handler_gets_the_receipts_of_the_201(framework: str, empty: Running) -> None:
    """A form of two files, one of several parts, is handled once, with the response's receipts."""
    with closing(Api(empty.stack.apps[framework].url)) as api:
        before = numbers(api)
        answer = send(api, named("a"), named("b", 6 * MIB), request_id="two")
        assert answer.status_code == 201
        assert notes(empty, "two") == [answer.json()["receipts"]]
        assert grown(api, before) == stored("stream", 10, 6 * MIB)
    assert empty.kept() == api.stored


@pytest.mark.every_other
@each_app
@pytest.mark.parametrize("handoff", ["stream", pytest.param("byte_queue", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", ["fails", "never-ends"])
def test_a_failed_handler_is_a_502_and_leaves_nothing(framework: str, handoff: str, name: str, empty: Running) -> None:
    """The error's text is in the log alone; a handler that takes too long has failed."""
    logged = len(empty.log.read_text("utf-8"))
    with closing(Api(empty.stack.apps[framework].url)) as api:
        before = numbers(api)
        answer = send(api, named(name), named("b", 6 * MIB), handoff=handoff, request_id="fails")
        check_problem(answer, 502, "handler-failed")
        assert "error" not in answer.text
        counted = {**ended(handoff, "failed"), "failures_total{reason=handler-failed}": 1}
        assert {name: n for name, n in grown(api, before).items() if "abort" not in name} == counted
    assert len(notes(empty, "fails")) == 1
    assert empty.kept() == set()
    log = empty.log.read_text("utf-8")[logged:]
    assert ("RuntimeError: the text of the handler's error" if name == "fails" else f"no result after {LIMIT}") in log
    assert "Traceback" in log


@each_app
def test_a_presigned_upload_can_be_completed_after_its_handler_failed(framework: str, empty: Running) -> None:
    """The object stays, and the second `complete` calls the handler again."""
    with closing(Api(empty.stack.apps[framework].url)) as api:
        given = api.presign(b"bytes", "fails-once", headers={"X-Request-Id": "presigned"}).json()
        api.send_to_s3(given, b"bytes")
        check_problem(api.send("POST", given["complete"]), 502, "handler-failed")
        assert empty.kept() == {given["key"]}
        answer = api.send("POST", given["complete"])
        assert answer.status_code == 201
        first, second = notes(empty, "presigned")
    assert second == answer.json()["receipts"]
    assert [receipt["key"] for receipt in first] == [given["key"]]


def half_done(api: Api, request_id: str) -> socket.socket:
    """A connection on which a whole upload was sent whose handler waits."""
    body = form(named("waits"))
    url = urlsplit(api.url)
    lines = [
        "POST /uploads/stream HTTP/1.1",
        "Host: here",
        f"X-Request-Id: {request_id}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
    ]
    connection = socket.create_connection((url.hostname or "", url.port or 80), timeout=PATIENCE)
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


@each_app
def test_a_file_stays_if_its_client_leaves_during_the_handler(framework: str, empty: Running) -> None:
    """The handler is not interrupted, and nothing is undone after it has returned."""
    with closing(Api(empty.stack.apps[framework].url)) as api:
        connection = half_done(api, "leaves")
        wait_until(lambda: notes(empty, "leaves"), lambda: "the handler was not called")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset
        connection.close()
        (Path(empty.stack.environ["HANDLED"]) / "gate").touch()
        wait_for(api, "uploads_in_flight", 0)
    [[receipt]] = notes(empty, "leaves")
    assert empty.kept() == {receipt["key"]}


class Receiver(ThreadingHTTPServer):
    """A receiver of webhooks that answers each request with the next of `answers`, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.answers: list[int] = [204]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.gate = threading.Event()

    def answer(self) -> int:
        """Return the next status; 0 means no answer before the test's end, -1 the end of the connection."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Receiving(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_POST(self) -> None:
        """Note the request, and answer it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status = self.server.answer()
        if status <= 0:
            self.server.gate.wait(0 if status else PATIENCE)
            return
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "5000000000" if status == 200 else "0")  # the service reads no body
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Receiver]]:
    """Both apps with a webhook, and its receiver."""
    log = tmp_path_factory.mktemp("hooked") / "servers.log"
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    environ = SETTINGS | {
        "UPLOAD_WEBHOOK_URL": f"http://127.0.0.1:{receiver.server_port}/hook?token=abc",
        "UPLOAD_WEBHOOK_SECRET": SECRET,
        "UPLOAD_WEBHOOK_TIMEOUT": "0.5",
        "UPLOAD_HANDLER_TIMEOUT": "60",
        "UPLOAD_LOG_LEVEL": "debug",
    }
    try:
        with stack.running(environ, log_path=log) as started:
            running = Running(started, log)
            with closing(running.client):
                yield running, receiver
    finally:
        receiver.gate.set()
        receiver.shutdown()
        thread.join()
        receiver.server_close()


@each_app
@pytest.mark.every_other
@pytest.mark.parametrize("first", [[], [503, 429]], ids=["at once", "at the third attempt"])
def test_a_webhook_gets_the_receipts_of_the_201(
    framework: str, first: list[int], hooked: tuple[Running, Receiver]
) -> None:
    """Each attempt is signed and has the same id; the answer's body stays unread, and no secret is logged."""
    running, receiver = hooked
    receiver.answers, receiver.requests = [*first, 200], []
    with closing(Api(running.stack.apps[framework].url)) as api:
        answer = send(api, named("a"), named("b"))
    assert answer.status_code == 201, answer.text
    assert len(receiver.requests) == len(first) + 1
    for path, headers, body in receiver.requests:
        assert path == "/hook?token=abc"
        assert Webhook(SECRET).verify(body, headers)["data"] == answer.json()
        assert headers["content-type"] == "application/json"
    key = answer.json()["receipts"][0]["key"]
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {key.split("/")[-2]}
    assert SECRET not in running.log.read_text("utf-8")
    for stored_key in api.stored:
        running.bucket.delete(stored_key)


@each_app
@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        pytest.param([500], 3, id="an error"),
        pytest.param([0], 3, id="no answer", marks=pytest.mark.thorough),
        pytest.param([-1], 3, id="a closed connection", marks=pytest.mark.thorough),
        pytest.param([307], 1, id="a redirect"),
        pytest.param([410], 1, id="gone", marks=pytest.mark.thorough),
    ],
)
def test_a_webhook_that_does_not_accept_is_a_502_and_leaves_nothing(
    framework: str, answers: list[int], requests: int, hooked: tuple[Running, Receiver]
) -> None:
    """The attempts and their time are bounded, and a redirect is not followed."""
    running, receiver = hooked
    receiver.answers, receiver.requests = answers, []
    with closing(Api(running.stack.apps[framework].url)) as api:
        check_problem(send(api, named("a")), 502, "handler-failed")
    assert [path for path, _, _ in receiver.requests] == ["/hook?token=abc"] * requests
    assert running.kept() == set()


def test_the_end_of_the_process_ends_a_handler(tmp_path: Path) -> None:
    """After UPLOAD_DRAIN_SECONDS, a running handler has failed: 503, and nothing stays."""
    (tmp_path / "notes").mkdir()
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    environ = SETTINGS | {"HANDLED": str(tmp_path / "notes"), "PYTHONPATH": paths, "UPLOAD_HANDLER_TIMEOUT": "600"}
    with stack.running(environ, log_path=tmp_path / "servers.log", commands=COMMANDS) as started:
        running = Running(started, tmp_path / "servers.log")
        connections = {}
        for framework, server in started.apps.items():
            with closing(Api(server.url)) as api:
                connections[framework] = half_done(api, framework)
            wait_until(partial(notes, running, framework), lambda: "the handler was not called")
        for server in started.apps.values():
            os.kill(server.pid, signal.SIGTERM)
        for framework, connection in connections.items():
            with connection, connection.makefile("rb") as answer:
                assert b" 503 " in answer.readline(), framework
        assert running.kept() == set()
        running.client.close()
