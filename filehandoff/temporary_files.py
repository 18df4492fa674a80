"""The folder of temporary files, and its errors; the shells make the files."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filehandoff.errors import NO_DESCRIPTOR, Overloaded, SettingsError, StorageFull

#: The errno of a failed write of a temporary file: no space, a quota, a file size limit, a read-only or vanished
#: folder. `tempfile` raises ENOENT if no folder is usable.
_UNWRITABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
        *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ESTALE),
    }
)


def choose_folder() -> None:
    """Choose the folder of temporary files, for which Python writes a file into each candidate, and keep that choice.

    Python would choose at the first temporary file: that blocks the event loop, and passes over a missing `TMPDIR`.

    Raises:
        SettingsError: `TMPDIR` is not a writable folder.
    """
    chosen = ""
    with suppress(FileNotFoundError):  # there is none, of which an app that only streams has no need
        chosen = tempfile.gettempdir()
    named = os.environ.get("TMPDIR")
    if named and chosen != os.path.abspath(named):  # noqa: PTH100 - as `tempfile` does; `resolve` follows links
        raise SettingsError("TMPDIR", named, "a folder that exists and is writable")


@contextmanager
def temporary_files() -> Iterator[None]:
    """Convert the operating system's errors on temporary files into an `UploadError`.

    Use it around a block whose other I/O raises errors of other types, as the calls to S3 and a body's reader do.

    Raises:
        StorageFull: the temporary folder accepts no more bytes.
        Overloaded: the process has no file descriptor left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise StorageFull(
                f"The service cannot write a temporary file ({error.strerror}). Nothing was stored; try again later, "
                "or use the hand-off 'stream', which writes none."
            ) from error
        if error.errno in NO_DESCRIPTOR:
            raise Overloaded("The service can open no more files. Nothing was stored; try again later.") from error
        raise
