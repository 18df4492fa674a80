"""The spans of the test's own process, in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

#: A header as another service sends it, and the ids in it.
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


@cache
def _exporter() -> InMemorySpanExporter:
    """Set the provider of this process, which can be set only once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@contextmanager
def ended() -> Iterator[Callable[[], list[ReadableSpan]]]:
    """Yield a function that returns the ended spans of the block, in the order of their ends."""
    exporter = _exporter()
    exporter.clear()
    yield lambda: list(exporter.get_finished_spans())
    exporter.clear()


def trace_of(span: ReadableSpan) -> str:
    """Return the id of a span's trace."""
    assert span.context
    return format_trace_id(span.context.trace_id)


def id_of(span: ReadableSpan) -> str:
    """Return the id of a span."""
    assert span.context
    return format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> str | None:
    """Return the id of a span's parent."""
    return format_span_id(span.parent.span_id) if span.parent else None
