"""`read_early`: the view reads every byte before it calls S3.

Choose it when all files that you serve at the same time surely fit in memory.
Cost: the whole file in memory.
Trap: the memory grows with the file, so limit the file's size. `upload_fileobj` closes the `BytesIO` that it gets, so
make a new one for each use (boto/s3transfer#80).
"""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import IO, TypeVar

from quart.datastructures import FileStorage

T = TypeVar("T")


async def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], Awaitable[T]]) -> T:
    """Read the file, then pass its bytes to `upload`, which puts them into S3."""
    data = await asyncio.to_thread(file.stream.read)  # a file above 500,000 bytes is on disk
    return await upload(BytesIO(data))
