"""The requests of the webhook: the receipts by HTTP, signed by the scheme of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hmac
import json
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from filehandoff.keys import id_of
from filehandoff.settings import SECRET_PREFIX
from filehandoff.stored import Receipts

logger = logging.getLogger(__name__)

#: Seconds before each attempt of a delivery.
PAUSES = (0.0, 0.5, 2.0)
#: Statuses between 300 and 499 after which another attempt may succeed: a timeout, a request too early, too many.
_TEMPORARY = frozenset({408, 425, 429})


class WebhookFailed(Exception):
    """The webhook has accepted no attempt."""


@dataclass(slots=True)
class Attempt:
    """One request, `pause` seconds after the one before; the sender sets `status`, or `error` without a response."""

    pause: float
    identifier: str
    body: bytes
    secret: str
    more: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    error: Exception | None = None

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers of the request that begins now, in seconds since 1970."""
        timestamp = str(int(now))
        return {
            "Content-Type": "application/json",
            "User-Agent": "filehandoff",
            **self.more,
            "webhook-id": self.identifier,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(self.secret, self.identifier, timestamp, self.body),
        }

    @property
    def accepted(self) -> bool:
        """Whether the response was a success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own classes

    @property
    def final(self) -> bool:
        """Whether another attempt would get the same response: a redirect, or an error of this request."""
        return 300 <= self.status < 500 and self.status not in _TEMPORARY  # noqa: PLR2004 - HTTP's own classes


def sign(secret: str, identifier: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a request, version 1: HMAC-SHA256 in base64."""
    key = b64decode(secret.removeprefix(SECRET_PREFIX))
    return f"v1,{b64encode(hmac.digest(key, f'{identifier}.{timestamp}.'.encode() + body, 'sha256')).decode()}"


def attempts(
    secret: str, receipts: Receipts, more: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time
) -> Iterator[Attempt]:
    """Yield each attempt of a delivery, with `more` headers, until one is accepted.

    All have the same id, the UUID in the first file's key, by which a receiver recognizes a repetition.

    Raises:
        WebhookFailed: the last attempt was not accepted.
    """
    sent = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"type": "upload.stored", "timestamp": sent, "data": {"receipts": receipts}}
    body = json.dumps(event, separators=(",", ":"), sort_keys=True).encode()
    for number, pause in enumerate(PAUSES, 1):
        attempt = Attempt(pause, id_of(receipts[0]["key"]), body, secret, more or {})
        yield attempt
        if attempt.accepted:
            return
        reason = attempt.status or attempt.error
        logger.warning("the webhook has not accepted attempt %d of %d: %s", number, len(PAUSES), reason)
        if attempt.final:
            break
    raise WebhookFailed("the webhook has not accepted the receipts")
