"""A client's connection to a server: raw sockets and epoll, bodies by sendfile(2) from a memory file. Linux only."""

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

#: A body up to this size goes out with its head by one call.
_AT_ONCE_BYTES = 256 * 1024
_SENDFILE_BYTES = 1024 * 1024
_ANSWER_BYTES = 64 * 1024
#: For how long a paced connection may catch up what a late timer missed.
_KEPT_SECONDS = 0.02

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Loop(Protocol):
    """What waits for connections, and for moments."""

    epoll: select.epoll

    def watch(self, connection: socket.socket, client: "Connection") -> None:
        """Tell a client of what happens to its socket."""

    def forget(self, connection: socket.socket) -> None:
        """Tell it no more."""

    def at(self, moment: float, then: Callable[[], None]) -> None:
        """Do something at a moment of CLOCK_MONOTONIC, in seconds."""


@dataclass
class Pool:
    """Where bodies come from: a body begins somewhere in it, and goes on at its beginning after its end."""

    fd: int
    size: int
    view: memoryview

    @classmethod
    def open(cls, fd: int, size: int) -> "Pool":
        """Map the file into memory, for small bodies."""
        return cls(fd, size, memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)))


class Request:
    """The bytes of a request, of which so many are sent: given ones, around `size` of the pool from `at` on."""

    def __init__(self, pool: Pool, before: bytes, at: int = 0, size: int = 0, after: bytes = b"") -> None:
        self._pool = pool
        self._at = at % pool.size
        self._head, self._tail = before, after
        self._size = size
        self._done = 0
        self.length = len(before) + size + len(after)

    @property
    def is_whole(self) -> bool:
        """Whether all of it was sent."""
        return self._done == self.length

    def send(self, connection: socket.socket, most: int) -> int:
        """Send some of it, at most so many bytes of the file; how many went."""
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
    """A connection to a port that sends one request after the other, made anew when it broke.

    Args:
        loop: what waits for it.
        port: of loopback.
        pace: how many bytes it sends in each second at most; None for as many as go.
        on_end: told of each request's end: the answer, as far as it came, and what went wrong with it.
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
        """The socket can be read or written."""
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
        """Sending failed: an answer may have come before that."""
        try:
            self._receive()
        except OSError:
            self.fail(error)
        else:
            if self._request is not None:
                self.fail(error)

    def _must_wait(self, count: int) -> bool:
        """Whether what was sent has yet to be paid for: then go on when it is."""
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
        if self._request is None:  # the server closes a connection that has nothing to do
            self._close()
            return
        if not data:
            self.fail(ConnectionError("the connection was closed without a whole answer"))
            return
        self._answer += data
        if is_whole(self._answer):
            self._end()

    def _end(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        if not request.is_whole or b"\r\nconnection: close" in self._answer.lower():
            self._close()
        self._on_end(self._answer, None if request.is_whole else "answered before the file had been sent")

    def fail(self, error: Exception) -> None:
        """The request has failed, if there is one; the connection is over."""
        self._close()
        request, self._request = self._request, None
        if request is not None:
            self._on_end(b"", f"{type(error).__name__}: {error}")

    def check_timeout(self, now: float, timeout: float) -> None:
        """Fail if nothing has moved for so many seconds."""
        if self._request is not None and now - self.moved > timeout:
            self.fail(TimeoutError(f"nothing moved for {timeout:g} s"))

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None


def is_whole(answer: bytes) -> bool:
    """Whether an answer has come to its end."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if length := _LENGTH.search(head):
        return len(body) >= int(length[1])
    return not _CHUNKED.search(head) or body.endswith(b"0\r\n\r\n")
