"""Turn the form parser's files into files that record their close.

A SpooledTemporaryFile, or a stream of a class of the app's own, stays the same object and gets a subclass as its
class. Classes written in C (BytesIO, BufferedRandom) forbid that, so a stand-in of a subclass wraps their objects.
"""

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from copyreg import __newobj__  # type: ignore[attr-defined] # returned by object.__reduce_ex__
from dataclasses import replace
from functools import partial
from inspect import getattr_static
from threading import get_ident
from time import perf_counter
from types import CodeType, FrameType
from typing import Any
from weakref import WeakValueDictionary

from filehandoff.explain.closing import (
    FILE_MODULES,
    FILES,
    FRAMEWORKS,
    ObservedClose,
    RequestRecord,
    Stack,
    caller_of_a_file,
    is_apps_own,
    package_of,
)
from filehandoff.explain.hooks import skipped_hooks
from filehandoff.explain.note import OPENING, RECORD, Moment, about_skipped, moments_of, place_of, record_of, sentence
from filehandoff.explain.raising import explain_next_error
from filehandoff.explain.taking import CloseDescriptor
from filehandoff.explain.waiting import look_for_waiting_calls

#: The methods that fail on a closed file.
_METHODS = (
    *("read", "read1", "readinto", "readinto1", "readline", "readlines", "readall", "peek", "seek", "tell", "truncate"),
    *("write", "writelines", "flush", "fileno", "isatty", "readable", "seekable", "writable", "getvalue", "getbuffer"),
    *("detach", "__enter__", "__next__"),
)
_ATTRIBUTE = "_handoff_upload"
#: The methods that an upload calls most.
_DIRECT = ("read", "seek", "tell", "readline", "seekable")


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


def explained(stream: Any, upload: UploadedFile) -> Any:
    """Return the stream to use instead of this one: the same object where possible.

    A class of the app's own may forbid any change; then its stream stays as it is, and explains nothing.
    """
    try:
        return _explained(stream, upload)
    except Exception:  # noqa: BLE001 - the app's class may raise anything, and the app's request must go on
        return stream


def _explained(stream: Any, upload: UploadedFile) -> Any:
    if _ATTRIBUTE in getattr(stream, "__dict__", ()):
        return stream
    if type(getattr(stream, "_file", None)) in _STAND_INS and hasattr(stream, "rollover"):
        return _become(stream, _spooled, upload, _direct_stand_in(stream._file, upload))  # noqa: SLF001 - the file inside
    if type(stream) in _STAND_INS:
        return _stand_in(stream, upload)
    if hasattr(stream, "_closer") and type(getattr(stream, "file", None)) in _STAND_INS:
        return _named_temporary_file(stream, upload)
    return _become(stream, _subclass, upload)


def _become(stream: Any, subclass: Callable[[Any], Any], upload: UploadedFile, file: Any = None) -> Any:
    """Change the object's class to a subclass."""
    state = vars(stream)
    object.__setattr__(stream, "__class__", _class_of(type(stream), subclass))  # the class's own __setattr__ may raise
    state[_ATTRIBUTE] = upload
    if file is not None:
        state["_file"] = file
    return stream


#: Generated subclasses of the app's own classes, held weakly: the app's class, and its references, can be freed.
_MADE: WeakValueDictionary[tuple[Any, Any], Any] = WeakValueDictionary()
#: Generated subclasses of the standard library's and the frameworks' classes, kept for good: most uploads need one.
_KEPT: dict[tuple[Any, Any], Any] = {}


def _class_of(cls: Any, subclass: Callable[[Any], Any]) -> Any:
    made = _KEPT.get((cls, subclass)) or _MADE.get((cls, subclass))
    if made is None:
        made = cls if any("_handoff_plain" in vars(base) for base in cls.__mro__) else subclass(cls)
        kept = cls.__module__.startswith(FILES) or package_of(cls.__module__) in FRAMEWORKS
        (_KEPT if kept else _MADE)[cls, subclass] = made
    return made


class HiddenSubclass:
    """Hides generated subclasses from a base class that has `__init_subclass__`, and from copies."""

    def __init_subclass__(cls, **more: Any) -> None:
        if "_handoff_plain" not in vars(cls):
            super().__init_subclass__(**more)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(super().__reduce_ex__(protocol))


def copy_identity(cls: Any, base: Any) -> Any:
    """Give a class its base's name, module and docstring, for use in messages."""
    cls.__name__, cls.__qualname__, cls.__module__, cls.__doc__ = (
        base.__name__,
        base.__qualname__,
        base.__module__,
        base.__doc__,
    )
    return cls


def _plain(result: Any) -> Any:
    """Rewrite the result of `__reduce_ex__` for the base class: copies record nothing."""
    if result[0] is not __newobj__:
        return result  # the class has its own way to be copied
    _, (cls, *args), state, *rest = result
    if "_handoff_plain" in vars(cls):
        cls = cls.__bases__[-1]
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != _ATTRIBUTE}
    # A partial: pickle compares the classes if the function is `__newobj__` itself.
    return partial(__newobj__, cls), tuple(args), state, *rest


# ---- classes written in C


def _delegate(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # pytest then shows the caller's line
        try:
            return getattr(self._handoff_inner, name)(*args, **kwargs)
        except (ValueError, OSError) as error:
            if _is_closed(self._handoff_inner, self._handoff_upload):
                self._handoff_upload.explain(error)
            raise

    method.__name__ = name
    return method


def _closed(self: Any) -> Any:
    return self._handoff_upload.observe_closed_read(self._handoff_inner.closed)


def _is_closed(stream: Any, upload: UploadedFile) -> bool:
    try:
        return bool(stream.closed)
    except AttributeError:  # a class of the app's own may lack the attribute
        return upload.closing is not None
    except ValueError:  # detached: its errors say so and need no note
        return False


def _close(self: Any) -> None:
    if self._handoff_upload.closing is None and not _is_closed(self._handoff_inner, self._handoff_upload):
        self._handoff_upload.observe_close()
    state = self.__dict__
    if "read" in state:
        for name in _DIRECT:
            state.pop(name, None)
    self._handoff_inner.close()


def _record(file: Any) -> RequestRecord:
    record: RequestRecord = file._handoff_upload.record  # noqa: SLF001 - an attribute of this module
    return record


def _attribute(name: str) -> property:
    def get(self: Any) -> Any:
        return getattr(self._handoff_inner, name)

    return property(get)


def _marks_collected(find: Callable[[Any], Any]) -> property:
    """Return a property for `_dealloc_warn`, which a wrapper reads before it closes the file.

    A file on disk has this method, which warns about a missing close; other files may lack it.
    """

    def get(self: Any) -> Any:
        self._handoff_upload.observe_collection()
        return find(self)

    return property(get)


def _enter(self: Any) -> Any:
    __tracebackhide__ = True  # for pytest, see `_delegate`
    _delegate("__enter__")(self)
    return self


def _exit(self: Any, *_error: object) -> None:
    self.close()


_reduced = _delegate("__reduce_ex__")  # a closed file cannot be copied


def _reduce(self: Any, protocol: Any) -> Any:
    __tracebackhide__ = True  # for pytest, see `_delegate`
    return _plain(_reduced(self, protocol))


def _make_stand_in(cls: type) -> Any:
    namespace: dict[str, Any] = {name: _delegate(name) for name in _METHODS if hasattr(cls, name)}
    namespace |= {name: _attribute(name) for name in ("mode", "name", "raw", "closefd") if hasattr(cls, name)}
    namespace |= {
        "closed": property(_closed),
        "_dealloc_warn": _marks_collected(lambda self: self._handoff_inner._dealloc_warn),  # noqa: SLF001 - the hook of `io`
        "__iter__": _iter,
        "__next__": _next,
        "__enter__": _enter,
        "__exit__": _exit,
        "__repr__": lambda self: repr(self._handoff_inner),
        "__sizeof__": lambda self: self._handoff_inner.__sizeof__(),
        "__reduce_ex__": _reduce,
        "__getattr__": lambda self, name: getattr(self._handoff_inner, name),
        "__del__": lambda _self: None,  # the file closes itself
        "close": CloseDescriptor(_close, _record),
        "_handoff_plain": True,
    }
    return copy_identity(type(cls.__name__, (cls,), namespace), cls)


def _iter(self: Any) -> Any:
    __tracebackhide__ = True  # for pytest, see `_delegate`
    _check(self)
    return self  # like a file: it continues from the position after a seek, and threads may share it


_check = _delegate("__iter__")  # raises if the file is closed


def _next(self: Any) -> Any:
    """Return the next line, faster than `_delegate`: a CSV table has many lines."""
    try:
        return next(self._handoff_inner)
    except (ValueError, OSError) as error:
        __tracebackhide__ = True  # for pytest, see `_delegate`
        if _is_closed(self._handoff_inner, self._handoff_upload):
            self._handoff_upload.explain(error)
        raise


_STAND_INS: dict[type, Any] = {
    cls: _make_stand_in(cls) for cls in (io.BytesIO, io.BufferedRandom, io.BufferedReader, io.FileIO)
}


def _stand_in(stream: Any, upload: UploadedFile) -> Any:
    cls = _STAND_INS[type(stream)]
    made = cls.__new__(cls)
    state = made.__dict__
    state["_handoff_inner"], state[_ATTRIBUTE] = stream, upload
    return made


def _direct_stand_in(stream: Any, upload: UploadedFile) -> Any:
    """Return a stand-in whose most called methods are the file's own until the close.

    Use it for the file of a SpooledTemporaryFile, which looks the method up again for each call.
    """
    made = _stand_in(stream, upload)
    state = made.__dict__
    for name in _DIRECT:
        state[name] = getattr(stream, name)
    return made


# ---- SpooledTemporaryFile


def _spooled(cls: Any) -> Any:
    """Return a class of spooled files whose inner file is always a stand-in."""

    class Spooled(HiddenSubclass, cls):  # type: ignore[misc] # known at run time only
        _handoff_plain = True
        _file: Any

        def rollover(self) -> None:
            super().rollover()
            if type(self._file) in _STAND_INS:
                self._file = _direct_stand_in(self._file, self._handoff_upload)

        close = CloseDescriptor(cls.close, _record)

        def __del__(self) -> None:
            if not getattr(self._file, "_handoff_inner", self._file).closed:  # nothing else needs the stand-in's checks
                super().__del__()

        def __enter__(self) -> Any:
            __tracebackhide__ = True  # for pytest, see `_delegate`
            try:
                return super().__enter__()
            except ValueError as error:
                self._handoff_upload.explain(error)
                raise

        @_marks_collected
        def _dealloc_warn(self) -> Any:
            return super()._dealloc_warn

    return copy_identity(Spooled, cls)


# ---- the frameworks' objects around a file, and their requests


def become(value: Any, subclass: Callable[[Any], Any]) -> None:
    """Make an object of a framework an instance of its class's generated subclass, once."""
    try:
        object.__setattr__(value, "__class__", _class_of(type(value), subclass))
    except Exception:  # noqa: BLE001 - a class of the app's own may forbid the change
        return


def explain_storage(file: Any) -> None:
    """Make a FileStorage record where its `close` is read; `explained` handles its stream."""
    become(file, _storage)


def _storage(cls: Any) -> Any:
    is_storage = any(base.__module__ in FILE_MODULES for base in cls.__mro__)
    return upload_class(cls, "stream") if is_storage else cls


def upload_class(cls: Any, attribute: str) -> Any:
    """Return a subclass of a framework's upload, whose attribute holds an explained file."""

    class Upload(HiddenSubclass, cls):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        close = CloseDescriptor(cls.close, record_in(attribute))

    return copy_identity(Upload, cls)


def record_in(attribute: str) -> Callable[[Any], RequestRecord]:
    """Return a function that finds the record of an upload, whose attribute holds an explained file."""
    return lambda upload: _record(getattr(upload, attribute))


def observe_collection(file: Any) -> None:
    """Record that Python is collecting a wrapper around the upload of this explained file."""
    file._handoff_upload.observe_collection()  # noqa: SLF001 - an attribute of this module


def set_taken(file: Any, taken: Stack) -> None:
    """Record the calls that read the coroutine function that closes an explained file."""
    upload: UploadedFile = file._handoff_upload  # noqa: SLF001 - an attribute of this module
    upload.taken = taken


# ---- NamedTemporaryFile


def _named_temporary_file(stream: Any, upload: UploadedFile) -> Any:
    """Replace the inner file of the stream and its closer, and drop cached methods."""
    inner = _stand_in(stream.file, upload)
    for name in _METHODS:
        vars(stream).pop(name, None)
    stream.file = stream._closer.file = inner  # noqa: SLF001 - the object that closes the file
    vars(stream)[_ATTRIBUTE] = upload
    return stream


# ---- an app's own classes


def _watch(self: Any, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method; record the file's close by it, explain a closed file's error."""
    __tracebackhide__ = True  # for pytest, see `_delegate`
    if name == "close" and self._handoff_upload.closing is None and not _is_closed(self, self._handoff_upload):
        self._handoff_upload.observe_close()
    try:
        return method(*args, **kwargs)
    except (ValueError, OSError) as error:
        if _is_closed(self, self._handoff_upload):
            self._handoff_upload.explain(error)
        raise


def _closed_of_its_own(closed: Any) -> property:
    def get(self: Any) -> Any:
        return self._handoff_upload.observe_closed_read(closed.__get__(self, type(self)))

    return property(get, closed.__set__)


def _subclass(cls: Any) -> Any:
    """Return a subclass whose methods add the note to their errors.

    The methods may be inherited, or found by `__getattr__`.
    """
    made: list[Any] = []

    def watched(name: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True  # for pytest, see `_delegate`
            return _watch(self, name, getattr(super(made[0], self), name), *args, **kwargs)

        method.__name__ = name
        return method

    def find(self: Any, name: str) -> Any:
        value = super(made[0], self).__getattr__(name)
        if name == "closed":
            return self._handoff_upload.observe_closed_read(value)
        return partial(_watch, self, name, value) if name in (*_METHODS, "close") and callable(value) else value

    reduced = watched("__reduce_ex__")
    names = (*_METHODS, "__iter__", "close")
    namespace: dict[str, Any] = {name: watched(name) for name in names if hasattr(cls, name)}
    if "close" in namespace:
        namespace["close"] = CloseDescriptor(namespace["close"], _record)
    namespace["__reduce_ex__"] = lambda self, protocol: _plain(reduced(self, protocol))
    namespace["_dealloc_warn"] = _marks_collected(lambda self: super(made[0], self)._dealloc_warn)
    closed = getattr_static(cls, "closed", None)
    if hasattr(type(closed), "__set__"):  # otherwise `closed` is a plain attribute
        namespace["closed"] = _closed_of_its_own(closed)
    if hasattr(cls, "__getattr__"):
        namespace["__getattr__"] = find
    namespace["_handoff_plain"] = True
    made.append(copy_identity(type(cls)(cls.__name__, (HiddenSubclass, cls), namespace), cls))
    return made[0]
