"""An uploaded file with its first close, and the functions that all classes of explained files share."""

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import get_ident
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

from filehandoff.explain.closing import ObservedClose, RequestRecord, Stack, caller_of_a_file, is_apps_own
from filehandoff.explain.hooks import skipped_hooks
from filehandoff.explain.note import OPENING, RECORD, Moment, about_skipped, moments_of, place_of, record_of, sentence
from filehandoff.explain.raising import explain_next_error
from filehandoff.explain.waiting import look_for_waiting_calls

#: The methods that fail on a closed file.
METHODS = (
    *("read", "read1", "readinto", "readinto1", "readline", "readlines", "readall", "peek", "seek", "tell", "truncate"),
    *("write", "writelines", "flush", "fileno", "isatty", "readable", "seekable", "writable", "getvalue", "getbuffer"),
    *("detach", "__enter__", "__next__"),
)
#: The attribute of an explained file that holds its UploadedFile.
ATTRIBUTE = "_handoff_upload"


class UploadedFile:
    """One uploaded file: its names and its first close."""

    __slots__ = ("_closes", "collected", "filename", "name", "record", "taken")

    def __init__(self, name: str | None, filename: str | None, record: RequestRecord) -> None:
        self.name = name
        self.filename = filename
        self.record = record
        #: Thread, code and instruction that last collected a wrapper around the file; the wrapper's close has the same.
        self.collected: tuple[int, CodeType, int] | None = None
        #: The calls that read the coroutine function that closes the file, such as `UploadFile.close` of Starlette.
        self.taken: Stack = ()
        self._closes: list[ObservedClose] = []

    @property
    def closing(self) -> ObservedClose | None:
        """The first observed close, even if several threads close the file at once."""
        return self._closes[0] if self._closes else None

    def observe_close(self) -> None:
        """Record the first close of the file, before it happens; ignore later ones."""
        frame = sys._getframe(1).f_back  # noqa: SLF001 - the frame that called `close`
        try:
            self._closes += self.record.closings[:1] or [self._observed(frame)]
        except Exception:  # noqa: BLE001 - the app's objects in the frames may raise anything, and its close must go on
            return

    def _observed(self, frame: FrameType | None) -> ObservedClose:
        collected = self.collected is not None and self.collected == _place(frame)
        own = self.record.observe(frame, collected=collected)
        if self.taken and not any(is_apps_own(module, code.co_filename) for module, code, _ in own.taken):
            own.taken = self.taken
        look_for_waiting_calls(own, frame)
        return own

    def observe_collection(self) -> None:
        """Record the place that collects a wrapper, or reads all attributes of the file."""
        self.collected = _place(sys._getframe(1))  # noqa: SLF001 - the frame of the reader

    def observe_closed_read(self, closed: Any, caller: Callable[[int], Any] = sys._getframe) -> Any:  # noqa: SLF001 - the frame that reads `closed`
        """Return `closed`; if it is true, expect the error of a wrapper.

        Reads by this module, and by a file's own finalizer, come from no wrapper.
        """
        if closed is True:
            try:
                frame = caller(2)
                if frame.f_globals is not globals() and not _is_finalizing(frame):
                    explain_next_error(caller_of_a_file(frame), self.explain)
            except Exception:  # noqa: BLE001 - there is no caller, or the interpreter is shutting down and has cleared its modules
                return closed
        return closed

    def explain(self, error: Exception) -> None:
        """Add the note to an error of the closed file, unless it has one."""
        if isinstance(error, io.UnsupportedOperation):
            return
        if not any(note.startswith(OPENING) for note in getattr(error, "__notes__", ())):
            moments = moments_of(self.closing, _failed_read())
            record = replace(record_of(self.closing), skipped=_skipped(), moments=moments)
            error.add_note(sentence(self.filename, self.name, record))
            setattr(error, RECORD, record)


def _failed_read() -> Moment:
    frame = caller_of_a_file(sys._getframe(1))  # noqa: SLF001 - the calls that use the closed file
    return Moment("read failed", perf_counter(), place_of(frame.f_code, frame.f_lineno) if frame else None)


def _skipped() -> str | None:
    with suppress(Exception):  # boto's parts without documentation may change, and the app's error must go on
        return about_skipped(skipped_hooks(sys._getframe(1)))  # noqa: SLF001 - the calls that use the closed file
    return None


def _is_finalizing(frame: FrameType) -> bool:
    """Whether the file's own `__del__`, or a function that it calls, reads `closed`."""
    return "__del__" in (frame.f_code.co_name, frame.f_back and frame.f_back.f_code.co_name)


def _place(frame: FrameType | None) -> tuple[int, CodeType, int] | None:
    frame = caller_of_a_file(frame)
    return (get_ident(), frame.f_code, frame.f_lasti) if frame is not None else None


def is_closed(stream: Any, upload: UploadedFile) -> bool:
    """Whether a stream is closed; reads of `closed` by this function come from no wrapper."""
    try:
        return bool(stream.closed)
    except AttributeError:  # a class of the app's own may lack the attribute
        return upload.closing is not None
    except ValueError:  # detached: its errors say so and need no note
        return False


def record_of_file(file: Any) -> RequestRecord:
    """Return the record of the request that brought an explained file."""
    record: RequestRecord = file._handoff_upload.record  # noqa: SLF001 - an attribute of this package
    return record


def marks_collected(find: Callable[[Any], Any]) -> property:
    """Return a property for `_dealloc_warn`, which a wrapper reads before it closes the file.

    A file on disk has this method, which warns about a missing close; other files may lack it.
    """

    def get(self: Any) -> Any:
        self._handoff_upload.observe_collection()
        return find(self)

    return property(get)
