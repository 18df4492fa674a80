"""The gunicorn worker that this app is meant to run with: gthread, but no thread waits for a head or after an answer.

What gunicorn 27 does by itself stops a whole process. Its one thread that accepts connections also closes them, and
waits up to 2 s there for the client to close its side: a client that takes its time keeps everybody else from being
accepted. The rest of a body that nobody read is read by the thread that answered. And a process that was told to end
stops accepting, but goes on listening until its last upload is over: a probe then gets no answer and no refusal. A
request's head holds a thread until it ends, which may take for ever. And a process that has no file descriptor left to
accept a connection by ends at once, with all uploads that it has under way. And a client that does not read its answer
holds a thread for ever.
"""

import errno
import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SHUT_RDWR, SHUT_WR, fromfd, socketpair
from socket import socket as Socket  # noqa: N812 - a class
from types import FrameType
from typing import Any, cast, override

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.parser import RequestParser
from gunicorn.http2.negotiation import prior_knowledge_allowed
from gunicorn.workers.gthread import ThreadWorker

from filehandoff import logs
from filehandoff.admission import SPARE_THREADS
from filehandoff.errors import is_exhausted
from filehandoff.head import MAX_BYTES, Head
from filehandoff.stalling import TCP_INFO_BYTES, Sent, Stalls
from filehandoff.web.request import EXTENSION
from flask_app.gunicorn_protocol import Request
from flask_app.request import DISCARD_IDLE_SECONDS, DISCARD_SECONDS, close_after_answer

if sys.platform == "linux":
    from socket import TCP_INFO
else:  # nobody else tells how much was taken
    TCP_INFO = None

#: How long a request's head may take to arrive, in seconds, however it moves. hypercorn gives it 5.
HEAD_SECONDS = 10.0
#: Likewise where there are as many connections as may be, and others wait to be accepted.
CROWDED_HEAD_SECONDS = 2.0
#: As much as gunicorn reads at once of a head, and with it of what comes behind.
HEAD_READ_BYTES = 8192
READ_BYTES = 256 * 1024
#: How long a connection may wait for its first byte before a thread does, in seconds.
FIRST_BYTE_SECONDS = 30
#: What a system says that has no file descriptors left, or no memory for another connection.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: For how long nothing is accepted then, and how often that is told, in seconds.
PAUSE_SECONDS = 0.5
TELL_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """gthread that gives a connection a thread when a request's head is there, and to `Lingering` when it is answered.

    What takes too long is ended: a request's head, and an answer of which the client takes nothing more.

    But for `handle` and `handle_request`, all runs in the process's main thread.
    """

    _told_to_end = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._began: dict[Any, float] = {}  # the connections whose heads nobody waits for but the poller, oldest first
        self._until: dict[Any, float] = {}  # those whose heads are read by threads
        self._answering: set[Any] = set()  # those whose requests are being answered
        self._enqueued = 0
        self._paused_until = self._tell_from = 0.0

    @override
    def get_thread_pool(self) -> "ThreadPool":
        """Make the pool, with its first threads."""
        return ThreadPool(self.cfg.threads, min(SPARE_THREADS, self.cfg.threads))

    @override
    def run(self) -> None:
        """Serve until told to end."""
        self._lingering = Lingering(self.worker_connections // 2)
        RequestParser.mesg_class = Request  # gunicorn names it there for each kind of worker
        self._stalls = Stalls[Any](self.wsgi.extensions[EXTENSION].settings.idle_timeout)
        for listener in self.sockets:
            wait_for_first_byte(listener)
        super().run()
        self.wsgi.extensions[EXTENSION].close()
        self._lingering.finish()

    @override
    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or pause accepting connections; at the end, close the sockets that nobody is listening to any more."""
        if enabled and time.monotonic() < self._paused_until:
            return
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            before = None
            while self._told_to_end and before != self._enqueued:  # who had come by then; no other worker will
                before = self._enqueued
                self.accept(listener)
            listener.close()

    @override
    def accept(self, listener: Any) -> None:
        """Accept a connection; where the process cannot have another one, leave them all waiting for a moment."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            super().set_accept_enabled(False)
            if time.monotonic() > self._tell_from:
                self._tell_from = time.monotonic() + TELL_SECONDS
                logger.error("no connection can be accepted for now: %s", error.strerror)  # noqa: TRY400 - it is known from where

    @override
    def enqueue_req(self, conn: Any) -> None:
        """Give a connection a thread, as soon as the head of its next request is there.

        By TLS it gets one at once, which `handle` gives its time: what has come is known to who has decrypted it.
        """
        self._enqueued += 1
        if self.cfg.is_ssl or prior_knowledge_allowed(self.cfg, conn.client):
            super().enqueue_req(conn)
            return
        conn.init()
        conn.sock.settimeout(0)
        head = Head(self.cfg.limit_request_line)
        kept = conn.parser.unreader.take_buffered()
        if (kept and head.receive(kept)) or receive(conn.sock, head):
            self._go_on(conn, head)
        else:
            self._began[conn] = time.monotonic()
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_head_readable, conn, head))

    def _on_head_readable(self, conn: Any, head: Head, _socket: Socket) -> None:
        if receive(conn.sock, head):
            self._stop_waiting(conn)
            self._go_on(conn, head)

    def _stop_waiting(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        del self._began[conn]

    def _go_on(self, conn: Any, head: Head) -> None:
        """Have a request answered whose head is there; end the connection of one that cannot be."""
        if head.ended:
            conn.parser.unreader.unread(bytes(head.data))
            super().enqueue_req(conn)
            return
        if head.too_long:
            self.handle_error(None, conn.sock, conn.client, LimitRequestHeaders(f"no end within {MAX_BYTES} bytes"))
            with suppress(OSError):
                self._lingering.take(conn.sock)
        self.nr_conns -= 1
        conn.close()

    @override
    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread of the pool; what is answered says whether the connection is kept."""
        self._until[conn] = time.monotonic() + HEAD_SECONDS
        try:
            kept = super().handle(conn)
        finally:
            self._until.pop(conn, None)
            logs.unbind()  # the thread is the next request's
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
        self.wsgi.extensions[EXTENSION].cleaner.resume()
        now = time.monotonic()
        patience = HEAD_SECONDS if self.nr_conns < self.worker_connections else CROWDED_HEAD_SECONDS
        while self._began and now > next(iter(self._began.values())) + patience:
            conn = next(iter(self._began))
            self._stop_waiting(conn)
            self.nr_conns -= 1
            conn.close()
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
            wsgi.extensions[EXTENSION].drain.refuse()
        self._told_to_end = True
        super().handle_exit(sig, frame)


def receive(connection: Socket, head: Head) -> bool:
    """Take what has come of a head, without waiting for more; whether nothing more is to be waited for."""
    try:
        data = connection.recv(HEAD_READ_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        data = b""
    return head.receive(data)


def wait_for_first_byte(listener: Any) -> None:
    """Have the kernel keep a connection until its first byte is there, for some seconds; Linux alone can.

    By TLS it would be given to a thread at once, which waits 5 s for that byte.
    """
    if listener.family in {AF_INET, AF_INET6} and hasattr(socket, "TCP_DEFER_ACCEPT"):
        listener.setsockopt(IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, FIRST_BYTE_SECONDS)


class ThreadPool(ThreadPoolExecutor):
    """A pool of up to `most` threads that makes do with fewer where the system starts no more; `first` run at once.

    Without it gunicorn's main thread would raise, and the process would end with its uploads.
    """

    def __init__(self, most: int, first: int) -> None:
        super().__init__(most)
        gate = Future[None]()
        for _ in range(first):
            self.submit(gate.result)  # each finds the others waiting, and so gets a thread of its own
        gate.set_result(None)

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except (RuntimeError, MemoryError) as error:
            if not self._threads or not is_exhausted(error):
                raise


class Lingering:
    """Connections that were answered, whose clients may still be sending: read on by one thread, within bounds.

    A client that reads its answer only when it has sent all would never see it if its connection were closed before
    (RFC 9112, section 9.6).
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._new: SimpleQueue[Socket] = SimpleQueue()
        self._finishing = False
        self._wake, self._woken = socketpair()
        self._wake.settimeout(0)
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
        self._wake_up()

    def finish(self) -> None:
        """Return when all connections have ended, which is soon; none is taken any more."""
        self._finishing = True
        self._wake_up()
        self._thread.join(2 * DISCARD_SECONDS)

    def _wake_up(self) -> None:
        with suppress(OSError):  # it has not woken up from the last times yet, or has ended
            self._wake.send(b"w")

    def _run(self) -> None:
        while self._ends or not self._finishing:
            try:
                self._read_on()
            except Exception:
                # This thread must not end: every later connection would wait for it, open for ever.
                logger.exception("%s connections that were answered are closed at once", len(self._ends))
                for connection in list(self._ends):
                    self._end(connection)
                time.sleep(PAUSE_SECONDS)
        for own in (self._selector, self._wake, self._woken):
            own.close()

    def _read_on(self) -> None:
        """Wait for something to come on any of them, and throw it away."""
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
            self._ends[connection] = time.monotonic() + DISCARD_SECONDS
            self._idle_ends[connection] = time.monotonic() + DISCARD_IDLE_SECONDS
            self._selector.register(connection, selectors.EVENT_READ)

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
                if end > now and len(ends) <= self._at_most:
                    break
                self._end(connection)

    def _end(self, connection: Socket) -> None:
        with suppress(KeyError, ValueError):  # it could not be registered
            self._selector.unregister(connection)
        connection.close()
        for ends in (self._ends, self._idle_ends):
            ends.pop(connection, None)
