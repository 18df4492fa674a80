"""Clients of S3: their settings, their timeouts, and the work that they share."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ProfileNotFound
from botocore.loaders import create_loader

from filehandoff.errors import SettingsError
from filehandoff.s3 import options
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
    """Make a client for this endpoint, or for the one of the settings.

    `client_config` gives the rest of its configuration.

    Raises:
        SettingsError: AWS_PROFILE names no profile.
    """
    # A fixed name: boto would assemble its own for each call, from about ten components.
    agent = f"filehandoff aioboto3/{aioboto3.__version__}"
    config = AioConfig(**client_config(settings, timeouts, attempts, addressing), user_agent=agent)
    session = _new_session()
    session.events.register("before-parameter-build.s3", partial(options.add, settings.s3_options))
    for operation in ("PutObject", "UploadPart"):
        session.events.register(f"before-send.s3.{operation}", _skip_expect)
    async with session.client("s3", endpoint_url=endpoint_url or settings.s3_endpoint_url, config=config) as client:
        resolve_endpoint_once(client)
        yield client


def _new_session() -> aioboto3.Session:
    """Make a session whose clients share botocore's model of S3.

    Reading the model takes 45 of the 55 ms of a new client.
    """
    session = get_session()
    session.register_component("data_loader", _LOADER)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
    try:
        session.get_scoped_config()  # reads the profile; raises if it does not exist
        return aioboto3.Session(botocore_session=session)
    except ProfileNotFound:
        raise SettingsError("AWS_PROFILE", os.environ.get("AWS_PROFILE", ""), "a profile of your AWS files") from None
    finally:
        _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)  # each session adds its folder again


def _skip_expect(request: Any, **_event: Any) -> None:
    """Remove `Expect: 100-continue` from a request.

    If a store sends no 100 Continue, aiohttp waits for it without a limit.
    """
    request.headers.pop("Expect", None)
