"""An S3 server that checks the shape of an upload and throws the bytes away: `python -m benchmarks.null_store`.

With it behind an app, a measurement shows the app's cost and not the store's; and it can be slow on purpose. It speaks
path style on loopback, with any credentials, and refuses what S3 refuses of an upload: a missing length, an unknown
bucket or upload, wrong part numbers or ETags, parts too small or too large. It looks at no signature and no checksum,
keeps no metadata and no bytes (a GET of an object is 501), and lists everything on one page. Only what is put as
`…/kept-…` can be read back. A size is what `Content-Length` says; a chunked body is 501, as S3 has it.
`GET /_null/stats` tells as JSON what it saw: see `null_s3.Stats`.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from benchmarks.null_s3 import STATS, STATS_PATH, Answer, Refused, Request, Stats, Store
from demo.processes import Server, StartError, ending, listen, python

START_SECONDS = 180.0

_HEAD_BYTES = 16 * 1024

#: Where all bodies go, one over the other. A larger one is slower: it must stay in the processor's cache.
_DROP = memoryview(bytearray(128 * 1024))

#: What the kernel is asked to hold for a connection where reading is slow on purpose; Linux doubles it.
_RECEIVE_BUFFER_BYTES = 128 * 1024


class Pace:
    """A token bucket that all connections share: whoever read some bytes reads nothing more until they are paid for.

    They are paid for in the order in which they were read, so that all connections get the same share.
    """

    #: For how long the tokens of a time without reading are kept; they make up for timers that are late.
    KEPT_SECONDS = 0.02

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        #: How much to read at once, a hundredth of a second's worth: the bytes are to flow, not to come by the second.
        self.read_bytes = min(max(bytes_per_second // 100, 1024), len(_DROP))
        self._paid_until = 0.0

    def seconds_for(self, size: int, now: float) -> float:
        """How long the connection that read this much has to wait."""
        self._paid_until = max(self._paid_until, now - self.KEPT_SECONDS) + size / self._bytes_per_second
        return max(self._paid_until - now, 0.0)


class Connection(asyncio.BufferedProtocol):
    """HTTP/1.1 with one client, one request after the other; no pipelining.

    A body is read into memory that all connections share and nobody looks at. A request that its head is enough to
    refuse is answered at once, as S3 does. The connection then ends, but what the client still sends of the body is
    read and thrown away: a reset could take the answer with it.
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
        self._kept: memoryview | None = None  # the body, where it is not thrown away
        self._left = 0  # bytes of the body that are still to come
        self._counted = False  # had a request
        self._last_answered = False  # had its last answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; a body that did not come to its end leaves nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._request is not None:
            self._store.ended(self._request)
        if self._counted:
            self._store.disconnected()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where to read to, and no further than the body goes."""
        if self._last_answered:
            return _DROP[: self._read_bytes]
        if not self._left:
            return self._head_view[self._head_size :]
        if self._kept is not None:
            return self._kept[-self._left :]
        return _DROP[: min(self._left, self._read_bytes)]

    def buffer_updated(self, size: int) -> None:
        """Some bytes are there."""
        if self._last_answered:
            self._body_came(size)
        elif self._left:
            self._left -= size
            self._body_came(size)
        else:
            self._head_size += size
            self._head_came()

    def _head_came(self) -> None:
        """Some bytes of a head are there, and perhaps the beginning of a body."""
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
        """A head was taken."""
        length = request.length or 0
        if len(beginning) > length:  # the next request
            self._answer(Refused("BadRequest").answer, last=True)
            return
        self._left = length - len(beginning)
        self._kept = None
        if self._store.keeps(request):
            self._kept = memoryview(bytearray(length))
            self._kept[: len(beginning)] = beginning
        if request.expects_continue and self._left:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body_came(len(beginning))

    def _body_came(self, size: int) -> None:
        """Some bytes of a body are there, or all of none."""
        self._store.bytes_received += size
        seconds = self._pace.seconds_for(size, self._loop.time()) if size and self._pace is not None else 0.0
        whole = not self._left and not self._last_answered
        self._after(seconds, self._perform if whole else lambda: None)

    def _perform(self) -> None:
        """The whole request is there."""
        assert self._request is not None
        request, body = self._request, b"" if self._kept is None else bytes(self._kept)
        try:
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
            self._transport.write_eof()

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something later, and read nothing until then, so that TCP holds the client back."""
        if seconds <= 0:
            then()
            return
        self._transport.pause_reading()
        self._timer = self._loop.call_later(seconds, self._go_on, then)

    def _go_on(self, then: Callable[[], None]) -> None:
        self._transport.resume_reading()
        then()


class NullStore:
    """A null store that runs in a process of its own, with one bucket."""

    def __init__(self, server: Server, bucket: str) -> None:
        self.server = server
        self.bucket = bucket
        self.endpoint_url = server.url
        #: What an app needs to find it.
        self.environ: Mapping[str, str] = {
            "UPLOAD_S3_ENDPOINT_URL": server.url,
            "UPLOAD_BUCKET": bucket,
            "AWS_ACCESS_KEY_ID": "null",
            "AWS_SECRET_ACCESS_KEY": "null-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stats(self) -> Stats:
        """What it holds and what it saw; waits for one that is still starting.

        Raises:
            StartError: it does not answer; one line.
        """
        connection = HTTPConnection(self.endpoint_url.removeprefix("http://"), timeout=START_SECONDS)
        try:
            connection.request("GET", STATS_PATH)
            return Stats(**json.load(connection.getresponse()))
        except (OSError, HTTPException) as error:
            raise StartError(f"the null store at {self.endpoint_url} does not answer: {error!r}; see above") from None
        finally:
            connection.close()


@contextmanager
def running(
    *, bytes_per_second: int | None = None, latency_ms: float = 0, bucket: str = "uploads"
) -> Iterator[NullStore]:
    """Start a null store for the block.

    Args:
        bytes_per_second: how much it reads of all bodies together; by default, as much as it can.
        latency_ms: how much later than it could it sends each answer.
        bucket: the bucket that it has from the start.

    Raises:
        StartError: it did not start; one line.
    """
    command = python("benchmarks.null_store", "--fd", "{fd}", "--bucket", bucket, "--latency", str(latency_ms))
    if bytes_per_second is not None:
        command += ["--bytes-per-second", str(bytes_per_second)]
    listener = listen("the null store", "nothing", 0)
    server = Server("the null store", command, listener, os.environ, log=None, drain_seconds=0)
    with ending([server]):
        store = NullStore(server, bucket)
        store.stats()
        yield store


async def serve(listener: socket.socket, store: Store, pace: Pace | None, latency_seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if pace is not None:
        # each connection inherits it; the default holds megabytes, which would be taken at any rate
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    server = await loop.create_server(lambda: Connection(store, pace, latency_seconds), sock=listener, backlog=1024)
    await stop.wait()
    server.close()
    server.abort_clients()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_store")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited socket that listens")
    where.add_argument("--port", type=int, help="a port of loopback, 0 for any free one; it is printed when ready")
    parser.add_argument("--bucket", default="uploads", help="the bucket that there is from the start (%(default)s)")
    parser.add_argument("--bytes-per-second", type=int, metavar="N", help="read so much of all bodies together")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="send each answer so much later")
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
    asyncio.run(serve(listener, store, pace, arguments.latency / 1000))


if __name__ == "__main__":
    main()
