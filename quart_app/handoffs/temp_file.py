"""`temp_file`: the upload is copied into a temporary file of our own, and S3 reads that.

Choose it for files of any size when the request may be closed early. Costs a second copy on disk (in memory up to
500,000 bytes) and the time to write it. The trap: the file must outlive its last reader and not a moment more. This
one has no name, so that even a killed process leaves nothing behind.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from quart.datastructures import FileStorage

IN_MEMORY_BYTES = 500_000
COPY_BYTES = 1024 * 1024


async def hand_off[T](file: FileStorage, upload: Callable[[IO[bytes]], Awaitable[T]]) -> T:
    """Copy the file, then give the copy to `upload`, which puts a readable file into S3."""
    own = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed below, off the event loop
    try:
        await asyncio.to_thread(shutil.copyfileobj, file.stream, own, COPY_BYTES)
        own.seek(0)
        return await upload(cast("IO[bytes]", own))
    finally:
        await asyncio.to_thread(own.close)
