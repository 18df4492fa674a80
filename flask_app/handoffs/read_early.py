"""`read_early`: every byte is read before S3 is called.

Choose it for files that surely fit in memory, as many at once as you serve at once. Costs the whole file in memory.
The trap: that memory, so set a limit on the size; and a `BytesIO` for each use, since `upload_fileobj` closes the one
it gets (boto/s3transfer#80).
"""

from collections.abc import Callable
from io import BytesIO
from typing import IO

from werkzeug.datastructures import FileStorage


def hand_off[T](file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Read the file, then give the bytes to `upload`, which puts a readable file into S3."""
    data = file.stream.read()
    return upload(BytesIO(data))
