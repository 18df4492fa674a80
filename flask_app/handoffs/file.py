"""`file`: S3 reads the request's own file.

Choose it when nothing but the view uses the request: no hook in a copied context, no thread that outlives the view.
Costs nothing that the form parser has not spent already. The trap: whoever closes the request's files closes this one,
and a boto hook wrapped in `copy_current_request_context` does (pallets/flask#5399).
"""

from collections.abc import Callable
from typing import IO

from werkzeug.datastructures import FileStorage


def hand_off[T](file: FileStorage, upload: Callable[[IO[bytes]], T]) -> T:
    """Give the request's own file to `upload`, which puts a readable file into S3."""
    return upload(file.stream)
