"""The note's sentences: what closed the file, from the calls that did; and what to use instead."""

import linecache
import os
from collections.abc import Iterator
from dataclasses import dataclass

from handoff.explain.closing import FILES, Call, Closing, Function

#: How every note begins, so that it can be found again.
OPENING = "The upload "
#: The project has no public address yet: its README comes with the package.
README = "handoff's README.md"

_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as the interpreter writes it in co_filename
#: Libraries that lie between an app and its file; a close in one of these is told by who called it.
_CONTEXTS = frozenset({"flask.ctx", "quart.ctx", "contextlib"})
_TRANSFER = frozenset({"s3transfer"})
_FRAMEWORKS = frozenset(
    {"flask", "quart", "werkzeug", "asgiref", "gunicorn", "hypercorn", "uvicorn", "granian", "waitress"}
)


@dataclass(frozen=True, slots=True)
class Cause:
    """What closed the file, in words; what to use instead; the README's section about it, as an anchor."""

    closed_by: str
    instead: str
    section: str


def sentence(filename: str | None, name: str | None, closing: Closing | None, *, as_text: bool) -> str:
    """The whole note for an upload; `as_text` if somebody had asked for what a TextIOWrapper needs of it."""
    upload = f"{OPENING}{filename or '(without a name)'!r} of the form field {name or '(without a name)'!r}"
    if closing is None:
        cause = _UNSEEN
        return f"{upload} was closed {cause.closed_by}. Use instead: {cause.instead} See {README}#{cause.section}."
    cause = _cause(closing, as_text=as_text)
    since = "the view began" if closing.in_view else "the request began"
    return (
        f"{upload} was closed by {cause.closed_by}. "
        f"That was in {closing.where}, {closing.milliseconds:.1f} ms after {since}. "
        f"Use instead: {cause.instead} See {README}#{cause.section}."
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, or are grouped in it, each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


_READ_EARLY = "the hand-off 'read_early': read all bytes while the view runs, and give each user a new BytesIO of them"

_UNSEEN = Cause(
    "by code that did not go through the upload, such as os.close or the stream under it",
    f"{_READ_EARLY}.",
    "d-your-own-code-closes-it",
)


def _cause(closing: Closing, *, as_text: bool) -> Cause:
    if closing.by_request:
        return _request_closed(closing)
    calls = closing.calls
    if any(_package(call) in _TRANSFER for call in calls[: _first_of_the_app(calls)]):
        return _transfer(calls)
    return _own_code(calls, as_text=as_text)


def _request_closed(closing: Closing) -> Cause:
    """A request closes its files when a context of it is popped; the call behind the pop tells which."""
    calls = closing.calls
    index = next((i for i, call in enumerate(calls) if call.module in _CONTEXTS), len(calls))
    for call in calls[index:]:
        if call.module in _CONTEXTS:
            if call.code.co_name == "wrapper":
                return _copied(closing)
            continue
        if _package(call) in _FRAMEWORKS:
            return _end_of_request(call)
        return _popped(call)
    return _popped(next((call for call in calls if not _plumbing(call)), None))


def _copied(closing: Closing) -> Cause:
    function = closing.copied
    name = f"{function.name} ({_place(function)})" if function else "a function"
    event = f" from boto's event '{closing.event}'" if closing.event else ""
    return Cause(
        f"the pop of a copied request context: {name} is wrapped in copy_current_request_context, and when it "
        f"returned{event}, leaving its copy of the context closed every file of the request (pallets/flask#5399)",
        "the hook 'bound', a function bound to plain values by functools.partial, or the hand-off 'read_early', "
        "'temp_file' or 'stream', whose bytes the request does not own.",
        "a-a-copied-request-context",
    )


def _end_of_request(call: Call) -> Cause:
    streamed = ", when what stream_with_context wraps had come to its end," if call.module == "flask.helpers" else ""
    return Cause(
        f"the end of the request{streamed}: its context was popped ({call.module}:{call.code.co_name}), which "
        "closes every file of the request, while this user of the file was still to come",
        f"{_READ_EARLY}; or answer when all is stored.",
        "c-the-response-is-sent-first",
    )


def _popped(call: Call | None) -> Cause:
    where = f" at {_line(call)}" if call else ""
    return Cause(
        f"the app's own code{where}, which closed the request or left a context of it, and that closes every file of "
        "the request",
        "a contextvars snapshot (the hook 'snapshot'), which closes nothing when it is left, or the hand-off "
        "'read_early', 'temp_file' or 'stream'.",
        "a-a-copied-request-context",
    )


def _transfer(calls: list[Call]) -> Cause:
    call = next(call for call in calls if _package(call) in _TRANSFER)
    user = _app_call(calls)
    called = f", called at {_line(user)}" if user else ""
    return Cause(
        f"boto3's S3 transfer manager ({call.module}:{call.code.co_name}{called}), which closes what upload_fileobj is "
        "given when it fits under the multipart threshold (boto/s3transfer#80)",
        "the hand-off 'read_early', with a new BytesIO for each use of the bytes; or put_object, which closes nothing.",
        "b-boto3-closes-what-you-give-it",
    )


def _own_code(calls: list[Call], *, as_text: bool) -> Cause:
    user = _app_call(calls)
    first = next((call for call in calls if not _is_close_of_a_file(call)), None)
    if user is None:
        by = (
            f"{first.module}:{first.code.co_name} ({first.code.co_filename}:{first.line})"
            if first
            else "the interpreter"
        )
    elif first is None or first is user:
        by = f"the app's own code at {_line(user)}"
    else:
        by = f"{first.module}:{first.code.co_name}, called by the app's own code at {_line(user)}"
    if as_text and user is not None and not _closes_in_so_many_words(user):
        by += "; a TextIOWrapper had been put around it, which closes it when it is collected"
        instead = "detach() of the TextIOWrapper before it goes, or "
    else:
        instead = "no close before the last use, or "
    return Cause(by, f"{instead}{_READ_EARLY}.", "d-your-own-code-closes-it")


def _closes_in_so_many_words(call: Call) -> bool:
    source = linecache.getline(call.code.co_filename, call.line).strip()
    return ".close(" in source or source.startswith(("with ", "async with "))


def _app_call(calls: list[Call]) -> Call | None:
    """The innermost call of the app's: of no installed package, or else of none that only passes calls on."""
    index = _first_of_the_app(calls)
    if index < len(calls):
        return calls[index]
    return next((call for call in calls if not _plumbing(call) and not _is_close_of_a_file(call)), None)


def _first_of_the_app(calls: list[Call]) -> int:
    return next((index for index, call in enumerate(calls) if not _installed(call)), len(calls))


def _installed(call: Call) -> bool:
    file = call.code.co_filename
    return (
        file.startswith((_STANDARD_LIBRARY, "<frozen"))
        or f"{os.sep}site-packages{os.sep}" in file
        or f"{os.sep}dist-packages{os.sep}" in file
    )


def _plumbing(call: Call) -> bool:
    file = call.code.co_filename
    standard = file.startswith((_STANDARD_LIBRARY, "<frozen")) and "-packages" not in file
    return standard or _package(call) in _FRAMEWORKS | _TRANSFER | {"botocore", "boto3", "aiobotocore", "aioboto3"}


def _is_close_of_a_file(call: Call) -> bool:
    """Whether this call is a file passing on a close, which explains nothing."""
    return call.module.startswith(FILES)


def _package(call: Call) -> str:
    return call.module.partition(".")[0]


def _place(function: Function) -> str:
    return f"{function.file}:{function.line}"


def _line(call: Call) -> str:
    source = linecache.getline(call.code.co_filename, call.line).strip()
    return f"{call.code.co_filename}:{call.line} in {call.code.co_qualname}" + (f" (`{source}`)" if source else "")
