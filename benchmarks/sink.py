"""A server that discards requests, to measure the load generator alone: `python -m benchmarks.sink FD`.

Each connection has a thread, and the kernel drops the body without copying it (MSG_TRUNC, tcp(7)). It costs less than
any measured server, so its rate is the load generator's limit.
"""

import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_DROP_BYTES = 4 * 2**20
_CLIENTS = 128


def main() -> None:
    """Serve until killed."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    with ThreadPoolExecutor(_CLIENTS) as threads:
        while True:
            connection, _ = listener.accept()
            threads.submit(serve, connection)


def serve(connection: socket.socket) -> None:
    """Answer a client until it disconnects."""
    drop = bytearray(_DROP_BYTES)
    with connection:
        while head := read_head(connection):
            before, _, beginning = head.partition(b"\r\n\r\n")
            match = _LENGTH.search(before)
            left = int(match[1]) - len(beginning) if match else 0
            while left > 0:
                count = connection.recv_into(drop, min(left, _DROP_BYTES), socket.MSG_TRUNC)
                if not count:
                    return
                left -= count
            connection.sendall(_ANSWER)


def read_head(connection: socket.socket) -> bytes:
    """Read a request's head and perhaps some bytes after it.

    It is empty if the client has disconnected.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return b""
        head += data
    return head


if __name__ == "__main__":
    main()
