"""The spans of requests and steps, and the configuration of their export."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import NonRecordingSpan, ProxyTracerProvider, SpanContext, SpanKind, StatusCode
from spans import PARENT_ID, TRACE_ID, TRACEPARENT, ended, id_of, parent_of, trace_of
from unit.sansio_request import Request, make_request

from filehandoff import logs, tracing
from filehandoff.errors import HandlerFailed, ObjectMissing, SettingsError, StoreUnavailable, UploadError
from filehandoff.parts import Part
from filehandoff.receipt import Incoming
from filehandoff.s3 import calls
from filehandoff.s3.calls import Md5, Step
from filehandoff.service import Service
from filehandoff.settings import Settings
from filehandoff.stored import Handle
from filehandoff.web import audit, routes

Spans: TypeAlias = Callable[[], list[ReadableSpan]]

KEY = "2026/01/31/019c1234-5678-7abc-89de-f0123456789a/a"


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The ended spans of the test."""
    with ended() as found:
        yield found


def request(target: str = "/", method: str = "GET", rule: str | None = None, **headers: str) -> Request:
    """Make a request that the router has sent to a route, or to none."""
    sent = make_request(method, target, dict(headers), remote_addr="192.0.2.1")
    sent.url_rule = SimpleNamespace(rule=rule) if rule else None  # type: ignore[assignment]
    return sent


def traced(sent: Request) -> tracing.RequestTrace:
    """Trace a request without an end; return its trace."""
    found = sent.until_answered.enter_context(tracing.request_span(sent))
    assert found is not None
    sent.trace = found
    return found


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def test_a_request_is_a_server_span_of_its_route(spans: Spans) -> None:
    """The name has the route's pattern, and the attributes neither the query nor a header."""
    sent = request(f"/uploads/presigned/{KEY}/parts?signature=s3cret", rule="/uploads/presigned/<path:key>/parts")
    with tracing.request_span(sent):
        pass
    [span] = spans()
    assert (span.name, span.kind) == ("GET /uploads/presigned/<path:key>/parts", SpanKind.SERVER)
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": "/uploads/presigned/<path:key>/parts",
        "url.path": f"/uploads/presigned/{KEY}/parts",
        "url.scheme": "http",
        "client.address": "192.0.2.1",
        "filehandoff.request_id": sent.request_id,
    }


def test_a_client_chooses_no_name(spans: Spans) -> None:
    """An unknown method and an unknown path are in no span's name."""
    with tracing.request_span(request("/nothing", "BREW")):
        pass
    [span] = spans()
    assert (span.name, attributes(span)["http.request.method"]) == ("HTTP", "_OTHER")


def test_a_request_continues_the_trace_of_its_header(spans: Spans) -> None:
    """The span has the trace and the parent of `traceparent`."""
    with tracing.request_span(request(traceparent=TRACEPARENT)):
        pass
    [span] = spans()
    assert (trace_of(span), parent_of(span)) == (TRACE_ID, PARENT_ID)


@pytest.mark.parametrize("header", [f"00-{TRACE_ID}-{'0' * 16}-01", "00-abc", "ff-…"])
def test_a_malformed_header_begins_a_new_trace(spans: Spans, header: str) -> None:
    """The request itself is not refused."""
    with tracing.request_span(request(traceparent=header)):
        pass
    [span] = spans()
    assert span.parent is None
    assert trace_of(span) != TRACE_ID


def test_a_request_below_a_span_of_other_code_is_internal(spans: Spans) -> None:
    """The server span is then that of an instrumentation, which has read the header."""
    with (
        trace.get_tracer("another").start_as_current_span("outer"),
        tracing.request_span(request(traceparent=TRACEPARENT)),
    ):
        pass
    inner, outer = spans()
    assert (inner.kind, parent_of(inner)) == (SpanKind.INTERNAL, id_of(outer))


@pytest.mark.parametrize("view", ["healthz", "readyz", "get_metrics"])
def test_the_routes_of_supervisors_have_no_span(spans: Spans, view: str) -> None:
    """They are called every few seconds."""
    sent: Any = request()
    sent.endpoint = f"uploads.{view}"
    with tracing.request_span(sent) as found:
        assert found is None
    assert spans() == []


def test_the_audit_line_of_a_request_is_in_its_span(spans: Spans) -> None:
    """The span has the outcome, the keys and the sizes."""
    sent = request(method="POST")
    traced(sent)
    audit.record(sent, "stored", handoff="stream", hook="bound", bytes=15, parts=3, keys=["a", "b"])
    sent.until_answered.close()
    found = attributes(spans()[0])
    assert {name: value for name, value in found.items() if name.startswith("filehandoff.")} == {
        "filehandoff.request_id": sent.request_id,
        "filehandoff.outcome": "stored",
        "filehandoff.handoff": "stream",
        "filehandoff.hook": "bound",
        "filehandoff.bytes": 15,
        "filehandoff.parts": 3,
        "filehandoff.keys": ("a", "b"),
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [(ObjectMissing("No."), StatusCode.UNSET), (StoreUnavailable("secret text"), StatusCode.ERROR)],
)
def test_an_error_response_has_its_code(spans: Spans, error: UploadError, status: StatusCode) -> None:
    """A client's error is not the service's, and no span has an error's text."""
    sent = request()
    traced(sent)
    answer = routes.problem(Service("flask", Settings()), sent, error)
    assert sent.trace
    sent.trace.respond(answer.status)
    sent.until_answered.close()
    [span] = spans()
    assert span.status.status_code is status
    assert attributes(span)["error.type"] == error.code
    assert attributes(span)["http.response.status_code"] == error.status
    assert span.events == ()
    assert "secret" not in span.to_json()


def in_request(step: Step[Any], error: BaseException | None = None) -> None:
    """Perform a step in a request."""
    with tracing.request_span(request()), tracing.step_span(step, "photos"):
        if error:
            raise error


def part() -> Part:
    """Return the second part of a file, of five bytes."""
    return Part(2, (b"12345",), last=True)


PUT = calls.put_object(Incoming("key", "private.txt", "text/plain"), part(), 0, None)
S3 = {"rpc.system": "aws-api", "rpc.service": "S3", "aws.s3.bucket": "photos", "aws.s3.key": "key"}


@pytest.mark.parametrize(
    ("call", "name", "more"),
    [
        pytest.param(PUT, "PutObject", {"filehandoff.bytes": 5}, id="put"),
        pytest.param(
            calls.upload_part("key", "an-upload", part(), 0),
            "UploadPart",
            {"aws.s3.upload_id": "an-upload", "aws.s3.part_number": 2, "filehandoff.bytes": 5},
            id="part",
        ),
        pytest.param(calls.head_object("key"), "HeadObject", {}, id="head"),
    ],
)
def test_a_call_to_s3_is_a_client_span_below_its_request(
    spans: Spans, call: calls.Call[Any], name: str, more: dict[str, object]
) -> None:
    """Its attributes name the object and the part, and not the file's own name."""
    in_request(call)
    inner, outer = spans()
    assert (inner.name, inner.kind, parent_of(inner)) == (f"S3.{name}", SpanKind.CLIENT, id_of(outer))
    assert attributes(inner) == S3 | {"rpc.method": name} | more


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(StoreUnavailable("secret text"), "store-unavailable", id="ours"),
        pytest.param(MemoryError("secret text"), "MemoryError", id="another"),
        pytest.param(KeyboardInterrupt("secret text"), "KeyboardInterrupt", id="no Exception"),
    ],
)
def test_a_failed_call_has_its_reason(spans: Spans, error: BaseException, reason: str) -> None:
    """The error's text and traceback are not in the span."""
    with pytest.raises(type(error)):
        in_request(PUT, error)
    span = spans()[0]
    assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, reason)
    assert "secret" not in span.to_json()


def test_the_handler_is_a_span(spans: Spans) -> None:
    """A failed handler is a failed span."""
    with pytest.raises(HandlerFailed):
        in_request(Handle(list, 1, lambda: None, ""), HandlerFailed("No."))
    span = spans()[0]
    assert (span.name, span.kind, span.status.status_code) == ("on_stored", SpanKind.INTERNAL, StatusCode.ERROR)


def test_a_step_without_input_or_output_is_no_span(spans: Spans) -> None:
    """The request has the only span."""
    in_request(Md5(part()))
    assert len(spans()) == 1


@pytest.mark.parametrize("flags", [None, 0])
def test_a_call_outside_of_a_recorded_request_is_no_span(spans: Spans, flags: int | None) -> None:
    """The check of the bucket and the cleanup are in no request; a sampler leaves out others."""
    current = NonRecordingSpan(SpanContext(1, 1, is_remote=True)) if flags == 0 else trace.INVALID_SPAN
    with trace.use_span(current), tracing.step_span(PUT, "photos"):
        pass
    assert spans() == []


def test_another_service_gets_the_current_span(spans: Spans) -> None:
    """The header names the request's span, and without a span there is none."""
    assert tracing.trace_context() == {}
    with tracing.request_span(request(traceparent=TRACEPARENT, tracestate="a=b")):
        found = tracing.trace_context()
    assert Service("flask", Settings(traces=True)).trace_context is tracing.trace_context
    assert Service("flask", Settings()).trace_context() == {}
    assert found == {"traceparent": f"00-{TRACE_ID}-{id_of(spans()[0])}-01", "tracestate": "a=b"}


def test_a_log_line_has_the_ids_of_its_span(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line outside of spans has none."""
    monkeypatch.setattr(logs, "_more", [])
    logs.add_values(tracing.log_values)
    formatter = logs.formatter("json", [])
    line = logging.makeLogRecord({"msg": "a line"})
    assert "trace_id" not in formatter.format(line)
    with tracing.request_span(request(traceparent=TRACEPARENT)):
        written = formatter.format(line)
    assert f'"trace_id": "{TRACE_ID}", "span_id": "{id_of(spans()[0])}"' in written


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        pytest.param({}, ["OTLPSpanExporter"], id="the default"),
        pytest.param({"OTEL_TRACES_EXPORTER": ""}, ["OTLPSpanExporter"], id="empty"),
        pytest.param({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["ConsoleSpanExporter", "OTLPSpanExporter"], id="two"),
        pytest.param({"OTEL_TRACES_EXPORTER": "none"}, [], id="none"),
        pytest.param({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["OTLPSpanExporter"], id="a protocol"),
    ],
)
def test_the_environment_chooses_the_exporters(environ: dict[str, str], exporters: list[str]) -> None:
    """By the names that OpenTelemetry's own programs take."""
    provider = tracing.new_provider(environ)
    processors: Any = provider._active_span_processor._span_processors  # noqa: SLF001 - there is no other way to see them
    assert [type(one.span_exporter).__name__ for one in processors] == exporters
    provider.shutdown()


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_TRACES_EXPORTER": "otpl"}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "carrier-pigeon"}],
)
def test_an_unknown_exporter_ends_the_start_with_one_line(environ: dict[str, str]) -> None:
    """The line names the variable."""
    with pytest.raises(SettingsError, match=r"^OTEL_TRACES_EXPORTER is .*; it must be otlp, console, none, or [^\n]*$"):
        tracing.new_provider(environ)


@pytest.mark.parametrize("other", [False, True])
def test_a_provider_of_other_code_stays(monkeypatch: pytest.MonkeyPatch, *, other: bool) -> None:
    """The process's provider is set if there is none; the log gets the ids in both cases."""
    made: list[TracerProvider] = []
    monkeypatch.setattr(logs, "_more", [])
    monkeypatch.setattr(trace, "set_tracer_provider", made.append)
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider if other else ProxyTracerProvider)
    tracing.configure({"OTEL_TRACES_EXPORTER": "none"})
    assert len(made) == (not other)
    assert logs._more == [tracing.log_values]  # noqa: SLF001 - ours


def test_missing_packages_end_the_start_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the extra that installs them."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "filehandoff.tracing")
    monkeypatch.delattr("filehandoff.tracing")
    with pytest.raises(SettingsError) as caught:
        Service("flask", Settings(traces=True))
    wanted = "it must be off, because OpenTelemetry is missing: pip install 'filehandoff[otel]'"
    assert str(caught.value) == f"UPLOAD_TRACES is 'on'; {wanted}"


PROGRAM = """
import sys
import {shell}
from filehandoff.settings import Settings
app = {shell}.create_app(Settings(traces={traces}))
service = app.extensions["filehandoff"]
print(
    any(name.partition(".")[0] == "opentelemetry" for name in sys.modules),
    type(service.store).__name__,
    [function.__module__ for function in (*app.before_request_funcs[None], *app.after_request_funcs[None])],
)
"""


@pytest.mark.parametrize("shell", ["flask_app", "quart_app"])
def test_without_the_setting_no_package_is_imported_and_nothing_is_wrapped(shell: str) -> None:
    """Traces that are off cost nothing: the requests and the calls run the same code as without this feature."""
    views = f"{shell}.views"
    for traces, expected in (
        (False, f"False Store {[views, views]}"),
        (True, f"True TracedStore {[f'{shell}.tracing', views, f'{shell}.tracing', views]}"),
    ):
        program = PROGRAM.format(shell=shell, traces=traces)
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - ours
        assert ended.stdout.strip() == expected
