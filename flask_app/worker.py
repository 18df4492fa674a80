"""The gunicorn worker that this app is meant to run with: gthread, but no thread waits for a client that was answered.

What gunicorn 27 does by itself stops a whole process. Its one thread that accepts connections also closes them, and
waits up to 2 s there for the client to close its side: a client that takes its time keeps everybody else from being
accepted. The rest of a body that nobody read is read by the thread that answered. And a process that was told to end
stops accepting, but goes on listening until its last upload is over: a probe then gets no answer and no refusal. And a
request's head may take for ever, and so may a client that does not read its answer.
"""

import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SHUT_RDWR, SHUT_WR, fromfd, socketpair
from socket import socket as Socket  # noqa: N812 - a class
from types import FrameType
from typing import Any, cast, override

from gunicorn.workers.gthread import ThreadWorker

from flask_app.request import DISCARD_IDLE_SECONDS, DISCARD_SECONDS, close_after_answer
from handoff.stalling import TCP_INFO_BYTES, Sent, Stalls

if sys.platform == "linux":
    from socket import TCP_INFO
else:  # nobody else tells how much was taken
    TCP_INFO = None

#: How long a request's head may take to arrive, in seconds, however it moves. hypercorn gives it 5.
HEAD_SECONDS = 10.0
READ_BYTES = 256 * 1024
#: How many connections may be read on at once; gunicorn's default for those that it serves.
MAX_LINGERING = 1000
#: How long a connection may wait for its first byte before a thread does, in seconds.
FIRST_BYTE_SECONDS = 30


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """gthread that hands each connection it is to close to `Lingering`, and ends those that take too long.

    A request's head has its time, and so has an answer of which the client takes nothing more.
    """

    _told_to_end = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._until: dict[Any, float] = {}  # the connections whose heads are being read
        self._answering: set[Any] = set()  # those whose requests are being answered

    @override
    def run(self) -> None:
        """Serve until told to end; runs in the process's main thread."""
        self._lingering = Lingering()
        self._stalls = Stalls[Any](self.wsgi.extensions["handoff"].settings.idle_timeout)
        for listener in self.sockets:
            wait_for_first_byte(listener)
        super().run()
        self.wsgi.extensions["handoff"].close()
        self._lingering.finish()

    @override
    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or pause accepting connections; at the end, close the sockets that nobody is listening to any more."""
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            served = None
            while self._told_to_end and served != self.nr_conns:  # who had come by then; no other worker will
                served = self.nr_conns
                self.accept(listener)
            listener.close()

    @override
    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread of the pool; what is answered says whether the connection is kept."""
        self._until[conn] = time.monotonic() + HEAD_SECONDS
        try:
            kept = super().handle(conn)
        finally:
            self._until.pop(conn, None)
        if not kept:
            self._lingering.take(conn.sock)
        return kept

    @override
    def handle_request(self, req: Any, conn: Any) -> Any:
        """Have the app answer, as the head has come; it may say that the connection is closed then."""
        self._until.pop(conn, None)
        token = close_after_answer.set(req.force_close)
        self._answering.add(conn)
        try:
            return super().handle_request(req, conn)
        finally:
            self._answering.discard(conn)
            close_after_answer.reset(token)

    @override
    def notify(self) -> None:
        """Say that the main thread is alive, which it does every second; end the connections that take too long."""
        super().notify()
        now = time.monotonic()
        late = [conn for conn, until in tuple(self._until.items()) if now > until]
        for conn in (*late, *self._stalls.look(self._sent(), now)):
            with suppress(OSError):
                Socket.shutdown(conn.sock, SHUT_RDWR)  # who reads from it, or writes to it, finds its end

    def _sent(self) -> Iterator[tuple[Any, Sent]]:
        for conn in tuple(self._answering):
            with suppress(OSError):  # it is none of TCP's, or closed
                if TCP_INFO is not None:
                    yield conn, Sent.from_tcp_info(conn.sock.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES))

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: soon no upload begins here any more. The end by `max_requests` does not come this way."""
        if wsgi := getattr(self, "wsgi", None):  # it may still be loading it
            wsgi.extensions["handoff.shutdown"].refuse()
        self._told_to_end = True
        super().handle_exit(sig, frame)


def wait_for_first_byte(listener: Any) -> None:
    """Have the kernel keep a connection until its first byte is there, for some seconds; Linux alone can.

    gunicorn gives it to a thread at once, which waits 5 s for that byte.
    """
    if listener.family in {AF_INET, AF_INET6} and hasattr(socket, "TCP_DEFER_ACCEPT"):
        listener.setsockopt(IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, FIRST_BYTE_SECONDS)


class Lingering:
    """Connections that were answered, whose clients may still be sending: read on by one thread, within bounds.

    A client that reads its answer only when it has sent all would never see it if its connection were closed before
    (RFC 9112, section 9.6).
    """

    def __init__(self) -> None:
        self._new: SimpleQueue[Socket] = SimpleQueue()
        self._finishing = False
        self._wake, self._woken = socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        # By when each is closed at the latest, and by when if nothing comes; the soonest first.
        self._ends: dict[Socket, float] = {}
        self._idle_ends: dict[Socket, float] = {}
        self._buffer = bytearray(READ_BYTES)
        self._thread = threading.Thread(target=self._run, name="lingering", daemon=True)
        self._thread.start()

    def take(self, connection: Socket) -> None:
        """Take over a connection from a socket object; what that is left with was never connected, and may be closed.

        It cannot just be closed here: gunicorn has yet to do that, and would count its failure as a second connection.
        """
        if connection.fileno() < 0:
            return
        taken = fromfd(connection.fileno(), connection.family, connection.type)
        with Socket(connection.family, connection.type) as never_connected:
            os.dup2(never_connected.fileno(), connection.fileno(), inheritable=False)
        self._new.put(taken)
        self._wake.send(b"w")

    def finish(self) -> None:
        """Return when all connections have ended, which is soon; none is taken any more."""
        self._finishing = True
        self._wake.send(b"w")
        self._thread.join(2 * DISCARD_SECONDS)

    def _run(self) -> None:
        while self._ends or not self._finishing:
            ends = [next(iter(ends.values())) for ends in (self._ends, self._idle_ends) if ends]
            for key, _ in self._selector.select(max(0, min(ends) - time.monotonic()) if ends else None):
                if key.fileobj is self._woken:
                    self._begin_new()
                else:
                    self._read(cast("Socket", key.fileobj))
            self._end_overdue()

    def _begin_new(self) -> None:
        self._woken.recv(READ_BYTES)
        while not self._new.empty():
            connection = self._new.get()
            connection.settimeout(0)
            try:
                connection.shutdown(SHUT_WR)
            except OSError:
                connection.close()  # the client has gone
                continue
            self._selector.register(connection, selectors.EVENT_READ)
            self._ends[connection] = time.monotonic() + DISCARD_SECONDS
            self._idle_ends[connection] = time.monotonic() + DISCARD_IDLE_SECONDS

    def _read(self, connection: Socket) -> None:
        size = 0
        with suppress(OSError):
            size = connection.recv_into(self._buffer)
        if not size:
            self._end(connection)
            return
        del self._idle_ends[connection]  # it is the last one now
        self._idle_ends[connection] = time.monotonic() + DISCARD_IDLE_SECONDS

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for ends in (self._ends, self._idle_ends):
            for connection, end in list(ends.items()):
                if end > now and len(ends) <= MAX_LINGERING:
                    break
                self._end(connection)

    def _end(self, connection: Socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        del self._ends[connection], self._idle_ends[connection]
