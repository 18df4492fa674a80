"""The hosts, origins, scopes and limits of requests, checked before a body is read."""

from collections.abc import Sequence

from filehandoff.errors import HostNotAllowed, NotFound, OriginNotAllowed, Unauthorized
from filehandoff.identity import DELETE, READ, UPLOAD, Identity
from filehandoff.keys import USER
from filehandoff.origins import SAFE_METHODS, is_allowed_host, is_foreign
from filehandoff.quotas import Account, Limit, sender_of
from filehandoff.service import Service
from filehandoff.settings import ROUTE_SETTINGS, Settings
from filehandoff.web.cors import allows_origin
from filehandoff.web.request import RequestValues

#: The scope of each route by the name of its view; None: open to all.
SCOPE_OF: dict[str, str | None] = {
    "upload": UPLOAD,
    "upload_by": UPLOAD,
    "put": UPLOAD,
    "presign": UPLOAD,
    "presign_parts": UPLOAD,
    "abort_presigned": UPLOAD,
    "complete": UPLOAD,
    "show_cause": UPLOAD,
    "get_object": READ,
    "get_receipts": READ,
    "delete_object": DELETE,
    "create_upload": UPLOAD,
    "upload_options": None,
    "get_upload": UPLOAD,
    "patch_upload": UPLOAD,
    "delete_upload": UPLOAD,
    "override": UPLOAD,
    "get_strategies": None,
    "healthz": None,
    "readyz": None,
    "get_metrics": None,
    "get_openapi": None,
    "get_page": None,
    "get_page_file": None,
    "get_docs": None,
    "get_docs_file": None,
}
#: The views whose requests count against `UPLOAD_RATE` and `UPLOAD_QUOTA`.
LIMITED = frozenset({"upload", "upload_by", "put", "presign", "complete", "show_cause", "create_upload"})
#: The views whose bytes count against `UPLOAD_QUOTA`.
METERED = LIMITED | {"patch_upload", "override"}
#: The setting that closes a view, or asks another scope for it.
SETTING_OF = {"show_cause": "causes", "get_strategies": "strategies", "get_metrics": "metrics"}
#: The views that respond by every name: a load balancer asks by an address.
OF_ANY_HOST = frozenset({"healthz", "readyz"})


def check_host(settings: Settings, request: RequestValues) -> None:
    """Check a request's `Host`.

    Raises:
        HostNotAllowed: it is not one of `UPLOAD_HOSTS`.
    """
    if settings.hosts and _view(request) not in OF_ANY_HOST:
        host = request.headers.get("Host", "")
        if not is_allowed_host(host, settings.hosts):
            raise HostNotAllowed(host)


def check_origin(settings: Settings, request: RequestValues) -> None:
    """Check the origin of a request that may change something, if the service allows other origins at all.

    Browsers send some requests without a preflight, such as a form's, and add the cookies of a proxy in front.

    Raises:
        OriginNotAllowed: a page of another origin has made it.
    """
    if not settings.cors_origins or request.method in SAFE_METHODS:
        return
    origin, site = request.page_origin, request.headers.get("Sec-Fetch-Site")
    own_hosts = [request.host, (settings.public_url or "").partition("://")[2].partition("/")[0]]
    if not allows_origin(settings, origin) and is_foreign(origin, site, own_hosts):
        raise OriginNotAllowed(origin)


def needed_scope(settings: Settings, request: RequestValues) -> str | None:
    """Return the scope that a request needs; None if all senders may make it.

    A preflight request never has credentials (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials). A route
    that does not exist has nothing to protect.

    Raises:
        NotFound: a setting closes the route.
    """
    view = _view(request)
    # A closed route exists for no method, and the router finds no view for the methods that a route does not have.
    name = (
        SETTING_OF.get(view) if view else request.path.removeprefix(settings.routes_path).strip("/").partition("/")[0]
    )
    value = getattr(settings, name) if name in ROUTE_SETTINGS else "on"
    if value == "off":
        raise NotFound("There is nothing at this address.")
    if not view or request.method == "OPTIONS":
        return None
    return SCOPE_OF[view] if value == "on" else value


def account_of(request: RequestValues, limits: Sequence[Limit]) -> Account | None:
    """Return the counters of a request's sender; None if the request counts against no limit."""
    if not limits or request.method == "OPTIONS" or _view(request) not in METERED:
        return None
    return Account(limits, sender_of(request.identity.name, request.client_address))


def uploads_in(request: RequestValues) -> int:
    """Return the number of uploads that a request begins."""
    return int(_view(request) in LIMITED)


def _view(request: RequestValues) -> str:
    """Return the name of a request's view; empty for an unknown route."""
    return (request.endpoint or "").rpartition(".")[2]


def identify(service: Service, request: RequestValues, identity: Identity | None, scope: str) -> None:
    """Make an identity that an app's `authenticate` has found the request's sender, if it has this scope.

    Raises:
        Unauthorized: there is none, or it has no name where keys hold one.
        Forbidden: it lacks the scope.
    """
    if identity is None:
        raise Unauthorized("The service does not know the sender.")
    if not identity.name and USER in service.settings.key_prefix:
        raise Unauthorized("The sender has no name, and each object here belongs to a name.")
    request.identity = identity  # also of a refused sender, for the audit log
    identity.require(scope)
