"""An S3 server that checks uploads and throws their bytes away: `python -m benchmarks.null_store`.

Behind an app, it makes a measurement show the app's cost, not the store's. It can be slow on purpose, and can speak
TLS. It speaks path style on loopback, accepts any credentials, and refuses the uploads that S3 refuses: those with a
missing length, an unknown bucket or upload, wrong part numbers or ETags, or parts of a wrong size. It checks no
signature and no checksum, keeps no metadata, and lists everything on one page. It keeps the bytes only of `…/kept-…`
objects; a GET of another is 501. A chunked body is 501, as in S3, unless it is `aws-chunked` and declares its length.
`GET /_null/stats` returns `null_s3.Stats` as JSON.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from benchmarks.certificate import temporary_certificate, trusting
from benchmarks.null_chunks import ChunkedBody
from benchmarks.null_requests import STATS, STATS_PATH, Answer, Refused, Request
from benchmarks.null_s3 import Stats, Store
from demo.processes import Server, StartError, ending, listen, python

START_SECONDS = 180.0

_HEAD_BYTES = 16 * 1024

#: All discarded bodies are read into this memory. A larger buffer is slower: it leaves the processor's cache.
_DROP = memoryview(bytearray(128 * 1024))

#: Receive buffer of a paced connection, in bytes; Linux doubles it.
_RECEIVE_BUFFER_BYTES = 128 * 1024


class Pace:
    """A token bucket that all connections share.

    A connection that has read some bytes reads again only after they are paid for. Bytes are paid for in the order in
    which they were read, so all connections get the same share.
    """

    #: Seconds of unused allowance that are kept, to make up for late timers.
    KEPT_SECONDS = 0.02

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        #: Bytes per read, a hundredth of a second's worth, so that the bytes flow evenly.
        self.read_bytes = min(max(bytes_per_second // 100, 1024), len(_DROP))
        self._paid_until = 0.0

    def seconds_for(self, size: int, now: float) -> float:
        """Seconds that a connection must wait after reading `size` bytes."""
        self._paid_until = max(self._paid_until, now - self.KEPT_SECONDS) + size / self._bytes_per_second
        return max(self._paid_until - now, 0.0)


class Connection(asyncio.BufferedProtocol):
    """An HTTP/1.1 connection, one request after another; no pipelining.

    Bodies are read into shared memory and discarded. A request that can be refused by its head is answered at once, as
    in S3. The connection then closes for writing, but the rest of the body is still read: a reset could destroy the
    answer.
    """

    def __init__(self, store: Store, pace: Pace | None, latency_seconds: float) -> None:
        self._store = store
        self._pace = pace
        self._read_bytes = len(_DROP) if pace is None else pace.read_bytes
        self._latency_seconds = latency_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._head = bytearray(_HEAD_BYTES)
        self._head_view = memoryview(self._head)
        self._head_size = 0
        self._request: Request | None = None
        self._kept: memoryview | None = None  # the body, unless it is discarded
        self._left = 0  # bytes of the body still to come
        self._chunked: ChunkedBody | None = None  # the body, if it comes in chunks
        self._counted = False  # whether it had a request
        self._last_answered = False  # whether its last answer was sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop the timer and the counts; an incomplete body leaves nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._request is not None:
            self._store.ended(self._request)
        if self._counted:
            self._store.disconnected()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return the memory for the next bytes, at most to the end of the body."""
        if self._last_answered or self._chunked is not None:
            return _DROP[: self._read_bytes]
        if not self._left:
            return self._head_view[self._head_size :]
        if self._kept is not None:
            return self._kept[-self._left :]
        return _DROP[: min(self._left, self._read_bytes)]

    def buffer_updated(self, size: int) -> None:
        """Handle received bytes."""
        if self._last_answered:
            self._body_came(size)
        elif self._chunked is not None:
            self._chunks_came(self._chunked, _DROP[:size])
        elif self._left:
            self._left -= size
            self._body_came(size)
        else:
            self._head_size += size
            self._head_came()

    def _head_came(self) -> None:
        """Parse a complete head, and pass on the beginning of the body behind it."""
        end = self._head.find(b"\r\n\r\n", 0, self._head_size)
        if end < 0:
            if self._head_size == _HEAD_BYTES:
                self._answer(Refused("BadRequest").answer, last=True)
            return
        beginning = self._head_view[end + 4 : self._head_size]
        self._head_size = 0
        try:
            request = Request.parse(bytes(self._head_view[:end]))
        except Refused as refused:
            self._answer(refused.answer, last=True)
            return
        self._request = request
        self._count(request)
        try:
            self._store.check(request)
        except Refused as refused:
            self._store.bytes_received += len(beginning)
            self._answer(refused.answer, last=request.is_last or request.has_body or bool(beginning))
        else:
            self._begin(request, beginning)

    def _count(self, request: Request) -> None:
        if request.operation == STATS:
            return
        if not self._counted:
            self._counted = True
            self._store.connected()
        self._store.began(request)

    def _begin(self, request: Request, beginning: memoryview) -> None:
        """Begin to read the body."""
        if request.is_chunked:
            self._chunked = ChunkedBody(keep=self._store.keeps(request))
            self._continue_if_expected(request)
            self._chunks_came(self._chunked, beginning)
            return
        length = request.length or 0
        if len(beginning) > length:  # pipelining
            self._answer(Refused("BadRequest").answer, last=True)
            return
        self._left = length - len(beginning)
        self._kept = None
        if self._store.keeps(request):
            self._kept = memoryview(bytearray(length))
            self._kept[: len(beginning)] = beginning
        if self._left:
            self._continue_if_expected(request)
        self._body_came(len(beginning))

    def _continue_if_expected(self, request: Request) -> None:
        if request.expects_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _chunks_came(self, body: ChunkedBody, received: memoryview) -> None:
        try:
            body.receive(received)
        except ValueError:
            self._chunked = None
            self._answer(Refused("BadRequest").answer, last=True)
        else:
            self._body_came(len(received))

    def _body_came(self, size: int) -> None:
        """Count bytes of the body, and perform the request when it is complete."""
        self._store.bytes_received += size
        seconds = self._pace.seconds_for(size, self._loop.time()) if size and self._pace is not None else 0.0
        is_over = self._chunked.is_over if self._chunked is not None else not self._left
        whole = is_over and not self._last_answered
        self._after(seconds, self._perform if whole else lambda: None)

    def _perform(self) -> None:
        """Perform the complete request and answer it."""
        assert self._request is not None
        request, body = self._request, b"" if self._kept is None else bytes(self._kept)
        chunked, self._chunked = self._chunked, None
        try:
            if chunked is not None:
                request, body = _decoded(request, chunked)
            answer = self._store.perform(request, body)
        except Refused as refused:
            answer = refused.answer
        self._answer(answer, last=request.is_last)

    def _answer(self, answer: Answer, *, last: bool) -> None:
        own = self._request is not None and self._request.operation == STATS
        self._after(0.0 if own else self._latency_seconds, lambda: self._send(answer, last=last))

    def _send(self, answer: Answer, *, last: bool) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._store.ended(request)
        with_body = request is None or request.method != "HEAD"
        self._transport.write(answer.rendered(with_body=with_body, last=last))
        if last:
            self._last_answered = True
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:  # TLS
                self._transport.close()

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` later and read nothing until then, so that TCP slows the client."""
        if seconds <= 0:
            then()
            return
        self._transport.pause_reading()
        self._timer = self._loop.call_later(seconds, self._go_on, then)

    def _go_on(self, then: Callable[[], None]) -> None:
        self._transport.resume_reading()
        then()


def _decoded(request: Request, chunked: ChunkedBody) -> tuple[Request, bytes]:
    """Return a request with the trailers of its chunked body, and that body's kept bytes.

    Raises:
        Refused: the body does not have its declared size.
    """
    if chunked.size != request.length:
        raise Refused("IncompleteBody")
    return replace(request, headers={**request.headers, **chunked.trailers}), bytes(chunked.kept)


class NullStore:
    """A null store in its own process, with one bucket; with a certificate it speaks TLS."""

    def __init__(self, server: Server, bucket: str, certificate: Path | None = None) -> None:
        self.server = server
        self.bucket = bucket
        self._certificate = certificate
        self.endpoint_url = server.url if certificate is None else server.url.replace("http:", "https:")
        #: The environment that points an app at this store.
        self.environ = {
            "UPLOAD_S3_ENDPOINT_URL": self.endpoint_url,
            "UPLOAD_BUCKET": bucket,
            "AWS_ACCESS_KEY_ID": "null",
            "AWS_SECRET_ACCESS_KEY": "null-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            **(trusting(certificate) if certificate else {}),
        }

    def connect(self, timeout: float = START_SECONDS) -> HTTPConnection:
        """Open a connection to the store."""
        host = self.endpoint_url.rpartition("/")[2]
        if self._certificate is None:
            return HTTPConnection(host, timeout=timeout)
        return HTTPSConnection(host, timeout=timeout, context=ssl.create_default_context(cafile=self._certificate))

    def stats(self) -> Stats:
        """Fetch the counters; waits for a store that is still starting.

        Raises:
            StartError: it does not answer; a one-line message.
        """
        connection = self.connect()
        try:
            connection.request("GET", STATS_PATH)
            return Stats(**json.load(connection.getresponse()))
        except (OSError, HTTPException) as error:
            raise StartError(f"the null store at {self.endpoint_url} does not answer: {error!r}; see above") from None
        finally:
            connection.close()


@contextmanager
def running(
    *, bytes_per_second: int | None = None, latency_ms: float = 0, tls: bool = False, bucket: str = "uploads"
) -> Iterator[NullStore]:
    """Run a null store for the block.

    Args:
        bytes_per_second: total rate at which it reads bodies; None for no limit.
        latency_ms: delay of each answer.
        tls: whether it speaks TLS, with a new certificate.
        bucket: the bucket that exists from the start.

    Raises:
        StartError: it does not start; a one-line message.
    """
    command = python("benchmarks.null_store", "--fd", "{fd}", "--bucket", bucket, "--latency", str(latency_ms))
    if bytes_per_second is not None:
        command += ["--bytes-per-second", str(bytes_per_second)]
    with ExitStack() as exits:
        certificate = exits.enter_context(temporary_certificate()) if tls else None
        if certificate is not None:
            command += ["--certificate", str(certificate)]
        listener = listen("the null store", "nothing", 0)
        server = Server("the null store", command, listener, os.environ, log=None, drain_seconds=0)
        exits.enter_context(ending([server]))
        store = NullStore(server, bucket, certificate)
        store.stats()
        yield store


async def serve(
    listener: socket.socket, store: Store, pace: Pace | None, latency_seconds: float, tls: ssl.SSLContext | None
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if pace is not None:
        # connections inherit it; the default of some megabytes would absorb a body at any rate
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    server = await loop.create_server(
        lambda: Connection(store, pace, latency_seconds), sock=listener, backlog=1024, ssl=tls
    )
    await stop.wait()
    server.close()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_store")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited listening socket")
    where.add_argument("--port", type=int, help="a port on loopback, 0 for any free one; printed when ready")
    parser.add_argument("--bucket", default="uploads", help="the bucket that exists from the start (%(default)s)")
    parser.add_argument("--bytes-per-second", type=int, metavar="N", help="total rate at which bodies are read")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="delay of each answer")
    parser.add_argument("--certificate", metavar="FILE", help="speak TLS with this certificate and key (PEM)")
    arguments = parser.parse_args()
    if arguments.bytes_per_second is not None and arguments.bytes_per_second < 1:
        parser.error("--bytes-per-second must be 1 or more")
    if arguments.fd is not None:
        listener = socket.socket(fileno=arguments.fd)
    else:
        try:
            listener = listen("the null store", "--port", arguments.port)
        except StartError as error:
            parser.error(str(error))
        print(listener.getsockname()[1], flush=True)
    store = Store()
    store.buckets[arguments.bucket] = {}
    pace = None if arguments.bytes_per_second is None else Pace(arguments.bytes_per_second)
    tls = None
    if arguments.certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.certificate)
    asyncio.run(serve(listener, store, pace, arguments.latency / 1000, tls))


if __name__ == "__main__":
    main()
