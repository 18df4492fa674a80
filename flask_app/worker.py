"""The gunicorn worker: gthread whose threads wait for no head and no answered client.

Stock gthread of gunicorn 27 stops a whole process, in ways that `tests/processes/test_stock_gunicorn.py` shows:

- A head holds a thread from its first byte to its end, without a time limit.
- The one thread that accepts connections also closes them, and waits up to 2 s for each client to close its side.
- The thread of an answer also reads the rest of an unwanted body.
- A client that does not read its answer holds a thread for ever.
- A process that must end keeps listening until its last upload ends: a new client gets neither an answer nor a refusal.
- A process without a file descriptor for a new connection stops serving, and its uploads are lost.
- A process that can start no thread does the same.

It also closes an idle connection whose next request arrived while its main thread was busy.
"""

import errno
import logging
import selectors
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import takewhile
from socket import IPPROTO_TCP, SHUT_RDWR, SHUT_WR
from socket import socket as Socket  # noqa: N812 - a class
from types import FrameType
from typing import Any, cast

from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.http2.negotiation import prior_knowledge_allowed
from gunicorn.workers.gthread import ThreadWorker
from urllib3.util import wait_for_read

from filehandoff import logs
from filehandoff.admission import SPARE_THREADS
from filehandoff.errors import is_exhausted
from filehandoff.framing import is_decided
from filehandoff.stall_detection import LOOK_EVERY, TCP_INFO_BYTES, StallDetector, acknowledged
from filehandoff.typing_backports import override
from filehandoff.web.request import EXTENSION
from flask_app.gunicorn_protocol import Request, Response
from flask_app.request import DISCARD_IDLE_SECONDS, DISCARD_SECONDS, close_after_answer
from flask_app.service import Service

if sys.platform == "linux":
    from socket import TCP_INFO

#: Seconds for a whole request head to arrive; hypercorn allows 5.
HEAD_SECONDS = 10.0
#: Seconds for a head while the process can accept no further connection.
CROWDED_HEAD_SECONDS = 2.0
#: Bytes per read of a head, and of the body after it; gunicorn's own number.
HEAD_READ_BYTES = 8192
#: Bytes per read of an unwanted body.
READ_BYTES = 256 * 1024
#: The system's errors if it lacks a file descriptor, or memory, for another connection.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: Seconds without accepting after such an error, and seconds between two log lines about it.
PAUSE_SECONDS = 0.5
LOG_EVERY = 60.0

logger = logging.getLogger(__name__)


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """gthread that waits for heads and for answered clients outside of its threads.

    A connection gets a thread when its head is complete, and moves to `Lingering` after the answer. Only `handle` and
    `handle_request` run in threads of the pool; everything else runs in the main thread.
    """

    _must_end = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads: dict[Any, object] = {}  # the connections with incomplete heads, and an object for each head
        self._late_heads = StallDetector[Any]()
        self._stalls = StallDetector[Socket]()
        self._answering: set[Socket] = set()
        self._paused_until = self._next_log = self._next_check = 0.0

    @override
    def get_thread_pool(self) -> "ThreadPool":
        """Make the pool and start its first threads."""
        return ThreadPool(self.cfg.threads, min(SPARE_THREADS, self.cfg.threads))

    @override
    def run(self) -> None:
        """Serve until a signal, or `max_requests`, ends the process."""
        RequestParser.mesg_class, wsgi.Response = Request, Response  # gunicorn has no setting for these classes
        self._lingering = Lingering(self.worker_connections // 2)
        self.poller.register(self._lingering, selectors.EVENT_READ, Lingering.read)
        super().run()
        self._service.close()
        self._lingering.finish()

    @property
    def _service(self) -> Service:
        return cast("Service", self.wsgi.extensions[EXTENSION])

    @override
    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or pause accepting; at the end, close the listening sockets."""
        if enabled and time.monotonic() < self._paused_until:
            return
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            before = -1
            while self._must_end and before != self.nr_conns:  # queued connections: no other worker will accept them
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    @override
    def accept(self, listener: Any) -> None:
        """Accept a connection; pause accepting if the system lacks resources for one."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            now = time.monotonic()
            self._paused_until = now + PAUSE_SECONDS
            super().set_accept_enabled(False)
            if now > self._next_log:
                self._next_log = now + LOG_EVERY
                logger.error("no connection can be accepted for now: %s", error.strerror)  # noqa: TRY400 - the place is known

    @override
    def enqueue_req(self, conn: Any) -> None:
        """Give a connection a thread once its next head is complete or malformed.

        With TLS or HTTP/2 it gets a thread at once: only that thread can read the head.
        """
        if self.cfg.is_ssl or prior_knowledge_allowed(self.cfg, conn.client):
            super().enqueue_req(conn)
            return
        conn.init()
        conn.sock.settimeout(0)
        if is_decided(buffered(conn)) or receive(conn):
            super().enqueue_req(conn)
        else:
            self._heads[conn] = object()
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_head_readable, conn))

    def _on_head_readable(self, conn: Any, _socket: Socket) -> None:
        if receive(conn):
            del self._heads[conn]  # the head is complete, but all threads may be busy for long
            self.poller.unregister(conn.sock)
            super().enqueue_req(conn)

    @override
    def handle(self, conn: Any) -> Any:
        """Serve one request in a pool thread; return whether the connection is kept."""
        self._heads[conn] = object()
        try:
            kept = super().handle(conn)
        finally:
            self._heads.pop(conn, None)
            logs.unbind()  # the thread serves another request next
        if not kept:
            connection = conn.sock
            conn.close = lambda **_: self._lingering.take(connection)  # gunicorn calls it in the main thread
        return kept

    @override
    def handle_request(self, req: Any, conn: Any) -> Any:
        """Let the app answer a complete head; the app may end the connection."""
        self._heads.pop(conn, None)
        token = close_after_answer.set(req.force_close)
        self._answering.add(conn.sock)
        try:
            return super().handle_request(req, conn)
        finally:
            self._answering.discard(conn.sock)
            close_after_answer.reset(token)

    @override
    def murder_keepalived(self, force: bool = False) -> None:
        """End idle connections, but none whose next request has arrived: its client would get no answer."""
        now = time.monotonic()
        for conn in takewhile(lambda one: one.timeout <= now, () if force else self.keepalived_conns):
            if wait_for_read(conn.sock, timeout=0):
                conn.timeout = now + self.cfg.keepalive  # the poller reports the request next
        super().murder_keepalived(force)

    @override
    def notify(self) -> None:
        """Report a live main thread; each second, end connections that take too long."""
        super().notify()
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + LOOK_EVERY
        self._service.cleaner.resume()
        self._lingering.end_overdue(now)
        patience = HEAD_SECONDS if self.nr_conns < self.worker_connections else CROWDED_HEAD_SECONDS
        late = [conn.sock for conn in self._late_heads.stalled(tuple(self._heads.items()), patience)]
        for connection in (*late, *self._stalls.stalled(self._deliveries(), self._service.settings.idle_timeout)):
            with suppress(OSError):
                Socket.shutdown(connection, SHUT_RDWR)  # the thread or the poller then sees the end

    def _deliveries(self) -> Iterator[tuple[Socket, int | None]]:
        for connection in tuple(self._answering):
            with suppress(OSError):  # closed, or not a TCP connection
                yield connection, delivered(connection)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new uploads from SIGTERM on; `max_requests` ends the worker in another way."""
        if hasattr(self, "wsgi"):  # the worker may still be loading the app
            self._service.drain.refuse()
        self._must_end = True
        super().handle_exit(sig, frame)


def receive(conn: Any) -> bool:
    """Read more of a head without waiting; return whether a thread can take over.

    A thread also takes over a connection that has ended.
    """
    try:
        data = conn.sock.recv(HEAD_READ_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True
    conn.parser.unreader.buf.write(data)
    return not data or is_decided(buffered(conn))


def buffered(conn: Any) -> bytes:
    """Return the bytes that a connection's parser reads first."""
    return cast("bytes", conn.parser.unreader.buf.getvalue())


def delivered(connection: Socket) -> int | None:
    """Return the number of bytes that a client has acknowledged.

    None means that the client has received everything, or that the system cannot report the number.
    """
    linux = sys.platform == "linux"
    return acknowledged(connection.getsockopt(IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)) if linux else None


class ThreadPool(ThreadPoolExecutor):
    """A pool that works with fewer than `most` threads if the system starts no more.

    The first `first` threads start at once. The stock pool raises in gunicorn's main thread, which then ends.
    """

    def __init__(self, most: int, first: int) -> None:
        super().__init__(most)
        gate = Future[None]()
        for _ in range(first):
            self.submit(gate.result)  # the earlier jobs still wait, so each job starts a thread
        gate.set_result(None)

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except (RuntimeError, MemoryError) as error:
            if not self._threads or not is_exhausted(error):
                raise


class Lingering:
    """Answered connections whose clients may still send: read on, within time limits.

    A client that reads its answer only after it has sent everything would lose the answer if its connection closed
    earlier (RFC 9112, section 9.6).
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._selector = selectors.DefaultSelector()
        self._times: dict[Socket, tuple[float, float]] = {}  # the start of each, and the time of its last bytes
        self._buffer = bytearray(READ_BYTES)

    def fileno(self) -> int:
        """Return a descriptor that is readable when one of the connections is."""
        return self._selector.fileno()

    def take(self, connection: Socket) -> None:
        """Take over a connection; end the oldest one if there are too many."""
        try:
            connection.settimeout(0)
            connection.shutdown(SHUT_WR)
            self._selector.register(connection, selectors.EVENT_READ)
        except OSError:
            connection.close()  # the client has disconnected
            return
        self._times[connection] = time.monotonic(), time.monotonic()
        if len(self._times) > self._at_most:
            self._end(next(iter(self._times)))

    def read(self, timeout: float = 0) -> None:
        """Discard all received bytes; wait up to `timeout` seconds for some."""
        for key, _ in self._selector.select(timeout):
            connection = cast("Socket", key.fileobj)
            size = 0
            with suppress(OSError):
                size = connection.recv_into(self._buffer)
            if size:
                self._times[connection] = self._times[connection][0], time.monotonic()
            else:
                self._end(connection)

    def end_overdue(self, now: float) -> None:
        """End the connections that last too long, or that are silent too long."""
        self.read()  # after a stall of this process, much may have arrived
        for connection, (began, last) in tuple(self._times.items()):
            if now - began > DISCARD_SECONDS or now - last > DISCARD_IDLE_SECONDS:
                self._end(connection)

    def finish(self) -> None:
        """Wait until all connections have ended, within their time limits."""
        while self._times:
            self.read(LOOK_EVERY)
            self.end_overdue(time.monotonic())
        self._selector.close()

    def _end(self, connection: Socket) -> None:
        del self._times[connection]
        self._selector.unregister(connection)
        connection.close()
