"""The metrics at `/metrics`: one app's uploads in numbers, by prometheus_client.

Clients cannot choose a label's value: a hand-off is one of the grid or `unknown`, an outcome one of `OUTCOMES`, a
reason one of the error codes, an operation one of S3's. Keys, filenames and request ids are only in the log.
"""

import os
from collections.abc import Collection, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from tempfile import mkdtemp
from time import perf_counter
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from filehandoff.errors import (
    ERRORS,
    FileClosed,
    FormError,
    FormMalformed,
    Internal,
    ObjectMissing,
    Overloaded,
    SettingsError,
    TooManyRequests,
    TusError,
    UnknownHandoff,
    UnknownHook,
    UploadError,
    fault,
)
from filehandoff.settings import GIB, KIB, MIB
from filehandoff.strategies import HANDOFFS, TUS

M = TypeVar("M", Counter, Histogram)

#: The folder in which a server's processes share their numbers, so that each can report all: see the README.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: The outcomes of an upload, with their meanings.
OUTCOMES = {
    "stored": "every file of the form is in S3",
    "refused": "the client sent an invalid request, or the app had no capacity for it",
    "lost": "a known failure of the grid: code closed the file before S3 had read it",
    "failed": "S3, the handler of stored files or the app itself failed",
    "abandoned": "the client disconnected, or its body ended too early",
}
UNKNOWN = "unknown"
OTHER = "other"

#: The upper bounds of the histograms, in seconds and in bytes.
SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
BYTES = (
    *(count * KIB for count in (1, 16, 64, 512)),
    *(count * MIB for count in (1, 4, 8, 16, 64, 256)),
    *(count * GIB for count in (1, 5, 64)),
)

#: Error codes counted as reasons of a refused upload; `other` counts the rest below status 500.
REFUSALS = tuple(
    error.code
    for error in ERRORS.values()
    if issubclass(
        error, FormError | TusError | UnknownHandoff | UnknownHook | ObjectMissing | TooManyRequests | Overloaded
    )
)


def share_numbers(processes: int, environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Create a folder for the processes' numbers, unless configured; return its path.

    Call it before the processes start, and remove the folder after they have ended.

    Raises:
        SettingsError: the temporary folder is not writable.
    """
    if processes < 2 or FOLDER_VARIABLE in environ:  # noqa: PLR2004 - one process shares nothing
        return None
    try:
        environ[FOLDER_VARIABLE] = folder = mkdtemp(prefix="handoff-metrics-")
    except OSError as error:
        raise SettingsError("TMPDIR", environ.get("TMPDIR", ""), f"a writable folder ({error})") from None
    # The library reads the environment only at its import, which precedes the workers' fork.
    values.ValueClass = values.get_value_class()
    return folder


class Metrics:
    """One app's numbers, in a registry of its own; safe for threads and tasks.

    Raises:
        SettingsError: the folder that several processes share is missing or not writable.
    """

    def __init__(self) -> None:
        # The library's `created` series double the number of series; it can disable them only for the whole process.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        try:
            self._make()
        except OSError:
            wanted = "a folder that exists and is writable, and is empty when the server starts"
            raise SettingsError(FOLDER_VARIABLE, os.environ.get(FOLDER_VARIABLE), wanted) from None

    def _make(self) -> None:
        self._uploads = self._counter("uploads", "Ended uploads, by their outcome", "handoff", "outcome")
        self._refusals = self._counter(
            "refusals", "Refused uploads, and other requests refused for overload or a limit, by error code", "reason"
        )
        self._failures = self._counter("failures", "Failed and lost uploads, by error code", "reason")
        self._bytes = self._counter("stored_bytes", "Bytes of the stored files", "handoff")
        self._sizes = self._histogram("file_bytes", "Sizes of the stored files", BYTES, "handoff")
        self._seconds = self._histogram(
            "upload_seconds", "Duration of uploads, including their cleanup", SECONDS, "handoff", "outcome"
        )
        self._presigned = self._counter("presigned", "Presigned uploads that began: responses with URLs for the client")
        self._uploads_in_flight = self._gauge("uploads_in_flight", "Uploads in progress")
        self._parts_in_flight = self._gauge("parts_in_flight", "Parts in flight to S3")
        self.aborts = self._counter("aborts", "Multipart uploads aborted in S3")
        self.undo_failures = self._counter(
            "undo_failures", "Files whose cleanup failed at first; retries or a sweep remove them from S3"
        )
        self._retries = self._counter("s3_retries", "Calls to S3 that were sent again", "operation")
        self._begin_at_zero()
        if FOLDER_VARIABLE not in os.environ:
            # These describe one process; a sum over processes would be wrong.
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self.registry)

    def _begin_at_zero(self) -> None:
        """Create each series with the value 0, so that its first increment is visible."""
        for handoff in (*HANDOFFS, TUS):
            self._bytes.labels(handoff)
            for outcome in OUTCOMES:
                self._uploads.labels(handoff, outcome)
        for reason in REFUSALS:
            self._refusals.labels(reason)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return _remembering(Counter(name, f"{text}.", labels, namespace="handoff", registry=self.registry))

    def _histogram(self, name: str, text: str, bounds: Collection[float], *labels: str) -> Histogram:
        made = Histogram(name, f"{text}.", labels, namespace="handoff", registry=self.registry, buckets=tuple(bounds))
        return _remembering(made)

    def _gauge(self, name: str, text: str) -> Gauge:
        # With several processes, the sum over those that are alive.
        return Gauge(name, f"{text}.", namespace="handoff", registry=self.registry, multiprocess_mode="livesum")

    @contextmanager
    def upload(self, handoff: str, *, begins: bool = False) -> Iterator[None]:
        """Count one upload by the outcome of this block.

        Args:
            handoff: the name in the client's request, which may be unknown.
            begins: on success the client has URLs and the upload continues, so it is not counted as ended.
        """
        name = handoff if handoff in HANDOFFS else UNKNOWN
        outcome = "stored"
        began = perf_counter()
        self._uploads_in_flight.inc()
        try:
            yield
        except BaseException as error:
            outcome = self._count_error(error)
            raise
        finally:
            self._uploads_in_flight.dec()
            if begins and outcome == "stored":
                self._presigned.inc()
            else:
                self._uploads.labels(name, outcome).inc()
                self._seconds.labels(name, outcome).observe(perf_counter() - began)

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """Count a request with bytes for a resumable upload; an error of the block does not end the upload."""
        self._uploads_in_flight.inc()
        try:
            yield
        except BaseException as error:
            self._count_error(error)
            raise
        finally:
            self._uploads_in_flight.dec()

    def count_resumed(self, seconds: float) -> None:
        """Count the end of a resumable upload, whose last request took this time."""
        self._uploads.labels(TUS, "stored").inc()
        self._seconds.labels(TUS, "stored").observe(seconds)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count a request that does not count as an upload, if this block refuses it for overload or a limit."""
        try:
            yield
        except (Overloaded, TooManyRequests) as error:
            self._refusals.labels(error.code).inc()
            raise

    def count_files(self, handoff: str, sizes: Iterable[int]) -> None:
        """Count the stored files of an upload by their sizes in bytes."""
        for size in sizes:
            self._bytes.labels(handoff).inc(size)
            self._sizes.labels(handoff).observe(size)

    def _count_error(self, error: BaseException) -> str:
        outcome, reason = judge(error)
        counter = self._refusals if outcome == "refused" else self._failures if outcome in {"failed", "lost"} else None
        if counter is not None:
            counter.labels(reason).inc()
        return outcome

    def part(self) -> AbstractContextManager[None]:
        """Count a part as in flight for a block."""
        return self._parts_in_flight.track_inprogress()

    def count_retry(self, request: Any, operation_name: str, **_event: object) -> None:
        """Count a retry, as a handler of botocore's event `request-created`.

        Every attempt emits the event, with its number.
        """
        if request.context["retries"]["attempt"] > 1:
            self.count_repeat(operation_name)

    def count_repeat(self, operation_name: str) -> None:
        """Count a call to S3 that is sent again."""
        self._retries.labels(operation_name).inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all numbers in the text format of `Accept`, and its content type.

        If several processes share a folder, read the numbers of all of them from its files.
        """
        encode, content_type = choose_encoder(accept)
        registry = self.registry
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return encode(registry), content_type


def _remembering(metric: M) -> M:
    """Make a metric find each series once; prometheus_client formats its labels and takes a lock each time."""
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric


def judge(error: BaseException) -> tuple[str, str]:
    """Return an upload's outcome after this error, and the reason: the error code."""
    if (isinstance(error, FormMalformed) and error.cut_short) or not isinstance(error, Exception):
        return "abandoned", ""  # no Exception: cancelled, since the client has disconnected
    if isinstance(error, FileClosed):
        return "lost", error.code
    if not isinstance(error, UploadError):
        error = fault(error)
    if isinstance(error, Overloaded) or error.status < Internal.status:
        return "refused", error.code if error.code in REFUSALS else OTHER
    return "failed", error.code if error.code in ERRORS else OTHER
