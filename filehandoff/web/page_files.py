"""The pages at `/` and `/docs`, and the files that they load.

The files come from this package, and those of Swagger UI from the package that brings them: no page needs a build or
another address. The policy (CSP3) of `/` lets it run and load these files alone, and connect to this app, to the store
and, if the settings name it, to the other app.
"""

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from filehandoff.causes import CAUSES
from filehandoff.errors import NotFound
from filehandoff.http import CACHE_CONTROL
from filehandoff.service import Service
from filehandoff.settings import Settings

#: The pages, templates: each `{{name}}` in them stands for a value of the service.
INDEX, DOCS = "index.html", "docs.html"
#: The fixes of the causes, made of the explainer's pages.
FIXES = "fixes.json"
#: The media type of a file by the end of its name.
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}
#: The hosts of presigned URLs without an endpoint in the settings; a policy's wildcard stands for any depth.
AWS_ORIGINS = ("https://*.amazonaws.com", "https://*.amazonaws.com.cn")

#: The package that brings Swagger UI, and those of its files that the page at `/docs` loads.
VIEWER = "flask_swagger_ui"
VIEWER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
#: The policy of that page: Swagger UI needs only the images in its own style sheet besides.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)

_VALUE = re.compile(r"{{(\w+)}}")
#: A section of an explainer's page, and a tab in it: the framework and its code.
_SECTION = re.compile(r"^## This (fails|works)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_TAB = re.compile(r":::\{tab\} (\w+)\n```python\n(.*?)\n```", re.DOTALL)


class File(NamedTuple):
    """A file for a browser, whose ETag is a digest of its bytes."""

    body: bytes
    content_type: str

    @property
    def etag(self) -> str:
        """A strong ETag."""
        digest = hashlib.sha256(self.body + self.content_type.encode()).digest()[:18]
        return f'"{base64.urlsafe_b64encode(digest).decode("ascii")}"'

    def headers(self, policy: str) -> dict[str, str]:
        """Return the response's headers, with this Content-Security-Policy."""
        return {
            "Content-Type": self.content_type,
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": CACHE_CONTROL,
            "ETag": self.etag,
        }


def content_type(name: str) -> str:
    """Return the media type of a file by its name."""
    return TYPES[name.rpartition(".")[2]]


@cache
def _folder() -> Mapping[str, File]:
    folder = files("filehandoff.web").joinpath("page")
    return {one.name: File(one.read_bytes(), content_type(one.name)) for one in folder.iterdir() if one.is_file()}


@cache
def page_files() -> Mapping[str, File]:
    """Return the files that the pages load, by their names."""
    found = {name: file for name, file in _folder().items() if name not in {INDEX, DOCS}}
    return found | {FIXES: File(json.dumps(fixes(), ensure_ascii=False).encode(), TYPES["json"])}


@cache
def viewer_files() -> Mapping[str, File]:
    """Return the files of Swagger UI.

    Raises:
        NotFound: the package is not installed.
    """
    spec = find_spec(VIEWER)  # the package itself is a blueprint for Flask, which this app does not import
    if spec is None or spec.origin is None:
        raise NotFound(
            "The viewer of the API is not installed: pip install 'filehandoff[docs-viewer]'. The description itself "
            "is at /openapi.json."
        )
    folder = Path(spec.origin).parent / "dist"
    return {name: File((folder / name).read_bytes(), content_type(name)) for name in VIEWER_FILES}


def index(service: Service) -> File:
    """Return the page at `/`."""
    return _fill(INDEX, service)


def docs(service: Service) -> File:
    """Return the page at `/docs`.

    Raises:
        NotFound: the viewer is not installed.
    """
    viewer_files()
    return _fill(DOCS, service)


def _fill(name: str, service: Service) -> File:
    """Return a page with the values of this service."""
    values = {
        "root_path": service.settings.root_path,
        "framework": service.framework,
        "other_app_url": service.settings.other_app_url or "",
        "authentication": authentication(service),
    }
    page = _folder()[name]
    text = _VALUE.sub(lambda match: escape(values[match[1]]), page.body.decode())
    return page._replace(body=text.encode())


def authentication(service: Service) -> str:
    """Return how a client proves its identity: `none`, `bearer`, `jwt` or `custom`; the page shows a field for it."""
    if service.authenticate is None:
        return "none"
    return service.settings.auth if service.settings.auth != "none" else "custom"


def policy(settings: Settings) -> str:
    """Return the Content-Security-Policy of the page."""
    others = [origin(settings.other_app_url)] if settings.other_app_url else []
    connect = " ".join(["'self'", *store_origins(settings), *others])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    )


def store_origins(settings: Settings) -> list[str]:
    """Return the sources of a policy that presigned URLs lead to; a bucket may be a subdomain of the endpoint."""
    endpoint = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    if endpoint is None:
        return list(AWS_ORIGINS)
    found = origin(endpoint)
    scheme, _, host = found.partition("://")
    return [found] if _is_address(urlsplit(endpoint).hostname) else [found, f"{scheme}://*.{host}"]


def origin(url: str) -> str:
    """Return the origin (RFC 6454) of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def fixes() -> dict[str, dict[str, object]]:
    """Return each cause's title and explanation, with the code that `fails` and the code that `works` by framework."""
    pages = files("filehandoff.explain").joinpath("pages")
    found: dict[str, dict[str, object]] = {}
    for name, cause in CAUSES.items():
        page = pages.joinpath(f"{name.replace('_', '-')}.md").read_text("utf-8")
        title = page.partition("\n")[0].removeprefix("# ")
        found[name] = {"title": title, "explanation": cause.explanation, "code": _code(page)}
    return found


def _code(page: str) -> dict[str, dict[str, str]]:
    """Return the code of an explainer's page, by framework and outcome."""
    found: dict[str, dict[str, str]] = {}
    for outcome, section in _SECTION.findall(page):
        for framework, code in _TAB.findall(section):
            found.setdefault(framework.lower(), {})[outcome] = code
    return found
