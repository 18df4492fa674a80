"""Requests of a Django handler, whose uploads explain their close."""

from functools import partial
from time import perf_counter
from typing import Any

from filehandoff.explain.files import observe_collection, upload_class
from filehandoff.explain.subclasses import HiddenSubclass, become, copy_identity
from filehandoff.explain.watching import FileKind, explain_files, plain_close, record_of

#: The handler's methods that take a request from their caller, and that a test client's handler has too.
_RESPONDS = ("get_response", "get_response_async")


def explain(handler: Any) -> None:
    """Make every request of the handler a subclass whose files explain their close."""
    for name in _RESPONDS:
        if name not in vars(handler):
            setattr(handler, name, partial(_respond, getattr(handler, name)))


def _respond(respond: Any, request: Any) -> Any:
    become(request, _subclass)
    record_of(request)  # the request begins
    return respond(request)


def _subclass(base: Any) -> Any:
    class Request(HiddenSubclass, base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        @property
        def resolver_match(self) -> Any:
            return vars(self).get("resolver_match")

        @resolver_match.setter
        def resolver_match(self, match: Any) -> None:
            self.__dict__["resolver_match"] = match
            record_of(self).view_began = perf_counter()  # Django resolves the URL just before it calls the view

        def parse_file_upload(self, *args: Any, **kwargs: Any) -> Any:
            post, files = super().parse_file_upload(*args, **kwargs)
            explain_files(self, ((name, file) for name, found in files.lists() for file in found), _UPLOADED_FILE)
            return post, files

        close = plain_close(base)

    return copy_identity(Request, base)


def _uploaded_file(base: Any) -> Any:
    made = upload_class(base, "file")
    made._dealloc_warn = property(_collected)  # noqa: SLF001 - the hook of `io`
    return made


def _collected(upload: Any) -> Any:
    """Record that Python collects a wrapper, which reads this attribute first; Django's class lacks it."""
    observe_collection(upload.file)
    raise AttributeError("_dealloc_warn")


_UPLOADED_FILE = FileKind("file", "name", lambda file: become(file, _uploaded_file))
