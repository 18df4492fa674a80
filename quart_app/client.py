"""How a client of S3 is made: what it sends, how long it waits, and what it does not do anew for each call."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ProfileNotFound
from botocore.loaders import create_loader

from filehandoff.calls import parse_timestamp, resolve_endpoint_once
from filehandoff.errors import SettingsError
from filehandoff.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_LOADER = create_loader(os.environ.get("AWS_DATA_PATH"))


@asynccontextmanager
async def new_client(
    settings: Settings,
    connect_timeout: float,
    read_timeout: float,
    attempts: int,
    endpoint_url: str | None = None,
    addressing: Literal["auto", "virtual"] = "auto",
) -> "AsyncIterator[S3Client]":
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
    config = AioConfig(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=settings.max_concurrent * settings.parts_in_flight,
        # We give a CRC-32 with every body, so boto need not read it once more to sign it, on the event loop at that.
        s3={"payload_signing_enabled": False, "addressing_style": addressing},
        # boto's default for presigned URLs is version 2, which binds neither length nor type nor metadata.
        signature_version="s3v4",
        # A name of our own, given once: boto would put its own together anew for each call, from some ten components.
        user_agent=f"filehandoff aioboto3/{aioboto3.__version__}",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # What we ask is of the right types, which mypy sees by boto's own stubs.
        parameter_validation=False,
    )
    session = _new_session()
    for operation in ("PutObject", "UploadPart"):
        session.events.register(f"before-send.s3.{operation}", _expect_nothing)
    async with session.client("s3", endpoint_url=endpoint_url or settings.s3_endpoint_url, config=config) as client:
        resolve_endpoint_once(client)
        yield client


def _new_session() -> aioboto3.Session:
    """A session whose clients share what botocore knows of S3: reading that takes 45 of the 55 ms of a new client."""
    session = get_session()
    session.register_component("data_loader", _LOADER)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
    try:
        session.get_scoped_config()  # reads the profile, which may not exist
        return aioboto3.Session(botocore_session=session)
    except ProfileNotFound:
        raise SettingsError("AWS_PROFILE", os.environ.get("AWS_PROFILE", ""), "a profile of your AWS files") from None
    finally:
        _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)  # each session puts its folder there once more


def _expect_nothing(request: Any, **_event: Any) -> None:
    """Send no `Expect: 100-continue`: aiohttp waits without end for a store that does not say so."""
    request.headers.pop("Expect", None)
