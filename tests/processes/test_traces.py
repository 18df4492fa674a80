"""Both services export the spans of their uploads, and pass the trace on to the webhook."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from contract.api import CONTENT_TYPE, Api, form, part
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from patience import wait_until
from spans import PARENT_ID, TRACE_ID, TRACEPARENT

from demo import stack
from filehandoff.settings import MIB
from filehandoff.strategies import HANDOFFS
from filehandoff.typing_backports import override

#: Milliseconds between two exports; with the second, only the end of a process exports.
SOON, NEVER = "50", "3600000"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SERVERS = {
    **stack.COMMANDS,
    "uvicorn": ["uvicorn" if one == stack.QUART_SERVER else one for one in stack.COMMANDS["quart"]],
}
each_app = pytest.mark.parametrize("framework", stack.COMMANDS)


@dataclass
class Receiver:
    """A collector of spans, and the receiver of the webhook."""

    url: str
    exports: list[bytes] = field(default_factory=list)
    webhooks: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order of their ends."""
        return [
            span
            for export in tuple(self.exports)
            for resource in ExportTraceServiceRequest.FromString(export).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def trace(self, request_id: str) -> tuple[Span, list[Span]]:
        """Wait for the span of a request; return it and those directly below it, which have ended before."""

        def roots() -> list[Span]:
            return [span for span in self.spans if values(span).get("filehandoff.request_id") == request_id]

        wait_until(roots, lambda: f"no span of {request_id} in {self.spans}")
        [root] = roots()
        return root, [span for span in self.spans if span.parent_span_id == root.span_id]


def values(span: Span) -> dict[str, Any]:
    """Return a span's attributes."""
    found = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive spans and webhooks for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                receiver.exports.append(body)
            else:
                receiver.webhooks.append((dict(self.headers), json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def environ(receiver: Receiver, delay: str) -> dict[str, str]:
    """Return the settings of services that export to this receiver."""
    return {
        "UPLOAD_S3": "moto",
        "UPLOAD_TRACES": "on",
        "UPLOAD_PART_BYTES": "5 MiB",
        "UPLOAD_LOG": "json",
        "UPLOAD_WEBHOOK_URL": f"{receiver.url}/hook?token=t0ken-of-the-hook",
        "UPLOAD_WEBHOOK_SECRET": SECRET,
        "UPLOAD_DRAIN_SECONDS": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": delay,
    }


@dataclass
class Traced:
    """Running services, their log, and the receiver of their spans."""

    stack: stack.Stack
    log: Path
    receiver: Receiver

    def api(self, framework: str) -> "closing[Api]":
        """Return a client of one app."""
        return closing(Api(self.stack.apps[framework].url))


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Both services, which export each span soon."""
    log = tmp_path_factory.mktemp("traced") / "servers.log"
    with receiving() as receiver, stack.running(environ(receiver, SOON), log_path=log) as started:
        yield Traced(started, log, receiver)
    assert "Failed to detach context" not in log.read_text("utf-8")  # a span's begin and end in different contexts


def send(api: Api, request_id: str, *sizes: int, handoff: str = "stream", **headers: str) -> Any:
    """Send a form of files; return the response."""
    files = [part("file", os.urandom(size), f"{size}.bin", Content_Type="text/plain") for size in sizes]
    return api.upload(form(*files), f"/uploads/{handoff}", {"X-Request-Id": request_id, **headers})


def names(spans: list[Span]) -> list[str]:
    """Return the sorted names of spans."""
    return sorted(span.name for span in spans)


@each_app
def test_an_upload_in_parts_is_one_span_with_its_calls_below(framework: str, traced: Traced) -> None:
    """The request's span continues the client's trace, and has the hand-off, sizes, parts and keys."""
    name = f"{framework}-parts"
    with traced.api(framework) as api:
        answer = send(api, name, 10, 11 * MIB, traceparent=TRACEPARENT)
    [small, large] = [receipt["key"] for receipt in answer.json()["receipts"]]
    root, below = traced.receiver.trace(name)
    assert (root.name, root.kind) == ("POST /uploads/<name>", Span.SPAN_KIND_SERVER)
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    more = {"stored", "stream", "bound"}
    found = values(root)
    assert {found[f"filehandoff.{one}"] for one in ("outcome", "handoff", "hook")} == more
    assert (found["filehandoff.bytes"], found["filehandoff.parts"]) == (10 + 11 * MIB, 4)
    assert (found["filehandoff.keys"], found["http.response.status_code"]) == ([small, large], 201)
    assert names(below) == [
        *("S3.CompleteMultipartUpload", "S3.CreateMultipartUpload", "S3.HeadObject", "S3.PutObject"),
        *["S3.UploadPart"] * 3,
        "on_stored",
    ]
    parts = [values(span) for span in below if span.name == "S3.UploadPart"]
    assert sorted((one["aws.s3.part_number"], one["filehandoff.bytes"]) for one in parts) == [
        *((1, 5 * MIB), (2, 5 * MIB), (3, MIB)),
    ]
    assert {one["aws.s3.key"] for one in parts} == {large}


@pytest.mark.parametrize("handoff", [name for name, one in HANDOFFS.items() if one.of_a_form])
@each_app
def test_each_hand_off_calls_s3_below_its_request(framework: str, handoff: str, traced: Traced) -> None:
    """A hand-off may use other threads or tasks."""
    name = f"{framework}-{handoff}"
    with traced.api(framework) as api:
        assert send(api, name, 10, handoff=handoff).status_code == 201
    root, below = traced.receiver.trace(name)
    assert root.parent_span_id == b""
    assert names(below) == ["S3.PutObject", "on_stored"]


@each_app
def test_a_download_has_its_call_below(framework: str, traced: Traced) -> None:
    """So has every request that reads from S3."""
    name = f"{framework}-download"
    with traced.api(framework) as api:
        key = send(api, f"{name}-before", 10).json()["receipts"][0]["key"]
        assert api.send("GET", f"/objects/{key}", headers={"X-Request-Id": name}).status_code == 200
    root, below = traced.receiver.trace(name)
    assert (root.name, values(root)["url.path"]) == ("GET /objects/<path:key>", f"/objects/{key}")
    assert names(below) == ["S3.GetObject"]


@each_app
def test_a_refused_file_has_its_code(framework: str, traced: Traced) -> None:
    """The span is not failed, because the client is at fault, and no call was sent."""
    name = f"{framework}-refused"
    with traced.api(framework) as api:
        wrong = form(part("sha256", b"0" * 64), part("file", b"bytes", "a", Content_Type="text/plain"))
        assert api.upload(wrong, "/uploads/stream", {"X-Request-Id": name}).status_code == 422
    root, below = traced.receiver.trace(name)
    assert (values(root)["error.type"], root.status.code) == ("digest-mismatch", Status.STATUS_CODE_UNSET)
    assert below == []


@pytest.mark.parametrize(
    ("framework", "attribute", "value"),
    [("flask", "error.type", "form-malformed"), ("quart", "filehandoff.outcome", "abandoned")],
)
def test_a_disconnected_client_ends_the_span(framework: str, attribute: str, value: str, traced: Traced) -> None:
    """Only Quart learns of the disconnect itself; for Flask, the body ends too early."""
    name = f"{framework}-gone"
    head = f"POST /uploads HTTP/1.1\r\nHost: a\r\nX-Request-Id: {name}\r\nContent-Type: {CONTENT_TYPE}\r\n"
    url = urlsplit(traced.stack.apps[framework].url)
    with socket.create_connection((url.hostname, url.port)) as client:
        client.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n" + part("file", b"begin", "a"))
    root, below = traced.receiver.trace(name)
    assert (values(root)[attribute], root.name, below) == (value, "POST /uploads", [])


@each_app
def test_the_webhook_gets_the_trace(framework: str, traced: Traced) -> None:
    """Its parent is the span of the handler."""
    name = f"{framework}-webhook"
    with traced.api(framework) as api:
        assert send(api, name, 10, traceparent=TRACEPARENT, tracestate="a=b").status_code == 201
    [handler] = [span for span in traced.receiver.trace(name)[1] if span.name == "on_stored"]
    [headers] = [
        headers for headers, event in traced.receiver.webhooks if event["data"]["receipts"][0]["request_id"] == name
    ]
    sent = {key.lower(): value for key, value in headers.items()}
    assert sent["traceparent"] == f"00-{TRACE_ID}-{handler.span_id.hex()}-01"
    assert sent["tracestate"] == "a=b"


@each_app
def test_a_log_line_has_the_ids_of_its_span(framework: str, traced: Traced) -> None:
    """The audit line of an upload has those of the request."""
    name = f"{framework}-logged"
    with traced.api(framework) as api:
        assert send(api, name, 10).status_code == 201
    root, _ = traced.receiver.trace(name)
    lines = [json.loads(line) for line in traced.log.read_text("utf-8").splitlines() if name in line]
    [stored] = [line for line in lines if line["event"] == "stored"]
    assert stored["trace_id"] == root.trace_id.hex()


@each_app
def test_no_secret_is_exported(framework: str, traced: Traced) -> None:
    """Neither credentials, nor the webhook's, nor the signatures of a presigned upload, nor a filename."""
    name = f"{framework}-secret"
    with traced.api(framework) as api:
        data = os.urandom(6 * MIB)
        given = api.presign(data, "private name.bin", headers={"X-Request-Id": f"{name}-1"}).json()
        api.send_to_s3(given, data)
        assert api.send("POST", given["complete"], headers={"X-Request-Id": name}).status_code == 201
        signature = given["complete"].partition("signature=")[2].partition("&")[0]
    traced.receiver.trace(name)
    exported = b"".join(traced.receiver.exports)
    secrets = (signature, "embedded-secret", SECRET, "t0ken-of-the-hook", "X-Amz-Signature", "private name")
    assert len(signature) > 20
    assert [secret for secret in secrets if secret.encode() in exported] == []
    assert name.encode() in exported


def test_the_end_of_a_process_exports_its_last_spans(tmp_path: Path) -> None:
    """With each server, a span that ended just before SIGTERM is not lost."""
    with receiving() as receiver:
        with stack.running(environ(receiver, NEVER), log_path=tmp_path / "log", commands=SERVERS) as running:
            for server, app in running.apps.items():
                with closing(Api(app.url)) as api:
                    assert send(api, server, 10).status_code == 201
            assert receiver.exports == []
        for server in SERVERS:
            _, below = receiver.trace(server)
            assert names(below) == ["S3.PutObject", "on_stored"]
