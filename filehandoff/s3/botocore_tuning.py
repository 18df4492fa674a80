"""How botocore is set up for S3, and what it need not do anew for each call; works on clients that are given here."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from filehandoff.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[+-]?\d{1,20}(?:\.\d*)?", re.ASCII)
_ISO = re.compile(r"\d{4}-", re.ASCII)


def resolve_endpoint_once(client: Any) -> None:
    """Let this client of boto3 or aioboto3 find the address of a bucket once, instead of once for each key.

    botocore remembers the last hundred addresses by what they depend on, and counts the object's key among that. None
    of S3's rules asks for the key (a test looks), and going through them takes a quarter of the time of a small put.
    """
    model = client.meta.service_model
    for operation in model.operation_names:
        parameters = model.operation_model(operation).context_parameters
        parameters[:] = [parameter for parameter in parameters if parameter.name != "Key"]


def parse_timestamp(value: str | float) -> datetime | None:
    """A time in UTC from S3, in each form that boto takes; None if the value is no time.

    S3 writes IMF-fixdate in headers and ISO 8601 in XML. Other stores, proxies and clients write the older forms of
    RFC 9110, section 5.6.7, or seconds since 1970; `Expires: 0` is valid, and any value no cache can read is a time in
    the past (RFC 9111, section 5.3). No call may fail for a date: no answer of ours depends on one.
    """
    text = str(value).strip()
    if text.count(",") > 1:
        return None  # a list of dates, which email's parser takes for its first one
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
        attempts: how often a call is tried.
        addressing: `virtual` names the bucket in the host, `auto` leaves the choice to botocore.
    """
    return {
        "connect_timeout": timeouts[0],
        "read_timeout": timeouts[1],
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "max_pool_connections": settings.max_concurrent * settings.parts_in_flight,
        # A CRC-32 goes with every body, so botocore need not read the body once more to sign it.
        "s3": {"payload_signing_enabled": False, "addressing_style": addressing},
        # botocore's default for presigned URLs is version 2, which binds neither length nor type nor metadata.
        "signature_version": "s3v4",
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        # mypy checks the types of the parameters by boto's own stubs.
        "parameter_validation": False,
    }


def lasting_secret(credentials: Any) -> str | None:
    """Return the secret of frozen AWS credentials, unless they are a role's: those change."""
    return str(credentials.secret_key) if credentials and not credentials.token else None
