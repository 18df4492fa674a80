"""The hand-offs, one short file each; `diff` shows the changes in Quart's twin.

Four of them have a function `hand_off(file, upload)`. `file` is the request's FileStorage. `upload` is a function that
puts a readable file into S3, such as `lambda body: client.upload_fileobj(body, BUCKET, key)`. `stream` has no
FileStorage: it parses the request's body with `filehandoff.form`. `presigned` signs URLs and reads objects back. No
file but `stream` imports from this project.
"""

from collections.abc import Callable
from typing import IO, TypeAlias

from werkzeug.datastructures import FileStorage

from flask_app.handoffs import byte_queue, file, read_early, temp_file

Upload: TypeAlias = Callable[[IO[bytes]], None]
HandOff: TypeAlias = Callable[[FileStorage, Upload], None]

#: The hand-offs that take a FileStorage, by name.
OF_A_FILE: dict[str, HandOff] = {
    "file": file.hand_off,
    "read_early": read_early.hand_off,
    "temp_file": temp_file.hand_off,
    "byte_queue": byte_queue.hand_off,
}
