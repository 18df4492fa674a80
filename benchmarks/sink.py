"""A server that takes requests and throws them away, to measure the load generator by: `python -m benchmarks.sink FD`.

A thread for each connection, and the kernel drops the body without copying it (MSG_TRUNC, tcp(7)): it costs less than
any server that a benchmark drives, so what is measured against it is what the load generator can do.
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
    """Answer a client until it goes."""
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
    """A request up to the end of its head, or some bytes further; nothing if the client has gone."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return b""
        head += data
    return head


if __name__ == "__main__":
    main()
