"""What operators see at `/metrics`: one app's uploads in numbers, by prometheus_client.

No label can be steered from outside: a hand-off's name is one of the grid or `unknown`, an outcome one of `OUTCOMES`, a
reason one of the error codes, an operation one of S3's. Keys, filenames and request ids are in the log.
"""

import os
from collections.abc import Collection, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from tempfile import mkdtemp
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from filehandoff.errors import (
    FileClosed,
    FormError,
    FormMalformed,
    Internal,
    ObjectMissing,
    Overloaded,
    SettingsError,
    UnknownHandoff,
    UnknownHook,
    UploadError,
    fault,
)
from filehandoff.settings import GIB, KIB, MIB
from filehandoff.strategies import HANDOFFS
from filehandoff.web.schemas import ERRORS

#: Where several processes of one server keep their numbers, so that each of them can answer for all: see the README.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: How an upload may end, and what that means.
OUTCOMES = {
    "stored": "every file of the form is in S3",
    "refused": "the client sent what is not taken, or more than is taken now",
    "lost": "a known failure of the grid: the file was closed before S3 had read it",
    "failed": "S3 or the app itself failed",
    "abandoned": "the client broke it off, by leaving or by a body that ends too early",
}
UNKNOWN = "unknown"
OTHER = "other"

#: The upper bounds of the histograms: of seconds, and of bytes.
SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
BYTES = (
    *(count * KIB for count in (1, 16, 64, 512)),
    *(count * MIB for count in (1, 4, 8, 16, 64, 256)),
    *(count * GIB for count in (1, 5, 64)),
)

#: What an upload is refused for; anything else that has no status of the server's own is counted as `other`.
REFUSALS = tuple(
    error.code
    for error in ERRORS.values()
    if issubclass(error, FormError | UnknownHandoff | UnknownHook | ObjectMissing | Overloaded)
)


def share_numbers(processes: int, environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Make a folder for the numbers of several processes, unless the environment names one; answers its path, if made.

    Call it before the processes start, and remove the folder when they have ended.

    Raises:
        SettingsError: the temporary folder takes none.
    """
    if processes < 2 or FOLDER_VARIABLE in environ:  # noqa: PLR2004 - one process need not share
        return None
    try:
        environ[FOLDER_VARIABLE] = folder = mkdtemp(prefix="handoff-metrics-")
    except OSError as error:
        raise SettingsError("TMPDIR", environ.get("TMPDIR", ""), f"a folder that can be written ({error})") from None
    # The library reads the environment at its import only, and workers that are forked from here have imported it.
    values.ValueClass = values.get_value_class()
    return folder


class Metrics:
    """The numbers of one app, in a registry of its own; safe to use from many threads and tasks.

    Raises:
        SettingsError: several processes are to share a folder that is not there.
    """

    def __init__(self) -> None:
        # Twice as many series, for when each began; the library can be told only for a whole process.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        try:
            self._make()
        except OSError:
            wanted = "a folder that exists and can be written, empty when the server is started"
            raise SettingsError(FOLDER_VARIABLE, os.environ.get(FOLDER_VARIABLE), wanted) from None

    def _make(self) -> None:
        self._uploads = self._counter("uploads", "Uploads that ended, by how they did", "handoff", "outcome")
        self._refusals = self._counter(
            "refusals", "Refused uploads, and other requests that found no place, by the code of the answer", "reason"
        )
        self._failures = self._counter("failures", "Failed and lost uploads, by the code of the answer", "reason")
        self._bytes = self._counter("stored_bytes", "Bytes of the files that were stored", "handoff")
        self._sizes = self._histogram("file_bytes", "Sizes of the files that were stored", BYTES, "handoff")
        self._seconds = self._histogram(
            "upload_seconds", "How long uploads took, with what was undone", SECONDS, "handoff", "outcome"
        )
        self._presigned = self._counter("presigned", "Uploads that were given URLs, to be sent to S3 by the client")
        self._uploads_in_flight = self._gauge("uploads_in_flight", "Uploads that have begun and not ended")
        self._parts_in_flight = self._gauge("parts_in_flight", "Parts that are being sent to S3")
        self.aborts = self._counter("aborts", "Multipart uploads that were aborted in S3")
        self.undo_failures = self._counter(
            "undo_failures", "Files that could not be undone: what S3 has of them is to be swept"
        )
        self._retries = self._counter("s3_retries", "Calls to S3 that botocore sent once more", "operation")
        self._begin_at_zero()
        if FOLDER_VARIABLE not in os.environ:
            # What a process has of its own cannot be added up.
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self.registry)

    def _begin_at_zero(self) -> None:
        """A series that is missing until something happens shows neither that first time nor that nothing happens."""
        for handoff in HANDOFFS:
            self._bytes.labels(handoff)
            for outcome in OUTCOMES:
                self._uploads.labels(handoff, outcome)
        for reason in REFUSALS:
            self._refusals.labels(reason)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, f"{what}.", labels, namespace="handoff", registry=self.registry)

    def _histogram(self, name: str, what: str, bounds: Collection[float], *labels: str) -> Histogram:
        return Histogram(name, f"{what}.", labels, namespace="handoff", registry=self.registry, buckets=tuple(bounds))

    def _gauge(self, name: str, what: str) -> Gauge:
        # Of several processes, those that live are added up.
        return Gauge(name, f"{what}.", namespace="handoff", registry=self.registry, multiprocess_mode="livesum")

    @contextmanager
    def upload(self, handoff: str, *, begins: bool = False) -> Iterator[None]:
        """Count one upload, whatever its client calls the hand-off, by how this block ends.

        Args:
            handoff: by its name, or by one that there is none of.
            begins: the client is given URLs, if all goes well, and the upload is not over then.
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
    def refusals(self) -> Iterator[None]:
        """Count a request that is no upload, if this block refuses it for want of a place."""
        try:
            yield
        except Overloaded as error:
            self._refusals.labels(error.code).inc()
            raise

    def count_files(self, handoff: str, sizes: Iterable[int]) -> None:
        """Count the files that an upload has stored, by their sizes in bytes."""
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
        """A handler of botocore's event `request-created`, which comes for each try with the number of the try."""
        if request.context["retries"]["attempt"] > 1:
            self._retries.labels(operation_name).inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """All numbers as text in the form that an `Accept` header asks for, and its content type.

        Of several processes that share a folder, those of all; that reads files.
        """
        encode, content_type = choose_encoder(accept)
        registry = self.registry
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return encode(registry), content_type


def judge(error: BaseException) -> tuple[str, str]:
    """The outcome of an upload that ended with this error, and the reason: the code that the client is told."""
    if (isinstance(error, FormMalformed) and error.cut_short) or not isinstance(error, Exception):
        return "abandoned", ""  # no Exception: cancelled, which is how an event loop says that the client has left
    if isinstance(error, FileClosed):
        return "lost", error.code
    if not isinstance(error, UploadError):
        error = fault(error)
    if isinstance(error, Overloaded) or error.status < Internal.status:
        return "refused", error.code if error.code in REFUSALS else OTHER
    return "failed", error.code if error.code in ERRORS else OTHER
