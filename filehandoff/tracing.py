"""Traces by OpenTelemetry: a span for each request, and below it one for each call to S3 and for the handler.

No module imports this one unless UPLOAD_TRACES is on; the extra `otel` installs its packages. Names and attributes
follow OpenTelemetry's semantic conventions for HTTP servers and for the AWS SDK, others begin with `filehandoff.`.

The project's own instrumentations are not used. Those of Flask and ASGI record the query, which holds the signature of
a presigned upload. That of ASGI also hides the server's connection behind its own `send`, and knows no route of Quart.
That of botocore sees no put that `filehandoff.s3.direct_put` sends, and no call of aiobotocore
(open-telemetry/opentelemetry-python-contrib#553).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import ProxyTracerProvider, Span, SpanKind, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from filehandoff import logs
from filehandoff.errors import Internal, SettingsError, UploadError
from filehandoff.parts import Part
from filehandoff.s3.calls import Call, Step
from filehandoff.stored import Handle
from filehandoff.web.request import RequestValues

#: The methods that may be part of a span's name; clients choose all others.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The views without spans, which supervisors and Prometheus call every few seconds.
UNTRACED = frozenset({"uploads.healthz", "uploads.readyz", "uploads.get_metrics"})
#: The attributes of a call to S3, by its parameters.
PARAMETERS = {"Key": "aws.s3.key", "UploadId": "aws.s3.upload_id", "PartNumber": "aws.s3.part_number"}
EXPORTER_VARIABLE = "OTEL_TRACES_EXPORTER"

_TRACER = trace.get_tracer("filehandoff")
_W3C = TraceContextTextMapPropagator()


def configure(environ: Mapping[str, str] = os.environ) -> None:
    """Export the spans of this process, and put the ids of the current span on its log lines.

    A tracer provider that other code has set stays.

    Raises:
        SettingsError: there is no such exporter.
    """
    if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        trace.set_tracer_provider(new_provider(environ))
    logs.add_values(log_values)


def new_provider(environ: Mapping[str, str]) -> TracerProvider:
    """Return a provider with the exporters of `OTEL_TRACES_EXPORTER`; the SDK reads all other `OTEL_*` by itself.

    Raises:
        SettingsError: there is no such exporter.
    """
    provider = TracerProvider()
    for name in (environ.get(EXPORTER_VARIABLE) or "otlp").split(","):
        if name.strip() != "none":
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environ)()))
    return provider


def _exporter(name: str, environ: Mapping[str, str]) -> Callable[[], SpanExporter]:
    """Find an exporter among the installed packages."""
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http"
    entry = f"otlp_proto_{protocol.partition('/')[0]}" if name == "otlp" else name
    for found in entry_points(group="opentelemetry_traces_exporter", name=entry):
        exporter: Callable[[], SpanExporter] = found.load()
        return exporter
    raise SettingsError(EXPORTER_VARIABLE, name, f"otlp, console, none, or the name of an installed exporter ({entry})")


class RequestTrace:
    """The span of one request."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def record(self, outcome: str, values: Mapping[str, Any]) -> None:
        """Add the values of the request's audit line."""
        self._span.set_attributes({f"filehandoff.{name}": value for name, value in values.items()})
        self._span.set_attribute("filehandoff.outcome", outcome)

    def fail(self, error: UploadError) -> None:
        """Add the code of an error response; from status 500 on, the span has failed."""
        self._span.set_attribute("error.type", error.code)
        if error.status >= Internal.status:
            self._span.set_status(StatusCode.ERROR, error.code)

    def respond(self, status: int) -> None:
        """Add the status of the response."""
        self._span.set_attribute("http.response.status_code", status)


def request_span(request: RequestValues) -> AbstractContextManager[RequestTrace | None]:
    """Make the request's span the current one for a block; None for the routes of supervisors.

    The span continues the trace of the header `traceparent`, or is below a span that other code has begun.
    """
    return nullcontext() if request.endpoint in UNTRACED else _request_span(request)


@contextmanager
def _request_span(request: RequestValues) -> Iterator[RequestTrace]:
    method = request.method if request.method in METHODS else "_OTHER"
    route = {"http.route": request.url_rule.rule} if request.url_rule else {}
    begun = trace.get_current_span().get_span_context().is_valid
    span = _TRACER.start_span(
        " ".join(("HTTP" if method == "_OTHER" else method, *route.values())),
        context=None if begun else _W3C.extract(request.headers),
        kind=SpanKind.INTERNAL if begun else SpanKind.SERVER,
        attributes={
            "http.request.method": method,
            **route,
            "url.path": request.path,
            "url.scheme": request.scheme,
            "client.address": request.client_address,
            "filehandoff.request_id": request.request_id,
        },
    )
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield RequestTrace(span)


def step_span(step: Step[Any], bucket: str) -> AbstractContextManager[None]:
    """Make a span for a call to S3 or to the handler, below the current span; none without one."""
    if trace.get_current_span().is_recording():
        match step:
            case Call():
                name = "".join(word.capitalize() for word in step.operation.split("_"))
                return _step_span(f"S3.{name}", SpanKind.CLIENT, _attributes(step, name, bucket))
            case Handle():
                return _step_span("on_stored", SpanKind.INTERNAL, {})
    return nullcontext()


def _attributes(call: Call[Any], name: str, bucket: str) -> dict[str, str | int]:
    size = {"filehandoff.bytes": call.body.size} if isinstance(call.body, Part) else {}
    named = {PARAMETERS[one]: value for one, value in call.parameters.items() if one in PARAMETERS}
    rpc = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": name}
    return {**rpc, "aws.s3.bucket": bucket, **named, **size}


@contextmanager
def _step_span(name: str, kind: SpanKind, attributes: Mapping[str, str | int]) -> Iterator[None]:
    # Without the error's text and traceback, which may hold values of the client.
    with _TRACER.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            reason = error.code if isinstance(error, UploadError) else type(error).__name__
            span.set_attribute("error.type", reason)
            span.set_status(StatusCode.ERROR, reason)
            raise


def trace_context() -> dict[str, str]:
    """Return the headers `traceparent` and `tracestate` of a request to another service."""
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    return headers


def log_values() -> dict[str, str]:
    """Return the ids of the current span, if there is one."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": format_trace_id(found.trace_id), "span_id": format_span_id(found.span_id)}
