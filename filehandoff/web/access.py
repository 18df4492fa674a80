"""The scope and the limits of each route, checked before a request's body is read."""

from collections.abc import Sequence

from filehandoff.errors import Unauthorized
from filehandoff.identity import DELETE, READ, UPLOAD, Identity
from filehandoff.keys import USER
from filehandoff.quotas import Account, Limit, sender_of
from filehandoff.service import Service
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
    "get_strategies": None,
    "healthz": None,
    "readyz": None,
    "get_metrics": None,
    "get_openapi": None,
}
#: The views whose requests count against `UPLOAD_RATE` and `UPLOAD_QUOTA`.
LIMITED = frozenset({"upload", "upload_by", "put", "presign", "complete", "show_cause"})


def needed_scope(request: RequestValues) -> str | None:
    """Return the scope that a request needs; None if all senders may make it.

    A preflight request never has credentials (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials). A route
    that does not exist has nothing to protect.
    """
    view = _view(request)
    return SCOPE_OF[view] if view else None


def account_of(request: RequestValues, limits: Sequence[Limit]) -> Account | None:
    """Return the counters of a request's sender; None if the request counts against no limit."""
    if not limits or _view(request) not in LIMITED:
        return None
    return Account(limits, sender_of(request.identity.name, request.client_address))


def _view(request: RequestValues) -> str:
    """Return the name of a request's view; empty for a preflight request or an unknown route."""
    return "" if request.method == "OPTIONS" else (request.endpoint or "").rpartition(".")[2]


def check(service: Service, identity: Identity | None, scope: str) -> Identity:
    """Return the identity that an app's `authenticate` has found, if it has this scope.

    Raises:
        Unauthorized: there is none, or it has no name where keys hold one.
        Forbidden: it lacks the scope.
    """
    if identity is None:
        raise Unauthorized("The service does not know the sender.")
    if not identity.name and USER in service.settings.key_prefix:
        raise Unauthorized("The sender has no name, and each object here belongs to a name.")
    identity.require(scope)
    return identity
