"""`temp_file`: the view copies the upload into its own temporary file; S3 reads the copy.

Choose it for files of any size when other code may close the request's file early.
Cost: a second copy on disk (in memory up to 500,000 bytes), and the time to write it.
Trap: the copy must outlive its last reader, and no longer. This one has no name, so even a killed process leaves no
file.
"""

import shutil
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar, cast

from werkzeug.datastructures import FileStorage

T = TypeVar("T")

IN_MEMORY_BYTES = 500_000
COPY_BYTES = 1024 * 1024


def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Copy the file and pass the copy to `upload`, which puts it into S3."""
    with SpooledTemporaryFile(IN_MEMORY_BYTES) as copy:
        shutil.copyfileobj(file.stream, copy, COPY_BYTES)
        copy.seek(0)
        return upload(cast("IO[bytes]", copy))
