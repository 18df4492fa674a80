"""The configuration of botocore for S3, and shortcuts for its work per call."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from filehandoff.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[+-]?\d{1,20}(?:\.\d*)?", re.ASCII)
_ISO = re.compile(r"\d{4}-", re.ASCII)


def resolve_endpoint_once(client: Any) -> None:
    """Let a client resolve a bucket's endpoint once instead of once per key.

    botocore caches the last hundred endpoints by the parameters of its rules, among them the object's key. No rule of
    S3 reads the key (a test checks it), and the rules take a quarter of the time of a small put.
    """
    model = client.meta.service_model
    for operation in model.operation_names:
        parameters = model.operation_model(operation).context_parameters
        parameters[:] = [parameter for parameter in parameters if parameter.name != "Key"]


def parse_timestamp(value: str | float) -> datetime | None:
    """Parse a time in any form that boto accepts, as UTC; return None otherwise.

    S3 writes IMF-fixdate in headers and ISO 8601 in XML. Other stores, proxies and clients write the older forms of
    RFC 9110, section 5.6.7, or seconds since 1970. `Expires: 0` is valid, and caches treat an invalid value as a time
    in the past (RFC 9111, section 5.3). No call may fail because of a date, since no response depends on one.
    """
    text = str(value).strip()
    if text.count(",") > 1:
        return None  # of a list of dates, email's parser would return the first one
    try:
        if _SECONDS.fullmatch(text):
            return _EPOCH + timedelta(seconds=float(text))
        time = datetime.fromisoformat(text) if _ISO.match(text) else parsedate_to_datetime(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def client_config(settings: Settings, timeouts: tuple[float, float], attempts: int, addressing: str) -> dict[str, Any]:
    """Return the arguments of botocore's `Config` for one client of S3.

    Args:
        settings: the service's settings.
        timeouts: seconds to connect, and seconds between two reads of an answer.
        attempts: the number of attempts for a call.
        addressing: `virtual` names the bucket in the host, `auto` leaves the choice to botocore.
    """
    return {
        "connect_timeout": timeouts[0],
        "read_timeout": timeouts[1],
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "max_pool_connections": settings.max_concurrent * settings.parts_in_flight,
        # Every body has a CRC-32, so botocore must not read it again to sign it.
        "s3": {"payload_signing_enabled": False, "addressing_style": addressing},
        # botocore's default for presigned URLs is version 2, which signs no length, type or metadata.
        "signature_version": "s3v4",
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        # mypy checks the parameters' types with boto's stubs.
        "parameter_validation": False,
    }


def lasting_secret(credentials: Any) -> str | None:
    """Return the secret of frozen AWS credentials; None for a role's, which expire."""
    return str(credentials.secret_key) if credentials and not credentials.token else None
