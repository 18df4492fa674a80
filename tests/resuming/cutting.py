"""A TCP proxy in front of servers that ends its clients' connections at random bytes.

    with CuttingProxy([server.url], seed=1) as proxy:
        proxy.cut_every(1_000_000)
        ...  # send to proxy.url; about every 1,000,000 bytes a connection ends
        assert proxy.cuts > 3

It counts the bytes of all clients together, so that a cut strikes any request, by its share of the bytes.

A client gives up after some attempts without progress. So the proxy never makes two resets in a row, because each may
destroy all that its connection has sent. And it leaves half of the mean distance between two strikes: while a killed
app starts again, its client has used some attempts already.
"""

import random
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

READ_BYTES = 16 * 1024


class Connection:
    """A client's connection and its counterpart to a server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.is_deaf = False

    def reset(self) -> None:
        """End both with a reset, which may destroy bytes that the server has not read."""
        for one in (self.client, self.server):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)  # wakes the thread that reads, and sends nothing
            one.close()

    def close(self) -> None:
        """End both; the server still reads all bytes that were sent."""
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def lose_answer(self) -> None:
        """Pass no byte of an answer on: the connection ends with the next one."""
        self.is_deaf = True


class CuttingProxy:
    """Listens at `url`; each connection goes to the next of the servers.

    Attributes:
        cuts: number of connections that were ended so far.
        strike: if set, is called at the byte of a cut; the connection ends afterwards.
    """

    def __init__(self, servers: Sequence[str], seed: int) -> None:
        self.servers = list(servers)
        self.cuts = 0
        self.strike: Callable[[], object] | None = None
        self._chance = random.Random(seed)  # noqa: S311 - not for secrets
        self._every = 0
        self._left = 0
        self._has_reset = False
        self._count = 0
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self._start(self._accept)

    def cut_every(self, count: int) -> None:
        """End a connection about every `count` bytes of the clients; 0 ends none."""
        with self._lock:
            self._every = count
            self._draw()

    def close(self) -> None:
        """End every connection and every thread."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._open:
            with suppress(KeyError):
                self._open.pop().close()
        for thread in list(self._threads):
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _draw(self, fewest: int = 1) -> None:
        self._left = self._chance.randrange(fewest, 2 * self._every) if self._every else 0

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name="cutting proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        self._count += 1
        url = urlsplit(self.servers[self._count % len(self.servers)])
        try:
            server = socket.create_connection((url.hostname or "", url.port or 80))
        except OSError:
            client.close()  # the server is down
            return
        connection = Connection(client, server)
        self._open.add(connection)
        self._start(self._pass_answers, connection)
        with suppress(OSError):
            while data := client.recv(READ_BYTES):
                self._pass(connection, data)
            server.shutdown(socket.SHUT_WR)

    def _pass_answers(self, connection: Connection) -> None:
        with suppress(OSError):
            while (data := connection.server.recv(READ_BYTES)) and not connection.is_deaf:
                connection.client.sendall(data)
        connection.close()
        self._open.discard(connection)

    def _end_of(self, connection: Connection) -> Callable[[], None]:
        """Draw a way to end a connection."""
        ends = [connection.close, connection.lose_answer]
        end = self._chance.choice(ends if self._has_reset else [*ends, connection.reset])
        self._has_reset = end == connection.reset
        return end

    def _pass(self, connection: Connection, data: bytes) -> None:
        """Pass bytes of a client on, up to the byte of a cut."""
        with self._lock:
            cut_at = self._left if 0 < self._left <= len(data) else 0
            if cut_at:
                self._draw(self._every // 2 if self.strike else 1)
                self.cuts += 1
                end = self.strike or self._end_of(connection)
            elif self._left:
                self._left -= len(data)
        if not cut_at:
            connection.server.sendall(data)
            return
        if end == connection.lose_answer:
            connection.server.sendall(data)
            connection.lose_answer()
            return
        connection.server.sendall(data[:cut_at])
        end()
        if self.strike:
            connection.close()
