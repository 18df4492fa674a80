"""One short file for each way of handing an upload's bytes over; `diff` any of them with its Quart twin.

Each has one function, `hand_off(file, upload)`: `file` is the request's FileStorage, `upload` whatever puts a readable
file into S3, such as `lambda body: client.upload_fileobj(body, BUCKET, key)`. None needs anything else of ours, but
`stream`: it has no FileStorage, it parses the request's body with `filehandoff.form` itself.
"""

from collections.abc import Callable
from typing import IO

from werkzeug.datastructures import FileStorage

from flask_app.handoffs import byte_queue, file, read_early, temp_file

type Upload = Callable[[IO[bytes]], None]
type HandOff = Callable[[FileStorage, Upload], None]

#: Those that are given a file which the form parser has made.
OF_A_FILE: dict[str, HandOff] = {
    "file": file.hand_off,
    "read_early": read_early.hand_off,
    "temp_file": temp_file.hand_off,
    "byte_queue": byte_queue.hand_off,
}
