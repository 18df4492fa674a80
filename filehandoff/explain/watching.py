"""What both frameworks' request classes share: when the view began, the form's files, the request's close."""

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from types import FrameType
from typing import Any

from filehandoff.explain.closing import ObservedClose, RequestRecord, caller_of_a_file
from filehandoff.explain.files import UploadedFile, call_itself, explain_storage, explained
from filehandoff.explain.taking import TakenClose
from filehandoff.explain.waiting import look_for_waiting_calls

_RECORD = "_handoff_record"
_UPLOADS = "_handoff_uploads"
#: The names of functions that close a request for its subclass, ours for a `close` that was taken included.
_CLOSES = frozenset({"close", "__call__"})


def record_of(request: Any) -> RequestRecord:
    """The record of a request, begun now if it has none."""
    record: RequestRecord | None = vars(request).get(_RECORD)
    if record is None:
        vars(request)[_RECORD] = record = RequestRecord()
    return record


def explain_files(request: Any, files: Iterable[tuple[str, Any]]) -> None:
    """Let the files of a parsed form, each with its field's name, remember who closes them."""
    record, uploads = record_of(request), []
    for name, file in files:
        stream = getattr(file, "stream", None)
        if stream is not None:
            upload = UploadedFile(getattr(file, "name", None) or name, getattr(file, "filename", None), record)
            uploads.append(upload)
            new = explained(stream, upload)
            if new is not stream:
                with suppress(AttributeError):  # what is no FileStorage need not let its stream be set
                    file.stream = new
            explain_storage(file)
    if uploads:
        request.__dict__[_UPLOADS] = uploads


def begin_close(request: Any, taken: TakenClose | None = None) -> ObservedClose | None:
    """The request's own close begins: it is seen once for all its files, in whichever thread they are then closed."""
    if _UPLOADS not in request.__dict__:
        return None
    frame = sys._getframe(1).f_back  # noqa: SLF001 - who closes the request is the question
    while frame is not None and frame.f_code.co_name in _CLOSES:  # maybe a close of a subclass of ours
        caller = caller_of_a_file(frame)
        if caller is None or not _closes(caller, request):
            break
        frame = caller.f_back
    record = record_of(request)
    closing = record.see(frame, by_request=True)
    if taken is not None:
        closing.taken = taken.stack
    look_for_waiting_calls(closing, frame)
    record.closings.append(closing)
    return closing


def end_close(request: Any, closing: ObservedClose | None) -> None:
    """The request's own close, as it began, is over."""
    if closing is not None:
        record_of(request).closings.remove(closing)


def _closes(frame: FrameType, request: Any) -> bool:
    code = frame.f_code
    return code.co_name == "close" and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is request


def explained_class(base: Any, subclass: Callable[[Any], Any]) -> Any:
    """A subclass of a request class; the class itself if it is one, or comes from one."""
    if any("_handoff_plain" in vars(cls) for cls in base.__mro__):
        return base
    try:
        return subclass(base)
    except Exception as error:
        raise TypeError(f"explain_closed_files cannot subclass {base.__name__}, the request class: {error}") from error


def finish(cls: Any, base: Any) -> Any:
    """Let a request class call itself what its base does, and know when its view begins."""
    if inspect.getattr_static(base, "view_args", None) is None:
        cls.view_args = property(_view_args, _set_view_args)
    return call_itself(cls, base)


def _view_args(request: Any) -> Any:
    """The view's arguments. `dispatch_request` of either framework reads them to call the view, at once."""
    state = request.__dict__
    record = state.get(_RECORD)
    if (
        record is not None and record.view_began is None and sys._getframe(1).f_code.co_name == "dispatch_request"  # noqa: SLF001 - the seam has no other name
    ):
        record.view_began = perf_counter()
    return state.get("view_args")


def _set_view_args(request: Any, value: Any) -> None:
    state = request.__dict__
    state["view_args"] = value
    if _RECORD not in state:  # the request has been routed: it begins
        state[_RECORD] = RequestRecord()


class Parser:
    """A form parser whose files explain themselves; all else is the inner parser's."""

    def __init__(self, inner: Any, request: Any) -> None:
        self._inner = inner
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
