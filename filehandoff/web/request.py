"""A base class for both apps' requests, beside the framework's own class."""

import time
from abc import abstractmethod
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from filehandoff.chunked import check_whole
from filehandoff.errors import FormMalformed
from filehandoff.form import FormParser
from filehandoff.http import REQUEST_ID_HEADER, request_id
from filehandoff.identity import ANYONE, Identity, RequestHead
from filehandoff.quotas import Account
from filehandoff.settings import Settings
from filehandoff.web.addresses import client_address

if TYPE_CHECKING:
    from filehandoff.tracing import RequestTrace

#: The key of an app's service in `app.extensions`.
EXTENSION = "filehandoff"


class RequestValues:
    """A request's id, its preferences, and a parser for its form.

    It uses the attributes that both frameworks have from Werkzeug: `headers`, `args`, `content_length` and so on.

    Attributes:
        arrived: the time of arrival, by `time.perf_counter`.
        until_answered: resources to release after the response, or after the client has disconnected.
        files_in_order: pairs of field name and file, in the form's order.
        identity: the sender.
        account: the sender's counters; None if the request counts against no limit.
        trace: the request's span; None without traces.
    """

    method: str
    path: str
    endpoint: str | None
    view_args: dict[str, Any] | None
    url_rule: Any
    mimetype: Any
    scheme: str
    host: str
    headers: Any
    args: Any
    content_length: int | None
    accept_mimetypes: Any
    remote_addr: str | None

    identity: Identity = ANYONE
    account: Account | None = None
    trace: "RequestTrace | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrived = time.perf_counter()
        self.until_answered = ExitStack()
        self.files_in_order: list[tuple[str, Any]] = []

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """The headers' values by lowercase names: Werkzeug raises and catches an error for each missing header."""
        fields: dict[str, list[str]] = {}
        for name, value in self.headers:
            fields.setdefault(name.lower(), []).append(value)
        return fields

    def field(self, name: str) -> str:
        """Return the first value of a header; empty without one. `name` is in lower case."""
        return self.fields.get(name, [""])[0]

    @cached_property
    def request_id(self) -> str:
        """The client's `X-Request-Id`, or a new id."""
        return request_id(self.field(REQUEST_ID_HEADER.lower()))

    @property
    @abstractmethod
    def _settings(self) -> Settings:
        """The settings of the app."""

    @cached_property
    def client_address(self) -> str:
        """The client's IP address by `filehandoff.web.addresses`; empty if unknown."""
        trusted = self._settings.trusted_proxies
        return client_address(self.remote_addr, self.headers.getlist("X-Forwarded-For") if trusted else (), trusted)

    @property
    def page_origin(self) -> str | None:
        """The header `Origin`; several lines are one value, which no origin equals."""
        return ", ".join(self.fields["origin"]) if "origin" in self.fields else None

    @property
    def head(self) -> RequestHead:
        """The values that identify the sender."""
        return RequestHead(self.method, self.path, self.headers)

    @property
    def coding(self) -> str:
        """The `Content-Encoding` header, or an empty string."""
        return ", ".join(self.fields.get("content-encoding", ()))

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return bool(self.content_length) or "transfer-encoding" in self.fields

    @property
    def wants_page(self) -> bool:
        """Whether the client is a browser, which prefers HTML to JSON."""
        if self.field("accept") in {"", "*/*"}:  # most programs; parsing costs time
            return False
        return bool(self.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html")

    def parser_for(self, settings: Settings) -> FormParser:
        """Return a parser for this request's form.

        Raises:
            FormError: the head alone shows that the form is invalid.
        """
        if len(self.fields.get("content-type", ())) > 1:
            raise FormMalformed("The request has several Content-Type headers.")  # gunicorn rejects it earlier
        parser = FormParser.of(self.field("content-type"), self.content_length, settings.limits, self.coding)
        check_whole(self.field("content-range"), self.args.items(multi=True))
        return parser

    def files_to_store(self, settings: Settings) -> list[Any]:
        """Return the parsed form's files in the fields that the settings name."""
        return [file for name, file in self.files_in_order if settings.limits.is_file_field(name)]
