"""Turn the form parser's files into files that record their close.

A SpooledTemporaryFile, or a stream of a class of the app's own, stays the same object and gets a subclass as its
class. Classes written in C (BytesIO, BufferedRandom) forbid that, so a stand-in of a subclass wraps their objects.
"""

from collections.abc import Callable
from functools import partial
from inspect import getattr_static
from typing import Any

from filehandoff.explain.closing import FILE_MODULES, RequestRecord, Stack
from filehandoff.explain.stand_ins import STAND_INS, direct_stand_in, stand_in
from filehandoff.explain.subclasses import HiddenSubclass, become, class_of, copy_identity, without_recording
from filehandoff.explain.taking import CloseDescriptor
from filehandoff.explain.upload import ATTRIBUTE, METHODS, UploadedFile, is_closed, marks_collected, record_of_file


def explained(stream: Any, upload: UploadedFile) -> Any:
    """Return the stream to use instead of this one: the same object where possible.

    A class of the app's own may forbid any change; then its stream stays as it is, and explains nothing.
    """
    try:
        return _explained(stream, upload)
    except Exception:  # noqa: BLE001 - the app's class may raise anything, and the app's request must go on
        return stream


def _explained(stream: Any, upload: UploadedFile) -> Any:
    if ATTRIBUTE in getattr(stream, "__dict__", ()):
        return stream
    if type(getattr(stream, "_file", None)) in STAND_INS and hasattr(stream, "rollover"):
        return _become(stream, _spooled, upload, direct_stand_in(stream._file, upload))  # noqa: SLF001 - the file inside
    if type(stream) in STAND_INS:
        return stand_in(stream, upload)
    if hasattr(stream, "_closer") and type(getattr(stream, "file", None)) in STAND_INS:
        return _named_temporary_file(stream, upload)
    return _become(stream, _subclass, upload)


def _become(stream: Any, subclass: Callable[[Any], Any], upload: UploadedFile, file: Any = None) -> Any:
    """Change the object's class to a subclass."""
    state = vars(stream)
    object.__setattr__(stream, "__class__", class_of(type(stream), subclass))  # the class's own __setattr__ may raise
    state[ATTRIBUTE] = upload
    if file is not None:
        state["_file"] = file
    return stream


# ---- SpooledTemporaryFile


def _spooled(cls: Any) -> Any:
    """Return a class of spooled files whose inner file is always a stand-in."""

    class Spooled(HiddenSubclass, cls):  # type: ignore[misc] # known at run time only
        _handoff_plain = True
        _file: Any

        def rollover(self) -> None:
            super().rollover()
            if type(self._file) in STAND_INS:
                self._file = direct_stand_in(self._file, self._handoff_upload)

        close = CloseDescriptor(cls.close, record_of_file)

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

        @marks_collected
        def _dealloc_warn(self) -> Any:
            return super()._dealloc_warn

    return copy_identity(Spooled, cls)


# ---- the frameworks' objects around a file, and their requests


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
    return lambda upload: record_of_file(getattr(upload, attribute))


def observe_collection(file: Any) -> None:
    """Record that Python is collecting a wrapper around the upload of this explained file."""
    file._handoff_upload.observe_collection()  # noqa: SLF001 - an attribute of this package


def set_taken(file: Any, taken: Stack) -> None:
    """Record the calls that read the coroutine function that closes an explained file."""
    upload: UploadedFile = file._handoff_upload  # noqa: SLF001 - an attribute of this package
    upload.taken = taken


# ---- NamedTemporaryFile


def _named_temporary_file(stream: Any, upload: UploadedFile) -> Any:
    """Replace the inner file of the stream and its closer, and drop cached methods."""
    inner = stand_in(stream.file, upload)
    for name in METHODS:
        vars(stream).pop(name, None)
    stream.file = stream._closer.file = inner  # noqa: SLF001 - the object that closes the file
    vars(stream)[ATTRIBUTE] = upload
    return stream


# ---- an app's own classes


def _watch(self: Any, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method; record the file's close by it, explain a closed file's error."""
    __tracebackhide__ = True  # for pytest, see `_delegate`
    if name == "close" and self._handoff_upload.closing is None and not is_closed(self, self._handoff_upload):
        self._handoff_upload.observe_close()
    try:
        return method(*args, **kwargs)
    except (ValueError, OSError) as error:
        if is_closed(self, self._handoff_upload):
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
        return partial(_watch, self, name, value) if name in (*METHODS, "close") and callable(value) else value

    reduced = watched("__reduce_ex__")
    names = (*METHODS, "__iter__", "close")
    namespace: dict[str, Any] = {name: watched(name) for name in names if hasattr(cls, name)}
    if "close" in namespace:
        namespace["close"] = CloseDescriptor(namespace["close"], record_of_file)
    namespace["__reduce_ex__"] = lambda self, protocol: without_recording(reduced(self, protocol))
    namespace["_dealloc_warn"] = marks_collected(lambda self: super(made[0], self)._dealloc_warn)
    closed = getattr_static(cls, "closed", None)
    if hasattr(type(closed), "__set__"):  # otherwise `closed` is a plain attribute
        namespace["closed"] = _closed_of_its_own(closed)
    if hasattr(cls, "__getattr__"):
        namespace["__getattr__"] = find
    namespace["_handoff_plain"] = True
    made.append(copy_identity(type(cls)(cls.__name__, (HiddenSubclass, cls), namespace), cls))
    return made[0]
