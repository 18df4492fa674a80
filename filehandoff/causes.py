"""The three causes of a file closed too early, in words: what is run and seen is in each app's `causes.py`."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from traceback import extract_stack

from filehandoff.errors import StoreUnavailable

#: A cause is shown with a file that the inner request can hold twice in memory, in bytes. It is enough for both sides
#: of boto's multipart threshold of 8 MiB.
MAX_BYTES = 16 * 1024**2
#: How long showing a cause may take, in seconds; then S3 is too slow for it.
SECONDS = 30.0

ISSUE_A = "https://github.com/pallets/flask/issues/5399"
ISSUE_B = "https://github.com/boto/s3transfer/issues/80"


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: what happens, and the hand-off to use instead."""

    name: str
    explanation: str
    use_instead: str


CAUSES = {
    cause.name: cause
    for cause in (
        Cause(
            "copied_context",
            "A hook wrapped in copy_current_request_context runs in a second request context that shares the one "
            "request. When the hook returns, that context is popped, and the pop closes every file of the request, "
            f"while the upload that called the hook is still to read it ({ISSUE_A}).",
            "The hook 'bound', or the hand-off 'stream', 'read_early' or 'temp_file'.",
        ),
        Cause(
            "transfer_closes",
            "boto3's upload_fileobj closes the file it was given when it fits under the multipart threshold of 8 MiB, "
            f"and leaves it open above ({ISSUE_B}): whatever reads it next finds it closed. put_object closes nothing, "
            "and aioboto3's upload_fileobj reads the file itself and leaves it open.",
            "The hand-off 'read_early', with a new BytesIO for each use; upload_fileobj closes a temporary file too.",
        ),
        Cause(
            "after_response",
            "The view hands the file to a thread or a task and answers. At the end of the request its context is "
            "popped, which closes every file of the request; what reads the file later finds it closed.",
            "The hand-off 'read_early': the bytes are yours as long as you need them. Or answer when all is stored.",
        ),
    )
}

#: Below this, boto3's upload_fileobj puts the file and closes it; from here on it leaves it open.
TRANSFER_THRESHOLD = 8 * 1024**2


def occurs(cause: str, framework: str, size: int) -> bool:
    """Whether a file of `size` bytes is known to be closed too early by this cause, in this framework."""
    if cause == "transfer_closes":
        return framework == "flask" and size < TRANSFER_THRESHOLD
    return cause in CAUSES


_LIBRARY = re.compile(
    r"(?:^|/)(flask|quart|werkzeug|botocore|aiobotocore|boto3|aioboto3|s3transfer)/(.+)\.py$", re.IGNORECASE
)
#: Frames that every call has and that explain nothing.
_PLUMBING = frozenset({"werkzeug/datastructures/file_storage", "werkzeug/datastructures/structures"})


@dataclass(frozen=True, slots=True)
class Closing:
    """A file being closed, as it was seen: by which calls, in which thread or task, when."""

    closed_by: str
    where: str
    when: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the file that was sent; `error` is the text of the error that reading it gave, if any."""

    cause: str
    framework: str
    closed: bool
    error: str | None
    closed_by: str | None
    where: str | None
    when: str | None
    explanation: str
    use_instead: str
    request_id: str

    def as_json(self) -> dict[str, str | bool | None]:
        """The report's members for JSON."""
        return asdict(self)


def report(cause: str, framework: str, request_id: str, error: str | None, closing: Closing | None) -> Report:
    """The report of one run; nothing was closed too early if reading the file gave no error."""
    known = CAUSES[cause]
    early = closing if error is not None else None
    seen = "" if early else f"Here the file was still open when it was read again, in {framework}, at this size. "
    return Report(
        cause=cause,
        framework=framework,
        closed=early is not None,
        error=error,
        closed_by=early.closed_by if early else None,
        where=early.where if early else None,
        when=early.when if early else None,
        explanation=seen + known.explanation,
        use_instead=known.use_instead,
        request_id=request_id,
    )


class InnerRequest:
    """What is seen of the request in which a cause is shown: the error of a read, and the close that came before."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.closing: Closing | None = None
        self._began = time.perf_counter()
        self._phase = "while the form was parsed"

    def enter(self, phase: str, *, begin: bool = False) -> None:
        """Say where the request is; with `begin`, the view's time begins."""
        self._phase = phase
        if begin:
            self._began = time.perf_counter()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block that reads the file, and fails if it is closed; the error's text is kept."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is to be shown
            self.error = f"{type(error).__name__}: {error}"

    def closed_in(self, where: str) -> None:
        """Note the file's first close, with the calls that lead here, in this thread or task."""
        if self.closing is None:
            milliseconds = (time.perf_counter() - self._began) * 1000
            calls = closing_calls((frame.filename, frame.name) for frame in extract_stack())
            self.closing = Closing(calls, where, f"{self._phase}, {milliseconds:.1f} ms after the view began")


def closing_calls(frames: Iterable[tuple[str, str]]) -> str:
    """The libraries' calls that led to a close, outermost first, from (file name, function) of each frame."""
    calls: list[str] = []
    for filename, function in frames:
        match = _LIBRARY.search(filename)
        if match is None:
            continue
        module = f"{match[1]}/{match[2]}"
        call = f"{module.replace('/', '.')}:{function}"
        if module not in _PLUMBING and (not calls or calls[-1] != call):
            calls.append(call)
    return " → ".join(calls[-6:])


def too_slow() -> StoreUnavailable:
    """The error for a cause that could not be shown in time."""
    return StoreUnavailable(f"S3 did not take the file within {SECONDS:g} seconds. Nothing was stored; try later.")
