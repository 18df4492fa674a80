"""What both apps read of a request in the same way: a class to inherit from, beside the framework's own request."""

import time
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from filehandoff.chunked import check_whole
from filehandoff.errors import FormMalformed
from filehandoff.form import FormParser
from filehandoff.http import REQUEST_ID_HEADER, request_id
from filehandoff.settings import Settings

#: The key of an app's service in `app.extensions`.
EXTENSION = "filehandoff"


class RequestValues:
    """The request's id, its wishes, and a parser for its form.

    Werkzeug's names, which both frameworks' requests have: `headers`, `args`, `content_length`, `accept_mimetypes`.

    Attributes:
        arrived: when the request arrived, by `time.perf_counter`.
        until_answered: resources that the request holds until its answer is sent or its client has left.
        files_in_order: the form's files by their fields' names, in the order of the form.
    """

    method: str
    mimetype: Any
    host_url: Any
    headers: Any
    args: Any
    content_length: int | None
    accept_mimetypes: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrived = time.perf_counter()
        self.until_answered = ExitStack()
        self.files_in_order: list[tuple[str, Any]] = []

    @cached_property
    def request_id(self) -> str:
        """The client's `X-Request-Id`, or a new one."""
        return request_id(self.headers.get(REQUEST_ID_HEADER))

    @property
    def coding(self) -> str:
        """The `Content-Encoding`, empty if there is none."""
        return ", ".join(self.headers.getlist("Content-Encoding"))

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return bool(self.content_length) or "Transfer-Encoding" in self.headers

    @property
    def wants_page(self) -> bool:
        """Whether a browser navigates: it prefers HTML to JSON."""
        return bool(self.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html")

    def parser_for(self, settings: Settings) -> FormParser:
        """Return a parser for this request's form.

        Raises:
            FormError: the head alone shows that the form cannot be taken.
        """
        if len(self.headers.getlist("Content-Type")) > 1:
            raise FormMalformed("The request has several Content-Type headers.")  # gunicorn refuses it before this
        content_type = self.headers.get("Content-Type", "")
        parser = FormParser.of(content_type, self.content_length, settings.limits, self.coding)
        check_whole(self.headers.get("Content-Range"), self.args.items(multi=True))
        return parser

    def files_to_store(self, settings: Settings) -> list[Any]:
        """Return the files of the form, which was parsed, whose fields' names the settings have."""
        return [file for name, file in self.files_in_order if settings.limits.is_file_field(name)]
