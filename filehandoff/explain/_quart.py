"""A subclass of a Quart app's request class, whose files explain their close."""

from typing import Any

from werkzeug.datastructures import iter_multi_items

from filehandoff.explain.subclasses import HiddenSubclass
from filehandoff.explain.watching import Parser, awaited_close, explain_files, explained_class, finish


def explain(app: Any) -> None:
    """Replace the app's request class by a subclass whose files explain their close."""
    app.request_class = explained_class(app.request_class, _subclass)


class _Parser(Parser):
    async def parse(self, *args: Any, **kwargs: Any) -> Any:
        form, files = await self._inner.parse(*args, **kwargs)
        explain_files(self._request, iter_multi_items(files))
        return form, files


def _subclass(base: Any) -> Any:
    class Request(HiddenSubclass, base):  # type: ignore[misc] # known at run time only
        _handoff_plain = True

        def make_form_data_parser(self) -> Any:
            return _Parser(super().make_form_data_parser(), self)

        close = awaited_close(base)

    return finish(Request, base)
