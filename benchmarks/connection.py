"""A client connection on raw sockets and epoll; bodies go out by sendfile(2). Linux only."""

import errno
import mmap
import os
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

#: Bodies up to this size are sent together with their head in one call.
_AT_ONCE_BYTES = 256 * 1024
_SENDFILE_BYTES = 1024 * 1024
_ANSWER_BYTES = 64 * 1024
#: Seconds of unused allowance that a paced connection keeps, to make up for late timers.
_KEPT_SECONDS = 0.02

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Loop(Protocol):
    """The event loop: watches sockets and runs timers."""

    epoll: select.epoll

    def watch(self, connection: socket.socket, client: "Connection") -> None:
        """Call the client's `ready` on each event of its socket."""

    def forget(self, connection: socket.socket) -> None:
        """Stop watching a socket."""

    def at(self, moment: float, then: Callable[[], None]) -> None:
        """Call `then` at a moment of CLOCK_MONOTONIC, in seconds."""


@dataclass
class Pool:
    """The memory file of bodies.

    A body is a slice that wraps around at the end.
    """

    fd: int
    size: int
    view: memoryview

    @classmethod
    def open(cls, fd: int, size: int) -> "Pool":
        """Map the file into memory, for small bodies."""
        return cls(fd, size, memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)))


class Request:
    """A partly sent request: `before`, `size` bytes of the pool from `at`, then `after`."""

    def __init__(self, pool: Pool, before: bytes, at: int = 0, size: int = 0, after: bytes = b"") -> None:
        self._pool = pool
        self._at = at % pool.size
        self._head, self._tail = before, after
        self._size = size
        self._done = 0
        self.length = len(before) + size + len(after)

    @property
    def is_whole(self) -> bool:
        """Whether the whole request was sent."""
        return self._done == self.length

    def send(self, connection: socket.socket, most: int) -> int:
        """Send the next piece, with at most `most` bytes of the file; return its length."""
        done, head, size = self._done, len(self._head), self._size
        if done == 0 and size <= min(_AT_ONCE_BYTES, most) and self._at + size <= self._pool.size:
            count = connection.sendmsg([self._head, self._pool.view[self._at : self._at + size], self._tail])
        elif done < head:
            count = connection.send(self._head[done:], socket.MSG_MORE)
        elif done < head + size:
            at = (self._at + done - head) % self._pool.size
            count = min(size - (done - head), self._pool.size - at, most)
            count = os.sendfile(connection.fileno(), self._pool.fd, at, count)
        else:
            count = connection.send(self._tail[done - head - size :])
        self._done += count
        return count


class Connection:
    """A connection that sends one request after another and reconnects after a failure.

    Args:
        loop: the event loop.
        port: a port on loopback.
        pace: most bytes per second; None for no limit.
        on_end: called after each request with the answer so far and the error, if any.
    """

    def __init__(self, loop: Loop, port: int, pace: int | None, on_end: Callable[[bytes, str | None], None]) -> None:
        self._loop = loop
        self._port = port
        self._on_end = on_end
        self._pace = pace
        self._most = _SENDFILE_BYTES if self._pace is None else max(min(self._pace // 100, _SENDFILE_BYTES), 1024)
        self._socket: socket.socket | None = None
        self._request: Request | None = None
        self._answer = b""
        self._paid_until = 0.0
        self._waiting = False
        self.moved = 0.0

    def begin(self, request: Request) -> None:
        """Send a request."""
        self._request = request
        self._answer = b""
        self.moved = time.monotonic()
        if self._socket is None:
            self._connect()
        else:
            self._send()

    def _connect(self) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._socket.connect_ex(("127.0.0.1", self._port))
        if code not in {0, errno.EINPROGRESS}:
            self.fail(OSError(code, os.strerror(code)))
            return
        self._loop.watch(self._socket, self)
        self._listen_for(select.EPOLLIN | select.EPOLLOUT)

    def _listen_for(self, events: int) -> None:
        assert self._socket is not None
        self._loop.epoll.modify(self._socket, events)

    def ready(self, events: int) -> None:
        """Handle events of the socket."""
        try:
            if events & ~select.EPOLLOUT:
                self._receive()
            if events & select.EPOLLOUT and self._request is not None and not self._waiting:
                self._send()
        except OSError as error:
            self.fail(error)

    def _send(self) -> None:
        request, connection = self._request, self._socket
        assert request is not None
        assert connection is not None
        try:
            while not request.is_whole:
                count = request.send(connection, self._most)
                self.moved = time.monotonic()
                if self._pace is not None and not request.is_whole and self._must_wait(count):
                    return
        except BlockingIOError:
            self._listen_for(select.EPOLLIN | select.EPOLLOUT)
        except OSError as error:
            self._receive_refusal(error)
        else:
            self._listen_for(select.EPOLLIN)

    def _receive_refusal(self, error: OSError) -> None:
        """Read the answer that the server may have sent before it stopped reading."""
        try:
            self._receive()
        except OSError:
            self.fail(error)
        else:
            if self._request is not None:
                self.fail(error)

    def _must_wait(self, count: int) -> bool:
        """Whether the pace is exceeded; if so, schedule the continuation."""
        assert self._pace is not None
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - _KEPT_SECONDS) + count / self._pace
        if self._paid_until <= now:
            return False
        self._waiting = True
        self._listen_for(select.EPOLLIN)
        self._loop.at(self._paid_until, self._go_on)
        return True

    def _go_on(self) -> None:
        self._waiting = False
        if self._request is not None and self._socket is not None:
            self._send()

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        self.moved = time.monotonic()
        if self._request is None:  # the server closes an idle connection
            self._close()
            return
        if not data:
            self.fail(ConnectionError("the connection was closed before the end of the answer"))
            return
        self._answer += data
        if is_whole(self._answer):
            self._end()

    def _end(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        if not request.is_whole or b"\r\nconnection: close" in self._answer.lower():
            self._close()
        self._on_end(self._answer, None if request.is_whole else "answered before the whole file was sent")

    def fail(self, error: Exception) -> None:
        """Close the connection and fail the request in flight, if any."""
        self._close()
        request, self._request = self._request, None
        if request is not None:
            self._on_end(b"", f"{type(error).__name__}: {error}")

    def check_timeout(self, now: float, timeout: float) -> None:
        """Fail the request if nothing was sent or received for `timeout` seconds."""
        if self._request is not None and now - self.moved > timeout:
            self.fail(TimeoutError(f"no progress for {timeout:g} s"))

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None


def is_whole(answer: bytes) -> bool:
    """Whether the answer is complete."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if length := _LENGTH.search(head):
        return len(body) >= int(length[1])
    return not _CHUNKED.search(head) or body.endswith(b"0\r\n\r\n")
