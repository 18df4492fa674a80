"""The audit log: one line for each upload, deletion and refusal, with its sender and outcome.

The lines have a logger of their own, `filehandoff.audit`, so that an operator can send them elsewhere as well.
"""

import logging
from collections.abc import Mapping

from filehandoff.errors import Forbidden, HostNotAllowed, OriginNotAllowed, TooManyRequests, Unauthorized, UploadError
from filehandoff.origins import SAFE_METHODS
from filehandoff.web.request import RequestValues

logger = logging.getLogger("filehandoff.audit")

#: The statuses of refusals by the sender, its page or its address.
REFUSALS = frozenset(
    error.status for error in (Unauthorized, Forbidden, OriginNotAllowed, HostNotAllowed, TooManyRequests)
)


def record(request: RequestValues, outcome: str, **values: object) -> None:
    """Log the outcome of a request that has changed something in S3; add it to the request's span."""
    logger.info(outcome, extra={"outcome": outcome, **sender(request), **values})
    if request.trace is not None:
        request.trace.record(outcome, values)


def sender(request: RequestValues) -> dict[str, object]:
    """Return the name, if known, and the address of a request's sender."""
    user = {"user": request.identity.name} if request.identity.name else {}
    return {"address": request.client_address, **user}


def of_error(request: RequestValues, error: UploadError) -> Mapping[str, object] | None:
    """Return the values of the audit line about an error; None if the error is none of its business.

    It concerns uploads and deletions, known senders, and refusals.
    """
    if request.method in SAFE_METHODS and not request.identity.name and error.status not in REFUSALS:
        return None
    key = (request.view_args or {}).get("key")
    return {"outcome": error.code, "method": request.method, **sender(request), **({"keys": [key]} if key else {})}
