"""The headers by which browsers let pages of other origins use the service.

The protocol is CORS (https://fetch.spec.whatwg.org/#http-cors-protocol): a browser asks by a preflight request whether
a page may send a request, and by the headers of each response whether the page may read it.
"""

import re

from filehandoff.http import REQUEST_ID_HEADER
from filehandoff.origins import ANY_ORIGIN, lower
from filehandoff.settings import Settings
from filehandoff.web.request import RequestValues
from filehandoff.web.routes import Answer

#: Seconds for which a browser remembers a preflight's answer; Chromium's limit.
PREFLIGHT_SECONDS = 7200
#: The response headers that pages may read; a `*` inside a name has no meaning, and alone none with credentials.
EXPOSED_HEADERS = (
    *("Location", "Content-Location", "ETag", REQUEST_ID_HEADER, "Retry-After", "WWW-Authenticate", "Allow"),
    *("Accept-Ranges", "Content-Range", "Content-Disposition"),
    *("RateLimit", "RateLimit-Policy"),
    # of resumable uploads (https://tus.io/protocols/resumable-upload)
    *("Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Defer-Length", "Upload-Expires", "Upload-Concat"),
    *("Upload-Checksum", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"),
)

_EXPOSED = ("Access-Control-Expose-Headers", ", ".join(EXPOSED_HEADERS))

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a header's name (RFC 9110, section 5.6.2)
_NAMES = re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*")


def allows_origin(settings: Settings, origin: str | None) -> bool:
    """Return whether pages of an origin may use the service."""
    return settings.allows_any_origin or (origin is not None and lower(origin) in settings.cors_origins)


def preflight_answer(settings: Settings, request: RequestValues, methods: str | None) -> Answer | None:
    """Return the answer to a preflight request for a page of an allowed origin; None for all other requests.

    All requested headers are allowed: such a page may send the same requests as other clients.

    Args:
        settings: the app's settings.
        request: the request.
        methods: the header `Allow` of the framework's own answer to OPTIONS; None if it has another answer.
    """
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if methods is None or not is_preflight or not allows_origin(settings, request.page_origin):
        return None
    allowed = {
        "Access-Control-Allow-Methods": ", ".join(sorted(methods.split(", "))),
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        "Vary": "Access-Control-Request-Headers",
    }
    names = request.headers.get("Access-Control-Request-Headers", "")
    if _NAMES.fullmatch(names):
        allowed["Access-Control-Allow-Headers"] = names
    return Answer(status=204, headers=allowed)


def headers(settings: Settings, request: RequestValues) -> list[tuple[str, str]]:
    """Return the further headers of a response; `Vary` warns caches of responses for other origins.

    Listed origins may send credentials, such as the cookies of a proxy in front; `*` allows all origins, without them.
    """
    if not settings.cors_origins:
        return []
    if settings.allows_any_origin:
        return [("Access-Control-Allow-Origin", ANY_ORIGIN), _EXPOSED]
    if not allows_origin(settings, request.page_origin):
        return [("Vary", "Origin")]
    allowed = ("Access-Control-Allow-Origin", str(request.page_origin))
    return [allowed, ("Access-Control-Allow-Credentials", "true"), _EXPOSED, ("Vary", "Origin")]
