"""`temp_file`: the view copies the upload into its own temporary file; S3 reads the copy.

Choose it for files of any size when other code may close the request's file early.
Cost: a second copy on disk (in memory up to 500,000 bytes), and the time to write it.
Trap: the copy must outlive its last reader, and no longer. This one has no name, so even a killed process leaves no
file.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar, cast

from quart.datastructures import FileStorage

T = TypeVar("T")

IN_MEMORY_BYTES = 500_000
COPY_BYTES = 1024 * 1024


async def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], Awaitable[T]]) -> T:
    """Copy the file and pass the copy to `upload`, which puts it into S3."""
    copy = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed below, off the event loop
    try:
        await asyncio.to_thread(shutil.copyfileobj, file.stream, copy, COPY_BYTES)
        copy.seek(0)
        return await upload(cast("IO[bytes]", copy))
    finally:
        await asyncio.to_thread(copy.close)
