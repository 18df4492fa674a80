"""The sentences of a note: the code that closed the file, and a fix."""

import linecache
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path

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
#: What labels an address of the project, under which its README is.
_LABELS = frozenset({"readme", "documentation", "homepage"})
#: Characters shown of a name; clients choose names of any length.
_LONGEST_NAME = 200

#: Modules between an app and its file; the note names the caller of a close in one of these.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx", "contextlib"})
#: The modules of `stream_with_context`.
_STREAMING = frozenset({"flask.helpers", "quart.helpers"})


#: Instead of a hook in a copied request context.
USE_PLAIN_VALUES = (
    "the hook 'bound', a function bound to plain values by functools.partial, or the hand-off 'read_early', "
    "'temp_file' or 'stream', whose bytes the request does not own."
)
#: Instead of one file for boto3's upload_fileobj and another use.
USE_NEW_BYTESIO = (
    "the hand-off 'read_early', with a new BytesIO for each use of the bytes; or put_object, which closes nothing."
)
_READ_EARLY = "the hand-off 'read_early': read all bytes while the view runs, and give each user a new BytesIO of them"
#: Instead of a file that is read after the response.
USE_BYTES_OR_WAIT = f"{_READ_EARLY}; or answer when all is stored."


@dataclass(frozen=True, slots=True)
class Closer:
    """What closed a file, in words; what to use instead; the README's section about it, as an anchor."""

    closed_by: str
    use_instead: str
    section: str


@dataclass(frozen=True, slots=True)
class CloseRecord(Closer):
    """A file's first close: its closer, in which thread or task, and when; `error` is the error that it led to.

    A close that the file did not see has no place and no time.
    """

    where: str | None = None
    when: str | None = None
    error: str = ""


def record_of(closing: Closing | None) -> CloseRecord:
    """A close in words; None is a close that the file did not see."""
    if closing is None:
        return _UNSEEN
    closer = _closer(closing)
    when = f"{closing.milliseconds:.1f} ms after the {'view' if closing.in_view else 'request'} began"
    return CloseRecord(closer.closed_by, closer.use_instead, closer.section, closing.where, when)


def sentence(filename: str | None, name: str | None, record: CloseRecord) -> str:
    """The whole note for an upload."""
    seen = f"That was in {record.where}, {record.when}. " if record.where else ""
    return (
        f"{OPENING}{_told(filename)} of the form field {_told(name)} was closed by {record.closed_by}. "
        f"{seen}Use instead: {record.use_instead} See {_section(record)}."
    )


def _shown(name: str | None) -> str:
    name = name or "(without a name)"
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")


def _section(closer: Closer) -> str:
    return f"filehandoff's {_readme()}#{closer.section}"


@cache
def _readme() -> str:
    urls = (url for found in distributions(name="filehandoff") for url in found.metadata.get_all("Project-URL") or ())
    return readme(urls, Path(__file__).parents[2])


def readme(urls: Iterable[str], folder: Path) -> str:
    """Return the README's address: the project's URL, its path in the checkout, or its name.

    `urls` come from a distribution's metadata, each as `label, address`.
    """
    for url in urls:
        label, _, address = url.partition(",")
        if label.strip().lower() in _LABELS:
            return address.strip()
    path = folder / "README.md"
    return str(path) if path.is_file() and (folder / "pyproject.toml").is_file() else path.name


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
    "code that did not go through the upload, such as os.close or the stream under it",
    f"{_READ_EARLY}.",
    "d-your-own-code-closes-it",
)


def _closer(closing: Closing) -> Closer:
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


def _request_closed(closing: Closing, calls: list[Call]) -> Closer:
    """A request closes its files when a context of it is left, or when it is closed itself; the caller shows which."""
    left = False
    for index, call in enumerate(calls):
        if call.module in _CONTEXTS and call.code.co_name == "wrapper":
            return _copied(closing)
        if call.module in ON_THE_WAY:
            left = left or call.module in _CONTEXTS - {"contextlib"}
            continue
        if _package(call) in FRAMEWORKS or (closing.ended and index == len(calls) - 1):
            return _end_of_request(call)
        return _popped(closing, calls[index:], left=left)
    return _popped(closing, [], left=left)


def _copied(closing: Closing) -> Closer:
    function = closing.copied
    name = f"{function.name} ({_place(function)})" if function else "a function"
    event = f" from boto's event '{closing.event}'" if closing.event else ""
    return Closer(
        f"the pop of a copied request context: {name} is wrapped in {closing.copier}, and when it "
        f"returned{event}, leaving its copy of the context closed every file of the request (pallets/flask#5399)",
        USE_PLAIN_VALUES,
        "a-a-copied-request-context",
    )


def _end_of_request(call: Call) -> Closer:
    place = f"({_name(call)})"
    end = (
        f"the end of a stream_with_context iterator: its context was popped {place}"
        if call.module in _STREAMING
        else f"the end of the request: its context was popped {place}"
    )
    return Closer(
        f"{end}, which closes every file of the request, before this use of the file",
        USE_BYTES_OR_WAIT,
        "c-the-response-is-sent-first",
    )


def _popped(closing: Closing, calls: list[Call], *, left: bool) -> Closer:
    by = _by(closing, inside(calls))
    if left:
        return Closer(
            f"{by}, through a context of the request that was left, which closes every file of the request",
            "a contextvars snapshot (the hook 'snapshot'), which closes nothing when it is left, or the hand-off "
            "'read_early', 'temp_file' or 'stream'.",
            "a-a-copied-request-context",
        )
    return Closer(
        f"{by}, through a close of the request (`request.close()` or a `with` block), which closes every file of it",
        f"no close of the request, since the framework closes it at its end, or {_READ_EARLY}.",
        "d-your-own-code-closes-it",
    )


def _transfer(calls: list[Call]) -> Closer:
    call = next(call for call in calls if _package(call) in TRANSFER)
    user = _app_call(calls)
    called = f", called at {_line(user)}" if user else ""
    return Closer(
        f"boto3's S3 transfer manager ({_name(call)}{called}), which closes what upload_fileobj is "
        "given when it fits under the multipart threshold (boto/s3transfer#80)",
        USE_NEW_BYTESIO,
        "b-boto3-closes-what-you-give-it",
    )


def _collected(calls: list[Call]) -> Closer:
    return Closer(
        "a TextIOWrapper, or another wrapper around it, which closes it when it is collected, as happened in "
        f"{_called(calls)}",
        f"the wrapper's detach() before it is collected, or {_READ_EARLY}.",
        "d-your-own-code-closes-it",
    )


def _own_code(closing: Closing, calls: list[Call]) -> Closer:
    return Closer(_by(closing, calls), f"no close before the last use, or {_READ_EARLY}.", "d-your-own-code-closes-it")


def _by(closing: ObservedClose, calls: list[Call]) -> str:
    """Name the code that closed the file, or that handed the close over."""
    called = _called(calls)
    if _first_of_the_app(calls) < len(calls):
        return called
    if takers := closing.takers:
        return f"{_called(inside(takers))}, which handed the close to another thread or task"
    if any(explains(call) for call in calls):
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
    return f"{call.code.co_filename}:{call.line} in {call.code.co_qualname}" + (f" (`{source}`)" if source else "")
