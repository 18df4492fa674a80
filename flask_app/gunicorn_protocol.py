"""gunicorn's requests, checked before gunicorn parses them, and its responses, sent whole.

`worker.py` makes gunicorn use these classes. Stock gunicorn 27 accepts requests that a proxy may read
differently: heads without a Host, a fragment in the target, `gzip, chunked`, and blanks before a chunk's extension. It
recognizes `Connection: close` only without other options, and sends 100 Continue before the app reads the request.
`tests/processes/test_stock_gunicorn.py` shows all of these.

Its readers of bodies collect the received bytes in buffers that grow, one for the connection and one for the request.
Beside many uploads this copying fragments the heap, so the readers here join the received bytes once.
"""

from http import HTTPStatus
from typing import Any, cast

from gunicorn.http import body, errors, message, wsgi

from filehandoff.framing import ChunkedDecoder, FramingError, take_head
from filehandoff.parts import ChunkList
from filehandoff.typing_backports import override

#: Bytes per read of a connection.
READ_BYTES = 256 * 1024
#: The interim response that asks a client for its body.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: gunicorn's error for each status; InvalidHeader is 400.
ERRORS = {
    HTTPStatus.REQUEST_URI_TOO_LONG: errors.LimitRequestLine,
    HTTPStatus.EXPECTATION_FAILED: errors.ExpectationFailed,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: errors.LimitRequestHeaders,
    HTTPStatus.NOT_IMPLEMENTED: errors.UnsupportedTransferCoding,
}


class Request(message.Request):  # type: ignore[misc] # gunicorn has no types
    """A request with a canonical head for gunicorn, and our readers for its body."""

    _expected_100_continue: bool  # gunicorn sends 100 Continue if this is set

    @override
    def _parse_python(self, unreader: Any, buf: bytearray) -> Any:
        try:
            while (taken := take_head(bytes(buf).removeprefix(b"\r\n"))) is None:
                self.read_into(unreader, buf)
        except FramingError as error:
            raise ERRORS.get(HTTPStatus(error.status), errors.InvalidHeader)(str(error)) from error
        head, rest = taken
        return super()._parse_python(unreader, bytearray(head.data + rest))

    _parse_fast = _parse_python

    @override
    def set_body_reader(self) -> None:
        super().set_body_reader()
        given = cast("body.Body", self.body).reader
        is_chunked = isinstance(given, body.ChunkedReader)
        reader: Any = ChunkedReader(self.unreader) if is_chunked else LengthReader(self.unreader, given.length)
        expected, self._expected_100_continue = self._expected_100_continue, False
        if expected and (is_chunked or given.length):
            reader = ExpectedReader(reader, self.unreader.sock)
        self.body: Any = Body(reader)


class Response(wsgi.Response):  # type: ignore[misc] # as above
    """A response whose head is sent together with the body's first bytes.

    If a connection ends behind the head, tus-js-client waits for ever.
    """

    sock: Any
    _head = b""

    @override
    def send_headers(self) -> None:
        """Make the head, if it is not made; hold it until the body's first bytes."""
        if not self.headers_sent:
            connection, self.sock = self.sock, Held()
            super().send_headers()
            self._head, self.sock = self.sock.data, connection

    @override
    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            self._send_head()
        head, self._head = self._head, b""
        super()._emit_body(head + data)

    @override
    def can_sendfile(self) -> bool:
        """Return False: the system call would overtake the head."""
        return False

    @override
    def close(self) -> None:
        """End the body."""
        self.send_headers()
        self._send_head()
        super().close()

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self.sock.sendall(head)


class Held:
    """The place of a socket for one head."""

    data = b""

    def sendall(self, data: bytes) -> None:
        """Keep the bytes."""
        self.data = data


class ExpectedReader:
    """A reader whose first read sends 100 Continue (RFC 9110, section 10.1.1)."""

    def __init__(self, reader: Any, connection: Any) -> None:
        self._reader = reader
        self._connection = connection
        self._asked = False

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end.

        Raises:
            BlockingIOError: 100 Continue was not sent, and this read must not wait.
        """
        if not self._asked:
            if self._connection.gettimeout() == 0:
                raise BlockingIOError
            self._connection.sendall(CONTINUE)
            self._asked = True
        return cast("bytes", self._reader.read(size))


class Body(body.Body):  # type: ignore[misc] # as above
    """A body whose reads copy nothing: the readers here return `size` bytes, fewer only at the end."""

    @override
    def read(self, size: int | None = None) -> bytes:
        if not size or size < 0 or self.buf.tell():  # `readline` leaves bytes in the buffer
            return cast("bytes", super().read(size))
        return cast("bytes", self._read_reader(size))


class LengthReader:
    """The content of a body with a Content-Length, of which `length` bytes are left."""

    def __init__(self, unreader: Any, length: int) -> None:
        self._unreader = unreader
        self.length = length

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end, or if the client has disconnected."""
        pieces, missing = ChunkList(), min(size, self.length)
        while missing and (data := self._unreader.read(read_ahead=min(missing, READ_BYTES))):
            piece = data[:missing]
            if len(piece) < len(data):  # the next request
                self._unreader.unread(data[missing:])
            pieces.append(piece)
            missing -= len(piece)
            self.length -= len(piece)
        return b"".join(pieces.take())


class ChunkedReader:
    """The decoded content of a chunked body, for gunicorn's `Body`."""

    def __init__(self, unreader: Any) -> None:
        self._unreader = unreader
        self._decoder = ChunkedDecoder()
        self._content = bytearray()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end.

        Raises:
            NoMoreData: the client has disconnected.
            InvalidChunkSize: the chunks are malformed.
        """
        while len(self._content) < size and not self._decoder.ended:
            self._receive()
        content = bytes(self._content[:size])
        del self._content[:size]
        return content

    def _receive(self) -> None:
        data = self._unreader.read(read_ahead=READ_BYTES)
        if not data:
            raise errors.NoMoreData
        try:
            self._content += self._decoder.receive(data)
        except FramingError as error:
            raise errors.InvalidChunkSize(str(error)) from error
        if self._decoder.ended:
            self._unreader.unread(self._decoder.rest)
