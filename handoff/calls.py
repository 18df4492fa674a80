"""What botocore does anew for each call to S3 and need not: undone on one client or session, which is given here."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any


def resolve_endpoint_once(client: Any) -> None:
    """Let this client of boto3 or aioboto3 find the address of a bucket once, instead of once for each key.

    botocore remembers the last hundred addresses by what they depend on, and counts the object's key among that. None
    of S3's rules asks for the key (a test looks), and going through them takes a quarter of the time of a small put.
    """
    model = client.meta.service_model
    for operation in model.operation_names:
        parameters = model.operation_model(operation).context_parameters
        parameters[:] = [parameter for parameter in parameters if parameter.name != "Key"]


def parse_timestamp(text: str) -> datetime:
    """A time as S3 writes it: in headers as HTTP does (RFC 9110, section 5.6.7), in XML as ISO 8601.

    botocore's own takes any form there is, and a tenth of a millisecond.

    Raises:
        ValueError: it is neither.
    """
    return parsedate_to_datetime(text) if "," in text else datetime.fromisoformat(text)
