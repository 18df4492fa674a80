"""The request class: our form parser behind Flask's `request.form` and `request.files`."""

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from contextvars import ContextVar
from socket import SHUT_RD, SHUT_RDWR
from socket import socket as Socket  # noqa: N812 - a class
from tempfile import SpooledTemporaryFile
from threading import Timer
from typing import IO, TYPE_CHECKING, Any, cast

import flask
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import FormDataParser as WerkzeugFormDataParser

from filehandoff.digest import to_content_digest
from filehandoff.errors import FormMalformed, RequestTimedOut, UploadError
from filehandoff.form import DIGEST_HEADER, Event, Field, FileChunk, FileEnd, FileStart, FormParser
from filehandoff.settings import Settings
from filehandoff.typing_backports import override
from filehandoff.web.request import EXTENSION, RequestValues

if TYPE_CHECKING:
    from flask_app.quotas import Limiter

#: Bytes of a file that stay in memory; a larger file rolls over to disk.
SPOOL_BYTES = 500_000
#: Bytes per read: stock gunicorn receives as many at once, and for a smaller read copies the rest each time.
READ_BYTES = 1024 * 1024
#: Seconds for which an unwanted body is read after the answer, and seconds without a byte after which this ends.
DISCARD_SECONDS = 10.0
DISCARD_IDLE_SECONDS = 2.0

#: Makes the server discard the body after the answer and close the connection; only `worker.py` sets it.
close_after_answer: ContextVar[Callable[[], None] | None] = ContextVar("close_after_answer", default=None)


class FormFiller:
    """Fields and ordinary FileStorage objects, filled from a form parser's events."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []
        self._spool: IO[bytes] | None = None

    def take(self, event: Event) -> None:
        """Take the next event; write a file's bytes to its storage."""
        match event:
            case Field(name, value):
                self.fields.append((name, value))
            case FileStart():
                self._spool = cast("IO[bytes]", SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115 - close() closes it
                self.files.append((event.name, self._storage(event, self._spool)))
            case FileChunk(data):
                assert self._spool is not None
                self._spool.write(data)
            case FileEnd():
                assert self._spool is not None
                self._spool.seek(0)

    def close(self) -> None:
        """Close every file of a form that is not used."""
        for _, file in self.files:
            with suppress(OSError):  # a full disk: closing writes the file's last bytes
                file.close()

    @staticmethod
    def _storage(start: FileStart, stream: IO[bytes]) -> FileStorage:
        headers = Headers({"Content-Type": start.content_type})
        if start.promised is not None:
            headers[DIGEST_HEADER] = to_content_digest(start.promised)
        return FileStorage(stream, start.filename, start.name, headers=headers)


class FormDataParser(WerkzeugFormDataParser):
    """Form parsing by `filehandoff.form`, in the place of Werkzeug's parser."""

    def __init__(self, request: "Request") -> None:
        super().__init__(cls=request.parameter_storage_class, silent=False)
        self._request = request

    @override
    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]:
        """Read the whole body into fields and files.

        Raises:
            FormError: the form cannot be accepted.
        """
        parser = self._request.form_parser()
        form = FormFiller()
        try:
            with closing(self._request.chunks()) as chunks:
                for chunk in chunks:
                    for event in parser.receive(chunk):
                        form.take(event)
            parser.finish()
        except BaseException:
            form.close()
            raise
        self._request.files_in_order = form.files
        return stream, self.cls(form.fields), self.cls(form.files)


class Request(RequestValues, flask.Request):
    """A request with an id, whose form our parser reads."""

    # Otherwise Werkzeug calls no parser without a Content-Type, and the form has no files.
    want_form_data_parsed = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_to_its_end = False

    def form_parser(self) -> FormParser:
        """Return a parser for this request's form."""
        return self.parser_for(self._settings)

    def sent_files(self) -> list[FileStorage]:
        """Return the files of the form that are stored."""
        self._load_form_data()
        return self.files_to_store(self._settings)

    def chunks(self) -> Generator[bytes]:
        """Yield the body's chunks as they arrive, by `read_body`; count them against the sender's quotas."""
        body = read_body(self.stream, self._socket, self._settings.idle_timeout)
        yield from body if self.account is None else self._limiter.metered(self.account, self.content_length, body)
        self._read_to_its_end = True

    def stop_receiving(self) -> None:
        """Stop receiving the body; a read in another thread ends early."""
        if self._socket is not None:
            with suppress(OSError):
                # Not the TLS socket's own method: after it the answer would go out in clear text.
                Socket.shutdown(self._socket, SHUT_RD)

    def hang_up(self) -> None:
        """End the connection and drop unsent bytes; a write in another thread fails."""
        if self._socket is not None:
            with suppress(OSError):
                Socket.shutdown(self._socket, SHUT_RDWR)

    def discard_after(self, response: flask.Response) -> None:
        """Arrange that the rest of the body is discarded after this answer.

        Many clients read an early answer only after they have sent the whole body. If the connection closes before
        that, it is reset, and the client loses the answer. Our worker discards the bodies of all connections without a
        thread for each. Under another server, this thread discards the body after the answer.
        """
        if self._read_to_its_end or not self.has_body:
            return
        close = close_after_answer.get()
        if close is None:
            response.call_on_close(self.discard)
        elif not self._body_has_ended():
            close()

    def _body_has_ended(self) -> bool:
        """Return whether the body has ended, without waiting; discard received bytes."""
        before = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return not self.stream.read(READ_BYTES) or not self.stream.read(READ_BYTES)
        except Exception:  # noqa: BLE001 - each server has its own error for missing or broken bytes
            return False
        finally:
            self._socket.settimeout(before)

    def discard(self) -> None:
        """Read and discard the rest of the body, for a bounded time."""
        # A read returns only when it is full: a client that sends byte by byte could hold it for hours.
        too_long = Timer(DISCARD_SECONDS, self.stop_receiving)
        too_long.daemon = True
        with suppress(RuntimeError):  # no thread can start: the idle timeout still ends the read
            too_long.start()
        try:
            with suppress(UploadError), closing(read_body(self.stream, self._socket, DISCARD_IDLE_SECONDS)) as chunks:
                for _ in chunks:
                    pass
        finally:
            too_long.cancel()

    @property
    def _socket(self) -> Any:
        # Only gunicorn gives access to the socket, and so to a timeout for a body that stops arriving.
        return self.environ.get("gunicorn.socket")

    @property
    @override
    def _settings(self) -> Settings:
        return cast("Settings", flask.current_app.extensions[EXTENSION].settings)

    @property
    def _limiter(self) -> "Limiter":
        return cast("Limiter", flask.current_app.extensions[EXTENSION].limiter)

    @override
    def make_form_data_parser(self) -> FormDataParser:
        return FormDataParser(self)


def read_body(stream: IO[bytes], socket: Any, idle_seconds: float) -> Generator[bytes]:
    """Yield the body's chunks as they arrive, none of them empty.

    Raises:
        RequestTimedOut: no byte arrived for `idle_seconds`; needs the server's socket.
        FormMalformed: the client disconnected, the body ended before its declared length, or its chunks are broken.
    """
    before = socket.gettimeout() if socket is not None else None
    try:
        if socket is not None:
            socket.settimeout(idle_seconds)
        while chunk := _read(stream, idle_seconds):
            yield chunk
    finally:
        if socket is not None:
            socket.settimeout(before)


def _read(stream: IO[bytes], idle_seconds: float) -> bytes:
    try:
        return stream.read(READ_BYTES)
    except MemoryError:
        raise  # not the body's fault
    except Exception as error:
        # Each server has its own error for a broken body, and Werkzeug wraps it in another one.
        if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            raise RequestTimedOut(f"Nothing of the body arrived for {idle_seconds:g} seconds.") from error
        raise FormMalformed(
            "The body ended before it was complete, or its chunks are broken.", cut_short=True
        ) from error
