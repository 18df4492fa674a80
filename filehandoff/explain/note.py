"""The note's sentences: the code that closed the file, named from its calls, and the remedy."""

import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType
from typing import Literal

from filehandoff.explain.closing import (
    FILES,
    FRAMEWORKS,
    ON_THE_WAY,
    REQUESTS,
    TRANSFER,
    Call,
    Function,
    ObservedClose,
    explains,
    inside,
    installed,
    package_of,
)

#: The first words of every note, by which `explanation` finds it.
OPENING = "The upload "
#: The attribute of an error that has a note: the note's CloseRecord.
RECORD = "_filehandoff_record"
#: Characters shown of a name; clients choose names of any length.
_LONGEST_NAME = 200

#: Modules between an app and its file; the note names the caller of a close in one of these.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx", "contextlib"})
#: Packages of frameworks whose requests have no context.
_WITHOUT_CONTEXTS = frozenset({"starlette", "fastapi", "django"})
#: The modules of `stream_with_context`.
_STREAMING = frozenset({"flask.helpers", "quart.helpers"})


#: The pages in the folder `pages`, which `python -m filehandoff.explain` prints.
Page = Literal["after-response", "copied-context", "own-close", "transfer-closes"]


#: The fix for a hook in a copied request context.
BIND_PLAIN_VALUES = (
    "bind the hook to the values that it needs by functools.partial (the hook 'bound'), or read all bytes while the "
    "view runs and give each reader a new BytesIO of them (the hand-off 'read_early'); for large files, use the "
    "hand-off 'temp_file' or 'stream'"
)
_READ_EARLY = (
    "read all bytes while the view runs and give each reader a new BytesIO of them (the hand-off 'read_early')"
)
#: The fix for one file that boto3's upload_fileobj and another reader use.
NEW_BYTESIO = f"{_READ_EARLY}, or call put_object, which closes nothing"
#: The fix for a file that is read after the response.
BYTES_OR_WAIT = f"{_READ_EARLY}, or respond when everything is stored"


#: A further effect of a copied request context since Flask 3.2 and Quart 0.23, where it is an app context as well.
_COPIED_APP = (
    "; in this version of the framework the copy also begins with an empty `g`, and leaving it runs the functions of "
    "teardown_appcontext"
)


@dataclass(frozen=True, slots=True)
class Closer:
    """The code that closed a file, the fix as an imperative, and the page about both."""

    closed_by: str
    use_instead: str
    page: Page


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a request: its name, its time by `time.perf_counter`, and its place in the code, if known."""

    name: str
    at: float
    place: str | None = None


@dataclass(frozen=True, slots=True)
class CloseRecord(Closer):
    """A file's first close: its closer, its thread or task, its time, and the error that it caused.

    A close that the file did not see has neither place nor time. `moments` lead from the request's arrival to the
    error.
    """

    where: str | None = None
    when: str | None = None
    error: str = ""
    skipped: str | None = None  #: a sentence about boto hooks that did not run
    moments: tuple[Moment, ...] = ()


def record_of(closing: ObservedClose | None) -> CloseRecord:
    """Put a close into words; None is a close that the file did not see."""
    if closing is None:
        return _UNSEEN
    closer = _closer(closing)
    when = f"{closing.milliseconds:.1f} ms after the {'view' if closing.in_view else 'request'} began"
    return CloseRecord(closer.closed_by, closer.use_instead, closer.page, closing.where, when)


def moments_of(closing: ObservedClose | None, failed: Moment) -> tuple[Moment, ...]:
    """Return the moments of a request up to the failed read of its closed file, in order."""
    return tuple(_moments(closing, failed))


def _moments(closing: ObservedClose | None, failed: Moment) -> Iterator[Moment]:
    if closing is not None:
        yield Moment("request arrived", closing.began)
        if closing.view_began is not None:
            yield Moment("view began", closing.view_began)
        calls = [call for call in closing.calls if not _is_close_of_a_file(call)]
        leaving = next((call for call in calls if call.module in _CONTEXTS and closing.by_request), None)
        if leaving is not None:
            yield Moment("context left", closing.at, _copied_place(closing) or place_of(leaving.code, leaving.line))
        yield Moment("file closed", closing.at, place_of(calls[0].code, calls[0].line) if calls else None)
    yield failed


def _copied_place(closing: ObservedClose) -> str | None:
    return f"{closing.copied.name} ({_place(closing.copied)})" if closing.copied else None


def place_of(code: CodeType, line: int) -> str:
    """Return a line of the code as a text."""
    return f"{code.co_filename}:{line} in {code.co_qualname}"


def about_skipped(hooks: list[Function]) -> str | None:
    """Return a sentence about boto hooks that the CRT transfer manager skips; None if there are none."""
    if not hooks:
        return None
    names = ", ".join(f"{hook.name} ({_place(hook)})" for hook in hooks)
    return (
        f"The client has boto hooks that did not run, {names}: this upload uses the CRT transfer manager, which has a "
        "client of its own; TransferConfig(preferred_transfer_client='classic') runs them."
    )


def sentence(filename: str | None, name: str | None, record: CloseRecord) -> str:
    """Return the whole note for an upload."""
    seen = f"That was in {record.where}, {record.when}. " if record.where else ""
    skipped = f"{record.skipped} " if record.skipped else ""
    return (
        f"{OPENING}{_shown(filename)} of the form field {_shown(name)} was closed by {record.closed_by}. "
        f"{seen}{skipped}To fix it, {record.use_instead}. "
        f"To read more, run `python -m filehandoff.explain {record.page}`."
    )


def _shown(name: str | None) -> str:
    name = name or "(without a name)"
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the errors that led to it and those grouped in it, once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__] if _is_of_another_file(one) else [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def _is_of_another_file(error: BaseException) -> bool:
    """Whether this is the error of a closed file that is no upload.

    It has no note, and an upload's error before it is unrelated.
    """
    return type(error) is ValueError and "closed file" in str(error) and not hasattr(error, "__notes__")


_UNSEEN = CloseRecord(
    "code that bypassed the upload, such as os.close or a close of the stream under it", _READ_EARLY, "own-close"
)


def _closer(closing: ObservedClose) -> Closer:
    behind = _behind_the_request(closing)
    if behind is not None:
        return _request_closed(closing, behind)
    calls = inside(closing.calls)
    if any(_package(call) in TRANSFER for call in calls[: _first_of_the_app(calls)]):
        return _transfer(calls)
    return _collected(calls) if closing.collected else _own_code(closing, calls)


def _behind_the_request(closing: ObservedClose) -> list[Call] | None:
    """Return the calls that led to a request's close, if that closed the file.

    An app's request class may override `close`, and then this package's own does not run.
    """
    calls = closing.calls
    if closing.by_request:
        return calls
    for index, (call, caller) in enumerate(pairwise(calls), 1):
        if call.code.co_name == "close" and call.module in REQUESTS and caller.module in _CONTEXTS:
            return calls[index:]
    return None


def _request_closed(closing: ObservedClose, calls: list[Call]) -> Closer:
    """Read off the callers whether a context was popped or the request was closed."""
    left, form = False, closing.of_form
    for index, call in enumerate(calls):
        if call.module in _CONTEXTS and call.code.co_name == "wrapper":
            return _copied(closing)
        if call.module in ON_THE_WAY:
            left = left or call.module in _CONTEXTS - {"contextlib"}
            continue
        if _package(call) in FRAMEWORKS or (closing.ended and index == len(calls) - 1):
            return _end_of_request(call)
        return _popped(closing, calls[index:], left=left, form=form)
    return _popped(closing, [], left=left, form=form)


def _copied(closing: ObservedClose) -> Closer:
    function = closing.copied
    name = f"{function.name} ({_place(function)})" if function else "a function"
    event = f" from boto's event '{closing.event}'" if closing.event else ""
    return Closer(
        f"the pop of a copied request context: {name} is wrapped in {closing.copier}, and when it "
        f"returned{event}, leaving its copy of the context closed every file of the request (pallets/flask#5399)"
        f"{_COPIED_APP if closing.copied_app else ''}",
        BIND_PLAIN_VALUES,
        "copied-context",
    )


def _end_of_request(call: Call) -> Closer:
    place = f"({_name(call)})"
    if call.module == "fastapi.routing":
        return Closer(
            f"the end of the view {place}: FastAPI 0.106 to 0.117 close every file of the request before they send the "
            "response and run its BackgroundTasks (fastapi/fastapi#10857); this reader came too late",
            f"update FastAPI to 0.118 or newer, or {_READ_EARLY}",
            "after-response",
        )
    if call.module in _STREAMING:
        end = f"the end of the generator in stream_with_context: its context was left {place}"
    elif _package(call) in _WITHOUT_CONTEXTS:
        end = f"the end of the request {place}"
    else:
        end = f"the end of the request: its context was popped {place}"
    return Closer(
        f"{end}, which closes every file of the request; this reader came too late",
        BYTES_OR_WAIT,
        "after-response",
    )


def _popped(closing: ObservedClose, calls: list[Call], *, left: bool, form: bool) -> Closer:
    by = _by(closing, inside(calls))
    if left:
        return Closer(
            f"{by}, which left a context of the request and so closed every file of the request",
            f"use a contextvars snapshot (the hook 'snapshot'), which closes nothing when it is left, or {_READ_EARLY}",
            "copied-context",
        )
    if form:
        return Closer(
            f"{by}, which closed the form (`async with request.form()`, `request.close()` or `form.close()`) and so "
            "every file of it",
            f"use the files inside the `async with` block, or {_READ_EARLY}",
            "own-close",
        )
    return Closer(
        f"{by}, which closed the request (`request.close()` or a `with` block) and so every file of it",
        f"leave the close of the request to the framework, or {_READ_EARLY}",
        "own-close",
    )


def _transfer(calls: list[Call]) -> Closer:
    call = next(call for call in calls if _package(call) in TRANSFER)
    user = _app_call(calls)
    called = f", called at {_line(user)}" if user else ""
    return Closer(
        f"boto3's S3 transfer manager ({_name(call)}{called}), which closes the file of upload_fileobj "
        "if it is smaller than the multipart threshold (boto/s3transfer#80)",
        NEW_BYTESIO,
        "transfer-closes",
    )


def _collected(calls: list[Call]) -> Closer:
    return Closer(
        f"a TextIOWrapper or another wrapper, which closes its file when Python collects it, here in {_called(calls)}",
        f"call detach() on the wrapper before it goes out of scope, or {_READ_EARLY}",
        "own-close",
    )


def _own_code(closing: ObservedClose, calls: list[Call]) -> Closer:
    return Closer(_by(closing, calls), f"close nothing before the last use, or {_READ_EARLY}", "own-close")


def _by(closing: ObservedClose, calls: list[Call]) -> str:
    """Name the code that closed the file, or that handed the close over."""
    called = _called(calls)
    if _first_of_the_app(calls) < len(calls):
        return called
    if takers := closing.takers:
        if takers[0].module == "starlette.datastructures":  # `await file.close()`, for a file on disk
            return _called(inside(takers))
        return f"{_called(inside(takers))}, which handed the close to another thread or task"
    if any(explains(call.module, call.code.co_filename) for call in calls):
        return called
    if waiters := closing.waiters:
        return f"{called}, in a thread or task that {_called(waiters[_first_of_the_app(waiters) :])} waits for"
    return f"{called}, in a thread or task of its own; the code that handed the close over is unknown"


def _called(calls: list[Call]) -> str:
    """Name the app's line that closed the file, and the library in between."""
    closer = next((call for call in calls if not _is_close_of_a_file(call)), None)
    user = next((call for call in calls if not _installed(call)), None)
    if closer is None:
        return "the interpreter"
    if closer is user:
        return f"the app's own code at {_line(user)}"
    if user is not None:
        return f"{_name(closer)}, called by the app's own code at {_line(user)}"
    library = next((call for call in calls if not _plumbing(call) and not _is_close_of_a_file(call)), closer)
    return f"{_name(library)} ({library.code.co_filename}:{library.line})"


def _name(call: Call) -> str:
    return f"{call.module}:{call.code.co_name}"


def _app_call(calls: list[Call]) -> Call | None:
    """Return the innermost call outside packages, or outside packages that pass calls on."""
    index = _first_of_the_app(calls)
    if index < len(calls):
        return calls[index]
    return next((call for call in calls if not _plumbing(call) and not _is_close_of_a_file(call)), None)


def _first_of_the_app(calls: list[Call]) -> int:
    return next((index for index, call in enumerate(calls) if not _installed(call)), len(calls))


def _installed(call: Call) -> bool:
    return installed(call.code.co_filename)


def _plumbing(call: Call) -> bool:
    standard = _installed(call) and "-packages" not in call.code.co_filename
    return standard or _package(call) in FRAMEWORKS | TRANSFER | {"botocore", "boto3", "aiobotocore", "aioboto3"}


def _is_close_of_a_file(call: Call) -> bool:
    """Whether this call is a file that passes a close on to its inner file."""
    return call.module.startswith(FILES)


def _package(call: Call) -> str:
    return package_of(call.module)


def _place(function: Function) -> str:
    return f"{function.file}:{function.line}"


def _line(call: Call) -> str:
    source = linecache.getline(call.code.co_filename, call.line).strip()
    return place_of(call.code, call.line) + (f" (`{source}`)" if source else "")
