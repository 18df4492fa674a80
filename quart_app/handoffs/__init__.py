"""One short file for each way of handing an upload's bytes over; `diff` any of them with its Flask twin.

Each has one function, `hand_off(file, upload)`: `file` is the request's FileStorage, `upload` whatever puts a readable
file into S3, such as `lambda body: client.upload_fileobj(body, BUCKET, key)` with a client of aioboto3. None needs
anything else of ours, but `stream`: it has no FileStorage, it parses the request's body with `filehandoff.form` itself.
"""

from collections.abc import Awaitable, Callable
from typing import IO

from quart.datastructures import FileStorage

from quart_app.handoffs import byte_queue, file, read_early, temp_file
from quart_app.handoffs.byte_queue import QueueReader

type Upload = Callable[[IO[bytes] | QueueReader], Awaitable[None]]
type HandOff = Callable[[FileStorage, Upload], Awaitable[None]]

#: Those that are given a file which the form parser has made.
OF_A_FILE: dict[str, HandOff] = {
    "file": file.hand_off,
    "read_early": read_early.hand_off,
    "temp_file": temp_file.hand_off,
    "byte_queue": byte_queue.hand_off,
}
