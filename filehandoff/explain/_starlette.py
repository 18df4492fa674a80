"""A middleware for a Starlette or FastAPI app, whose uploads explain their close.

An app of these has no request class of its own. The middleware is the innermost one of the app, so the request itself
calls its `receive`: that call finds the request and makes it a subclass.
"""

import sys
from contextlib import suppress
from itertools import islice
from types import FrameType
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request

from filehandoff.explain.closing import RequestRecord
from filehandoff.explain.files import record_in, set_taken
from filehandoff.explain.subclasses import HiddenSubclass, become, copy_identity
from filehandoff.explain.taking import CloseDescriptor, TakenClose
from filehandoff.explain.waiting import frames
from filehandoff.explain.watching import FileKind, awaited_close, begin_record, explain_files, record_of

#: Most calls between the request and the middleware's `receive`.
_CALLS = 4
_FORM = b"multipart/form-data"


def explain(app: Any) -> None:
    """Add the middleware as the app's innermost one."""
    if any(one.cls is _ExplainUploads for one in app.user_middleware):
        return
    if app.middleware_stack is not None:
        raise RuntimeError("explain_closed_files must be called before the app handles its first request")
    app.user_middleware.append(Middleware(_ExplainUploads))


class _ExplainUploads:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_form = any(name == b"content-type" and value.startswith(_FORM) for name, value in scope.get("headers", ()))
        await self._app(scope, _explained(receive) if is_form else receive, send)


def _explained(receive: Any) -> Any:
    record = RequestRecord()

    async def explained_receive() -> Any:
        with suppress(Exception):  # the app's request must go on
            _explain_request(sys._getframe(1), record)  # noqa: SLF001 - its callers include the request
        return await receive()

    return explained_receive


def _explain_request(frame: FrameType, record: RequestRecord) -> None:
    callers = (one.f_locals.get("self") for one in islice(frames(frame), _CALLS))
    request = next((caller for caller in callers if isinstance(caller, Request)), None)
    if request is not None:
        begin_record(request, record)
        become(request, _request)


def _request(base: Any) -> Any:
    """Return a subclass that sees its form as soon as it is parsed."""

    class ExplainedRequest(base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        @property
        def _form(self) -> Any:
            return vars(self)["_form"]

        @_form.setter
        def _form(self, form: Any) -> None:
            self.__dict__["_form"] = form
            with suppress(Exception):  # the app's request must go on
                begin_record(form, record_of(self))
                explain_files(form, form.multi_items(), _UPLOAD_FILE)
                become(form, _form)

    return copy_identity(ExplainedRequest, base)


def _form(base: Any) -> Any:
    class Form(base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True
        close = awaited_close(base)

    return copy_identity(Form, base)


def _upload_file(base: Any) -> Any:
    class UploadFile(HiddenSubclass, base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        async def _handoff_close(self, taken: TakenClose | None = None) -> None:
            if taken is not None:
                set_taken(self.file, taken.stack)
            await super().close()

        close = CloseDescriptor(_handoff_close, record_in("file"), awaited=True)

    return copy_identity(UploadFile, base)


_UPLOAD_FILE = FileKind("file", "filename", lambda file: become(file, _upload_file))
