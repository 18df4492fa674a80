"""Stand-ins for files of classes written in C, which forbid a change of their class."""

import io
from collections.abc import Callable
from typing import Any

from filehandoff.explain.subclasses import copy_identity, without_recording
from filehandoff.explain.taking import CloseDescriptor
from filehandoff.explain.upload import ATTRIBUTE, METHODS, UploadedFile, is_closed, marks_collected, record_of_file

#: The methods that an upload calls most.
_DIRECT = ("read", "seek", "tell", "readline", "seekable")


def _delegate(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # pytest then shows the caller's line
        try:
            return getattr(self._handoff_inner, name)(*args, **kwargs)
        except (ValueError, OSError) as error:
            if is_closed(self._handoff_inner, self._handoff_upload):
                self._handoff_upload.explain(error)
            raise

    method.__name__ = name
    return method


def _closed(self: Any) -> Any:
    return self._handoff_upload.observe_closed_read(self._handoff_inner.closed)


def _close(self: Any) -> None:
    if self._handoff_upload.closing is None and not is_closed(self._handoff_inner, self._handoff_upload):
        self._handoff_upload.observe_close()
    state = self.__dict__
    if "read" in state:
        for name in _DIRECT:
            state.pop(name, None)
    self._handoff_inner.close()


def _attribute(name: str) -> property:
    def get(self: Any) -> Any:
        return getattr(self._handoff_inner, name)

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
    return without_recording(_reduced(self, protocol))


def _make_stand_in(cls: type) -> Any:
    namespace: dict[str, Any] = {name: _delegate(name) for name in METHODS if hasattr(cls, name)}
    namespace |= {name: _attribute(name) for name in ("mode", "name", "raw", "closefd") if hasattr(cls, name)}
    namespace |= {
        "closed": property(_closed),
        "_dealloc_warn": marks_collected(lambda self: self._handoff_inner._dealloc_warn),  # noqa: SLF001 - the hook of `io`
        "__iter__": _iter,
        "__next__": _next,
        "__enter__": _enter,
        "__exit__": _exit,
        "__repr__": lambda self: repr(self._handoff_inner),
        "__sizeof__": lambda self: self._handoff_inner.__sizeof__(),
        "__reduce_ex__": _reduce,
        "__getattr__": lambda self, name: getattr(self._handoff_inner, name),
        "__del__": lambda _self: None,  # the file closes itself
        "close": CloseDescriptor(_close, record_of_file),
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
        if is_closed(self._handoff_inner, self._handoff_upload):
            self._handoff_upload.explain(error)
        raise


#: The stand-in of each class.
STAND_INS: dict[type, Any] = {
    cls: _make_stand_in(cls) for cls in (io.BytesIO, io.BufferedRandom, io.BufferedReader, io.FileIO)
}


def stand_in(stream: Any, upload: UploadedFile) -> Any:
    """Return a stand-in for a file, which records its close."""
    cls = STAND_INS[type(stream)]
    made = cls.__new__(cls)
    state = made.__dict__
    state["_handoff_inner"], state[ATTRIBUTE] = stream, upload
    return made


def direct_stand_in(stream: Any, upload: UploadedFile) -> Any:
    """Return a stand-in whose most called methods are the file's own until the close.

    Use it for the file of a SpooledTemporaryFile, which looks the method up again for each call.
    """
    made = stand_in(stream, upload)
    state = made.__dict__
    for name in _DIRECT:
        state[name] = getattr(stream, name)
    return made
