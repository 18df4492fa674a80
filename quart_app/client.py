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

from filehandoff.errors import SettingsError
from filehandoff.s3.botocore_tuning import client_config, parse_timestamp, resolve_endpoint_once
from filehandoff.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_LOADER = create_loader(os.environ.get("AWS_DATA_PATH"))


@asynccontextmanager
async def new_client(
    settings: Settings,
    timeouts: tuple[float, float],
    attempts: int,
    endpoint_url: str | None = None,
    addressing: Literal["auto", "virtual"] = "auto",
) -> "AsyncIterator[S3Client]":
    """Make a client, as `client_config` says, for this endpoint or the settings' own.

    Raises:
        SettingsError: AWS_PROFILE names no profile.
    """
    # A name of our own, given once: boto would put its own together anew for each call, from some ten components.
    agent = f"filehandoff aioboto3/{aioboto3.__version__}"
    config = AioConfig(**client_config(settings, timeouts, attempts, addressing), user_agent=agent)
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
