"""A request without a server: the values that both apps read, on Werkzeug's request without I/O."""

from urllib.parse import urlsplit

from werkzeug.datastructures import Headers
from werkzeug.sansio.request import Request as SansioRequest

from filehandoff.settings import Settings
from filehandoff.web.request import RequestValues


class Request(RequestValues, SansioRequest):
    """A request of values alone, to an app with the default settings."""

    _settings = Settings()
    endpoint = view_args = url_rule = None


def make_request(
    method: str = "GET",
    target: str = "/",
    headers: dict[str, str | list[str]] | None = None,
    remote_addr: str | None = None,
) -> Request:
    """Make a request to `http://host:8080`; a header with a list of values comes on several lines."""
    url = urlsplit(target)
    return Request(
        method=method,
        scheme="http",
        server=("host", 8080),
        root_path="",
        path=url.path,
        query_string=url.query.encode(),
        headers=Headers({"Host": "host:8080", **(headers or {})}),
        remote_addr=remote_addr,
    )
