"""How a client of S3 is made: what it sends, how long it waits, and what it does not do anew for each call."""

import os
from typing import TYPE_CHECKING, Any, Literal

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ProfileNotFound
from botocore.loaders import create_loader

from filehandoff.calls import parse_timestamp, resolve_endpoint_once
from filehandoff.errors import SettingsError
from filehandoff.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_LOADER = create_loader(os.environ.get("AWS_DATA_PATH"))
#: Of which size on S3 is asked before a body is sent: what is smaller fits into the buffers on the way.
EXPECT_BYTES = 128 * 1024


def new_client(
    settings: Settings,
    connect_timeout: float,
    read_timeout: float,
    attempts: int,
    endpoint_url: str | None = None,
    addressing: Literal["auto", "virtual"] = "auto",
) -> "S3Client":
    """A client with these timeouts in seconds, which is tried so often, at this endpoint or at the settings' own.

    Args:
        settings: what else is to be set.
        connect_timeout: for a connection.
        read_timeout: for S3 to go on answering.
        attempts: how often a call is tried.
        endpoint_url: where S3 is, if not where the settings say.
        addressing: `virtual` for the bucket in the host, as AWS's regions ask of presigned URLs.

    Raises:
        SettingsError: AWS_PROFILE names no profile.
    """
    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=settings.max_concurrent * settings.parts_in_flight,
        # We give a CRC-32 with every body, so boto need not read it once more to sign it.
        s3={"payload_signing_enabled": False, "addressing_style": addressing},
        # boto's default for presigned URLs is version 2, which binds neither length nor type nor metadata.
        signature_version="s3v4",
        # A name of our own, given once: boto would put its own together anew for each call, from some ten components.
        user_agent=f"filehandoff boto3/{boto3.__version__}",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # What we ask is of the right types, which mypy sees by boto's own stubs.
        parameter_validation=False,
    )
    session = _new_session()
    session.events.register("before-send.s3.PutObject", _expect_nothing_for_little)
    client = session.client("s3", endpoint_url=endpoint_url or settings.s3_endpoint_url, config=config)
    resolve_endpoint_once(client)
    return client


def _new_session() -> boto3.session.Session:
    """A session whose clients share what botocore knows of S3: reading that takes 45 of the 55 ms of a new client."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _LOADER)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
    try:
        session.get_scoped_config()  # reads the profile, which may not exist
        return boto3.session.Session(botocore_session=session)
    except ProfileNotFound:
        raise SettingsError("AWS_PROFILE", os.environ.get("AWS_PROFILE", ""), "a profile of your AWS files") from None
    finally:
        _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)  # each session puts its folder there once more


def _expect_nothing_for_little(request: Any, **_event: Any) -> None:
    """Send a small file without `Expect: 100-continue`, which costs a round trip to save sending the file in vain.

    An empty one must be sent so (RFC 9110, section 10.1.1): otherwise a server answers at once, and botocore takes that
    answer for the next one's (boto/botocore#3755).
    """
    if int(request.headers.get("Content-Length") or 0) <= EXPECT_BYTES:
        request.headers.pop("Expect", None)
