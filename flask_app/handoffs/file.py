"""`file`: S3 reads the request's own file.

Choose it when only the view uses the request: no hook in a copied context, and no thread that outlives the view.
Cost: nothing beyond the form parser's work.
Trap: any code that closes the request's files closes this one. A boto hook wrapped in `copy_current_request_context`
does so (pallets/flask#5399).
"""

from collections.abc import Callable
from typing import IO, TypeVar

from werkzeug.datastructures import FileStorage

T = TypeVar("T")


def hand_off(file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Pass the request's own file to `upload`, which puts a file into S3."""
    return upload(file.stream)
