"""The hand-offs, one short file each; `diff` shows the changes in Flask's twin.

Four of them have a function `hand_off(file, upload)`. `file` is the request's FileStorage. `upload` is a function that
puts a readable file into S3, such as `lambda body: client.upload_fileobj(body, BUCKET, key)` with a client of aioboto3.
`stream` has no FileStorage: it parses the request's body with `filehandoff.form`. `presigned` signs URLs and reads
objects back. No file but `stream` imports from this project.
"""

from collections.abc import Awaitable, Callable
from typing import IO, TypeAlias

from quart.datastructures import FileStorage

from quart_app.handoffs import byte_queue, file, read_early, temp_file
from quart_app.handoffs.byte_queue import QueueReader

Upload: TypeAlias = Callable[[IO[bytes] | QueueReader], Awaitable[None]]
HandOff: TypeAlias = Callable[[FileStorage, Upload], Awaitable[None]]

#: The hand-offs that take a FileStorage, by name.
OF_A_FILE: dict[str, HandOff] = {
    "file": file.hand_off,
    "read_early": read_early.hand_off,
    "temp_file": temp_file.hand_off,
    "byte_queue": byte_queue.hand_off,
}
