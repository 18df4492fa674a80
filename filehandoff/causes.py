"""Explanations of the three causes of an early close, whose views each app has."""

import time
from dataclasses import dataclass

from filehandoff.cancellation import Cancellation, current
from filehandoff.errors import StoreUnavailable
from filehandoff.explain import CloseRecord, Moment
from filehandoff.explain.note import BIND_PLAIN_VALUES, BYTES_OR_WAIT, NEW_BYTESIO

#: Largest file in bytes, above boto's multipart threshold of 8 MiB. The inner request may hold it twice in memory.
MAX_BYTES = 16 * 1024**2
#: Seconds that a failing view may take; a view that takes longer waits for S3.
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, in general: its mechanism, and the hand-off to use instead."""

    explanation: str
    use_instead: str


CAUSES = {
    "copied_context": Cause(
        "A hook wrapped in copy_current_request_context runs in a second request context that shares the one request. "
        "When the hook returns, that context is popped, and the pop closes every file of the request. The upload that "
        "called the hook reads the file only afterwards (https://github.com/pallets/flask/issues/5399).",
        BIND_PLAIN_VALUES,
    ),
    "transfer_closes": Cause(
        "boto3's upload_fileobj closes a file below the multipart threshold of 8 MiB, and leaves a larger one open "
        "(https://github.com/boto/s3transfer/issues/80): a later read of the small file fails. put_object closes "
        "nothing, and aioboto3's upload_fileobj reads the file itself and leaves it open.",
        NEW_BYTESIO,
    ),
    "after_response": Cause(
        "The view hands the file to a thread or a task and answers. At the end of the request its context is popped, "
        "which closes every file of the request. The thread or task reads the file only afterwards.",
        BYTES_OR_WAIT,
    ),
}


#: The moments of a run by their names, in the order of a usual one.
EVENTS = (
    *("request arrived", "view began", "hook entered", "context left", "file closed", "response sent"),
    *("job began", "read failed"),
)


class Run:
    """A run of a failing view: its moments, and the early close, if there is one."""

    def __init__(self) -> None:
        self.close: CloseRecord | None = None
        self._moments: dict[str, Moment] = {}

    def mark(self, name: str, place: str | None = None) -> None:
        """Record that this moment is now."""
        self._moments[name] = Moment(name, time.perf_counter(), place)

    def enter_hook(self, event_name: str, **_event: object) -> None:
        """Record, as the first handler of a boto event, that its hooks begin."""
        self.mark("hook entered", event_name)

    def events(self) -> tuple["Event", ...]:
        """Return the moments in order; those of the explainer replace the run's own."""
        seen = self._moments | {one.name: one for one in (self.close.moments if self.close else ())}
        moments = sorted(seen.values(), key=lambda moment: moment.at)
        return tuple(Event(one.name, round((one.at - moments[0].at) * 1000, 3), one.place) for one in moments)


@dataclass(frozen=True, slots=True)
class Event:
    """A moment of a run: its name, milliseconds since the request arrived, and its place in the code or in boto."""

    name: str
    elapsed_ms: float
    place: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a failing view; an early close has error, closer, place and time."""

    cause: str
    framework: str
    request_id: str
    explanation: str
    use_instead: str
    events: tuple[Event, ...]
    closed: bool = False
    error: str | None = None
    closed_by: str | None = None
    where: str | None = None
    when: str | None = None


def report(cause: str, framework: str, request_id: str, run: Run) -> Report:
    """Report a failing view's run, which may have read the whole file."""
    known, events, close = CAUSES[cause], run.events(), run.close
    if close is None:
        here = f"Here the file was still open at its last read, in {framework}, at this size. "
        return Report(cause, framework, request_id, here + known.explanation, known.use_instead, events)
    seen = close.error, close.closed_by, close.where, close.when
    return Report(cause, framework, request_id, known.explanation, close.use_instead, events, True, *seen)  # noqa: FBT003 - closed


def time_limit() -> Cancellation:
    """Return a cancellation of the current work after `SECONDS`."""
    limit = Cancellation(outer=current())
    limit.cancel(_too_slow, at=time.monotonic() + SECONDS)
    return limit


def _too_slow() -> StoreUnavailable:
    return StoreUnavailable(f"S3 did not take the file within {SECONDS:g} seconds. Nothing was stored; try later.")
