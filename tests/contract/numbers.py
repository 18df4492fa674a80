"""An app's /metrics, to compare with the requests sent to it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from contract.api import CONTENT_TYPE, TLS, Api, form, part
from patience import PATIENCE, wait_until
from prometheus_client.parser import text_string_to_metric_families

SETTLE_SECONDS = PATIENCE


def numbers(app: Api) -> dict[str, float]:
    """The app's own series by name and labels, such as `uploads_total{handoff=stream,outcome=stored}`.

    Histogram buckets and series that depend on the clock are left out.
    """
    text = app.send("GET", "/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        name(sample.name.removeprefix("handoff_"), sample.labels): sample.value
        for sample in samples
        if sample.name.startswith("handoff_") and not sample.name.endswith(("_bucket", "_seconds_sum"))
    }


def name(series: str, labels: dict[str, str]) -> str:
    """Format a series with its labels as one word."""
    return series + ("{" + ",".join(f"{key}={labels[key]}" for key in sorted(labels)) + "}" if labels else "")


def grown(app: Api, before: dict[str, float]) -> dict[str, float]:
    """The changed series, each with its difference."""
    after = numbers(app)
    changed = {series: value - before.get(series, 0) for series, value in after.items()}
    return {series: change for series, change in changed.items() if change}


def wait_for(app: Api, series: str, value: float) -> None:
    """Wait until a series has this value."""
    wait_until(
        lambda: numbers(app).get(series) == value, lambda: f"{series} is {numbers(app).get(series)}, not {value}"
    )


def ended(handoff: str, outcome: str, count: int = 1) -> dict[str, float]:
    """The growth when an upload ends, whether stored or not."""
    labels = f"{{handoff={handoff},outcome={outcome}}}"
    return {f"uploads_total{labels}": count, f"upload_seconds_count{labels}": count}


def stored(handoff: str, *sizes: int, uploads: int = 1) -> dict[str, float]:
    """The growth when uploads are stored, in number and bytes."""
    labels = f"{{handoff={handoff}}}"
    total = {f"stored_bytes_total{labels}": sum(sizes), f"file_bytes_sum{labels}": sum(sizes)}
    return (
        ended(handoff, "stored", uploads)
        | {name: value for name, value in total.items() if value}
        | {f"file_bytes_count{labels}": len(sizes)}
    )


@contextmanager
def half_sent(app: Api) -> Iterator[socket.socket]:
    """A connection with the first half of an upload sent."""
    length = 1024**2
    url = urlsplit(app.url)
    lines = [
        "POST /uploads/stream HTTP/1.1",
        "Host: here",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {length}",
    ]
    body = form(part("file", bytes(length), "name"))[: length // 2]
    with ExitStack() as exits:
        address = (url.hostname or "", url.port or 80)
        connection = exits.enter_context(socket.create_connection(address, timeout=PATIENCE))
        if url.scheme == "https":
            connection = exits.enter_context(TLS.wrap_socket(connection, server_hostname=url.hostname))
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        yield connection
