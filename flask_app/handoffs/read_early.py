"""`read_early`: the view reads every byte before it calls S3.

Choose it when all files that you serve at the same time surely fit in memory.
Cost: the whole file in memory.
Trap: the memory grows with the file, so limit the file's size. `upload_fileobj` closes the `BytesIO` that it gets, so
make a new one for each use (boto/s3transfer#80).
"""

from collections.abc import Callable
from io import BytesIO
from typing import IO, TypeVar

from werkzeug.datastructures import FileStorage

T = TypeVar("T")


def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Read the file, then pass its bytes to `upload`, which puts them into S3."""
    data = file.stream.read()
    return upload(BytesIO(data))
