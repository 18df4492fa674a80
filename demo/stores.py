"""The S3 servers that the apps can be run against: `UPLOAD_S3` is `moto` or the URL of one that runs already."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import boto3
from botocore.config import Config

from demo.processes import Server, StartError, listen, python

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: The embedded store's own credentials; moto takes any.
EMBEDDED_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True)
class Store:
    """An S3 server: its endpoint, the environment by which boto finds its credentials, its process if it is ours."""

    name: str
    endpoint_url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    server: Server | None = None

    def client(self) -> "S3Client":
        """A client of our own, to read back what the apps stored."""
        return boto3.session.Session(
            aws_access_key_id=self.environ.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environ.get("AWS_SECRET_ACCESS_KEY"),
            region_name=self.environ.get("AWS_DEFAULT_REGION"),
        ).client("s3", endpoint_url=self.endpoint_url, config=Config(retries={"total_max_attempts": 5}))


def start_moto(environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """moto: all of S3's calls, in memory and unchecked."""
    listener = listen("the S3 server", "S3_PORT", int(environ.get("S3_PORT", "0")))
    server = Server("moto", python("demo.moto_server", "{fd}"), listener, environ, log=log, drain_seconds=0)
    return Store("moto", server.url, EMBEDDED_CREDENTIALS, server)


EMBEDDED: dict[str, Callable[[Mapping[str, str], IO[bytes] | None], Store]] = {"moto": start_moto}


def start(choice: str, environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """Start the chosen store, or take the one at a URL, with the credentials of the ordinary AWS chain.

    Raises:
        StartError: there is no such store, or no port for it.
    """
    if choice in EMBEDDED:
        return EMBEDDED[choice]({**os.environ, **environ}, log)
    if choice.startswith(("http://", "https://")):
        return Store(choice, choice)
    raise StartError(f"UPLOAD_S3 is '{choice}'; it must be {', '.join(EMBEDDED)} or an http:// or https:// URL")
