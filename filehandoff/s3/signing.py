"""Signatures of requests to S3 in headers: AWS Signature Version 4, without I/O.

The rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(Protocol):
    """AWS credentials; `token` is None or empty for those that last."""

    @property
    def access_key(self) -> str | None:
        """The id of the key."""

    @property
    def secret_key(self) -> str | None:
        """The secret."""

    @property
    def token(self) -> str | None:
        """The session token."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests to one service in one AWS region."""

    region: str
    service: str = "s3"

    def sign(
        self,
        method: str,
        target: tuple[str, str],
        headers: Mapping[str, str],
        credentials: Credentials,
        time: datetime,
    ) -> dict[str, str]:
        """Return the headers with a date, the session token, and a signature that covers all of them.

        Args:
            method: the HTTP method.
            target: the encoded path, and the encoded query in the order of its names.
            headers: lowercase names; among them `host`, and the body's hash as `x-amz-content-sha256`.
            credentials: the keys to sign with.
            time: now, in UTC.
        """
        # as in `keys.new_key`, not strftime
        stamp = f"{time.isoformat()[:19]}Z".replace("-", "").replace(":", "")
        signed = {**headers, "x-amz-date": stamp}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(signed)
        lines = [f"{name}:{' '.join(signed[name].split())}\n" for name in names]
        listed = ";".join(names)
        canonical = "\n".join([method, *target, "".join(lines), listed, signed["x-amz-content-sha256"]])
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = _signing_key(credentials.secret_key, stamp[:8], self.region, self.service)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return signed


@lru_cache(maxsize=8)
def _signing_key(secret: str | None, date: str, region: str, service: str) -> bytes:
    """Return the key of one day; a few are kept, because credentials and days change."""
    key = f"AWS4{secret}".encode()
    for value in (date, region, service, "aws4_request"):
        key = hmac.digest(key, value.encode(), "sha256")
    return key
