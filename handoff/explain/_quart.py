"""The request class for a Quart app: its own, with files that explain themselves."""

from typing import Any

import quart
from werkzeug.datastructures import iter_multi_items

from handoff.explain.files import Unannounced
from handoff.explain.watching import (
    Parser,
    begin_close,
    end_close,
    explain_error,
    explain_files,
    explained_class,
    finish,
)


def explain(app: Any) -> None:
    """Give the app a request class whose files explain themselves, and hear of errors that they cannot reach."""
    app.request_class = explained_class(app.request_class, _subclass)
    quart.got_request_exception.connect(_error_raised, app)


async def _error_raised(_app: Any, exception: BaseException, **_more: object) -> None:
    if quart.has_request_context():
        request: Any = quart.request
        explain_error(request._get_current_object(), exception)  # noqa: SLF001 - documented, for all its underscore


class _Parser(Parser):
    async def parse(self, *args: Any, **kwargs: Any) -> Any:
        form, files = await self._inner.parse(*args, **kwargs)
        explain_files(self._request, iter_multi_items(files))
        return form, files


def _subclass(base: Any) -> Any:
    class Request(Unannounced, base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        def make_form_data_parser(self) -> Any:
            return _Parser(super().make_form_data_parser(), self)

        async def close(self) -> None:
            closing = begin_close(self)
            try:
                await super().close()
            finally:
                end_close(self, closing)

    return finish(Request, base)
