"""The common part of both frameworks' request classes: view, files, close."""

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from types import FrameType
from typing import Any

from filehandoff.explain.closing import ObservedClose, RequestRecord, caller_of_a_file
from filehandoff.explain.files import explain_storage, explained
from filehandoff.explain.subclasses import copy_identity
from filehandoff.explain.taking import CloseDescriptor, TakenClose
from filehandoff.explain.upload import UploadedFile
from filehandoff.explain.waiting import look_for_waiting_calls

_RECORD = "_handoff_record"
_UPLOADS = "_handoff_uploads"
#: Names of functions that close a request for a subclass; `__call__` is that of `TakenClose`.
_CLOSES = frozenset({"close", "__call__"})


def record_of(request: Any) -> RequestRecord:
    """Return the record of a request or form; start one if it has none."""
    record: RequestRecord | None = vars(request).get(_RECORD)
    if record is None:
        vars(request)[_RECORD] = record = RequestRecord()
    return record


def begin_record(owner: Any, record: RequestRecord) -> None:
    """Give a request or form this record, unless it has one."""
    vars(owner).setdefault(_RECORD, record)


@dataclass(frozen=True, slots=True)
class FileKind:
    """A framework's class of uploads: its attributes for file and filename, and the subclass that records a close."""

    stream: str
    filename: str
    explain: Callable[[Any], None]


_FILE_STORAGE = FileKind("stream", "filename", explain_storage)


def explain_files(owner: Any, files: Iterable[tuple[str, Any]], kind: FileKind = _FILE_STORAGE) -> None:
    """Make the files of a request or form record their close; each comes with its field's name."""
    record, uploads = record_of(owner), []
    for name, file in files:
        stream = getattr(file, kind.stream, None)
        if stream is not None:
            upload = UploadedFile(name, getattr(file, kind.filename, None), record)
            uploads.append(upload)
            new = explained(stream, upload)
            if new is not stream:
                with suppress(AttributeError):  # a class other than the framework's may forbid setting its stream
                    setattr(file, kind.stream, new)
            kind.explain(file)
    if uploads:
        owner.__dict__[_UPLOADS] = uploads


def awaited_close(base: Any) -> CloseDescriptor:
    """Return the `close` of a subclass of a request or form class whose own `close` is a coroutine function."""

    async def close(self: Any, taken: TakenClose | None = None) -> None:
        closing = begin_close(self, taken)
        try:
            await base.close(self)
        finally:
            end_close(self, closing)

    return CloseDescriptor(close, record_of, awaited=True)


def plain_close(base: Any) -> CloseDescriptor:
    """Return the `close` of a subclass of a request class."""

    def close(self: Any) -> None:
        closing = begin_close(self)
        try:
            base.close(self)
        finally:
            end_close(self, closing)

    return CloseDescriptor(close, record_of)


def begin_close(request: Any, taken: TakenClose | None = None) -> ObservedClose | None:
    """Record the start of the request's own close, once for all its files; None if all are closed."""
    if all(upload.closing for upload in request.__dict__.get(_UPLOADS, ())):
        return None
    frame = sys._getframe(1).f_back  # noqa: SLF001 - the frame that closes the request
    try:
        closing = _observed(request, frame, taken)
    except Exception:  # noqa: BLE001 - the app's objects in the frames may raise anything, and its close must go on
        return None
    request.__dict__[_RECORD].closings.append(closing)
    return closing


def _observed(request: Any, frame: FrameType | None, taken: TakenClose | None) -> ObservedClose:
    while frame is not None and frame.f_code.co_name in _CLOSES:  # a further subclass may override `close`
        caller = caller_of_a_file(frame)
        if caller is None or not _is_close_of(caller, request):
            break
        frame = caller.f_back
    record: RequestRecord = request.__dict__[_RECORD]
    closing = record.observe(frame, by_request=True)
    closing.of_form = type(request).__module__ == "starlette.datastructures"
    if taken is not None:
        closing.taken = taken.stack
    look_for_waiting_calls(closing, frame)
    return closing


def end_close(request: Any, closing: ObservedClose | None) -> None:
    """Record the end of the request's own close."""
    if closing is not None:
        request.__dict__[_RECORD].closings.remove(closing)


def _is_close_of(frame: FrameType, request: Any) -> bool:
    code = frame.f_code
    return code.co_name == "close" and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is request


def explained_class(base: Any, subclass: Callable[[Any], Any]) -> Any:
    """Return a subclass of a request class, or the class if it is generated."""
    if any("_handoff_plain" in vars(cls) for cls in base.__mro__):
        return base
    try:
        return subclass(base)
    except Exception as error:
        raise TypeError(f"explain_closed_files cannot subclass {base.__name__}, the request class: {error}") from error


def finish(cls: Any, base: Any) -> Any:
    """Copy the base's name to a request class, and record its view's start."""
    if inspect.getattr_static(base, "view_args", None) is None:
        cls.view_args = property(_view_args, _set_view_args)
    return copy_identity(cls, base)


def _view_args(request: Any) -> Any:
    """Return the view's arguments; both frameworks' `dispatch_request` reads them just before it calls the view."""
    state = request.__dict__
    record = state.get(_RECORD)
    if (
        record is not None and record.view_began is None and sys._getframe(1).f_code.co_name == "dispatch_request"  # noqa: SLF001 - no public hook runs here
    ):
        record.view_began = perf_counter()
    return state.get("view_args")


def _set_view_args(request: Any, value: Any) -> None:
    state = request.__dict__
    state["view_args"] = value
    if _RECORD not in state:  # the router sets the arguments first: the request begins
        state[_RECORD] = RequestRecord()


class Parser:
    """A form parser whose files explain their close; otherwise the inner parser."""

    def __init__(self, inner: Any, request: Any) -> None:
        self._inner = inner
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
