"""Format the log as JSON or text, with request ids and without secrets.

All code logs by the standard library's `logging`, as the SDK and the servers do, so that all lines look alike. The
start of a process calls `configure`. `create_app` does not, since the log belongs to the process, not to an app in it.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeAlias

from filehandoff.errors import Internal, Overloaded, UploadError
from filehandoff.settings import Settings
from filehandoff.typing_backports import override

Line: TypeAlias = dict[str, Any]

#: The attributes of each record, and those that formatters add. All others are values of the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

_request_id: ContextVar[str] = ContextVar("request_id", default="")
#: Functions that return more values for each line.
_more: list[Callable[[], Line]] = []

#: Loggers that write from UPLOAD_LOG_LEVEL on. All others write warnings, or at `debug` everything.
OWN_LOGGERS = ("filehandoff", "flask_app", "quart_app")
#: Servers' loggers, with handlers and formats of their own, which a server may install after it loads the app.
SERVER_LOGGERS = (
    *("gunicorn.error", "gunicorn.access"),
    *("hypercorn.error", "hypercorn.access"),
    *("uvicorn.error", "uvicorn.access", "uvicorn.asgi"),
)

#: Environment variables with secrets: the SDK's credentials, and the app's own secrets.
SECRET_VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("UPLOAD_PROMISE_SECRET", "UPLOAD_WEBHOOK_SECRET", "UPLOAD_LIMITS_STORE"),
)
HIDDEN = "[hidden]"

#: Names before a secret: in signed headers, in presigned URLs of either version, in the responses of STS, and in
#: botocore's lines at `debug` about signing a request.
_SECRET = re.compile(
    r"""
    ( (?: signature | credential | awsaccesskeyid | security[-_]?token | session[-_]?token | secret[-_]?access[-_]?key )
      ['"]? \s* (?: = | : | %3D | > ) \s* b? ['"]? )
    [^\s,;&'"<>)}\]]+
    | ( authorization ['"]? \s* [=:] \s* b? ['"]? ) [^'"\r\n]+
    """,
    re.IGNORECASE | re.VERBOSE,
)
#: Each match of `_SECRET` contains one of these; most values have none, and this search is several times as fast.
_SEPARATOR = re.compile("[=:>%]")


def configure(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Write the process's log to stderr in the configured format, the server's lines included; repeatable.

    A server's log to a file or to syslog continues, in the server's own format.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings.log, [environ.get(name, "") for name in SECRET_VARIABLES]))
    handler.setLevel(settings.log_level.upper())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    for name in SERVER_LOGGERS:
        logging.getLogger(name).addFilter(_replace_handlers)
    logging.getLogger("asyncio").addFilter(_ACCEPT_ERROR_LIMIT)
    logging.captureWarnings(capture=True)
    # No line has these, and finding them takes time (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logMultiprocessing = False
    vars(logging)["logAsyncioTasks"] = False  # since Python 3.12


def warn_misspelt(app: str, misspelt: Mapping[str, str], settings: Settings) -> None:
    """Warn about misspelt settings, in a plain line or, if configured, in JSON."""
    for name, meant in misspelt.items():
        line = f"{app}: {name} is no setting; was {meant} meant?"
        if settings.log == "json":
            logging.getLogger(app).warning(line)
        else:
            sys.stderr.write(f"{line}\n")


def bind(request_id: str) -> None:
    """Add this request's id to the following lines of this thread or task.

    Tasks that it starts inherit the id.
    """
    _request_id.set(request_id)


def unbind() -> None:
    """Add no id to the following lines: the request has ended."""
    _request_id.set("")


@contextmanager
def bound(request_id: str) -> Iterator[None]:
    """Add the id to a block's lines, in a thread without the request's context."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def add_values(values: Callable[[], Line]) -> None:
    """Add the values that this function returns to all following lines of the process."""
    _more.append(values)


def bound_id() -> str:
    """Return the id that `bind` or `bound` has set; empty if none."""
    return _request_id.get()


def formatter(style: str, secrets: list[str]) -> logging.Formatter:
    """Return the formatter of `json` or `console` lines, which hides these and other secrets."""
    return _Formatter(_as_json if style == "json" else _as_text, secrets)


class _Formatter(logging.Formatter):
    """Collects a line's values, hides the secrets among them, and renders the line."""

    def __init__(self, render: Callable[[Line, datetime], str], secrets: list[str]) -> None:
        super().__init__()
        self._render = render
        self._secrets = [secret for secret in secrets if len(secret) >= 8]  # noqa: PLR2004 - a shorter secret may be part of common words

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: Line = {"level": record.levelname.lower(), "event": record.getMessage()}
        if request_id := bound_id():
            line["request_id"] = request_id
        for values in _more:
            line.update(values())
        line["logger"] = record.name
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        line.update(process=record.process, thread=record.threadName)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        hidden = {name: self._hide(value) for name, value in line.items()}
        return self._render(hidden, datetime.fromtimestamp(record.created, UTC))

    def _hide(self, value: Any) -> Any:
        """Hide the secrets, and the values after a secret's name."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
            return _SECRET.sub(rf"\g<1>\g<2>{HIDDEN}", value) if _SEPARATOR.search(value) else value
        if isinstance(value, dict):
            return {name: self._hide(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._hide(one) for one in value]
        return value if isinstance(value, int | float | None) else self._hide(str(value))


def _as_json(line: Line, time: datetime) -> str:
    """Return an object in ASCII: no filename can contain a line end or a terminal's control code."""
    return json.dumps({"timestamp": time.isoformat(timespec="microseconds").replace("+00:00", "Z"), **line})


def printable(text: str) -> str:
    r"""Escape unprintable characters: line ends, control characters, text directions; `\n`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _as_text(line: Line, time: datetime) -> str:
    """Return a line like the servers': `[time] [process] [LEVEL] message` and values by name."""
    request_id, exception, event = line.pop("request_id", None), line.pop("exception", None), line.pop("event")
    for name in "thread", "code", "outcome":  # useful only in searches: the message begins with them
        line.pop(name, None)
    # as in `keys.new_key`, not strftime
    head = f"[{time.isoformat(' ', 'seconds')[:19]} +0000] [{line.pop('process')}] [{line.pop('level').upper()}]"
    message = printable(f"request {request_id}: {event}" if request_id else event)
    text = " ".join((head, message, *(f"{name}={_brief(line[name])}" for name in sorted(line))))
    # Indented, so that no line of the traceback looks like a line of the log.
    return "\n".join((text, *(f"    {printable(one)}" for one in (exception or "").splitlines())))


def _brief(value: object) -> str:
    """Return a single word unchanged, any other text with quotes and escapes."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text and "'" not in text else repr(value)


def _replace_handlers(record: logging.LogRecord) -> bool:
    """Remove a server's terminal handlers, so that the root's handler writes its lines.

    A filter: it runs for each line, since a server may add handlers later.
    """
    logger = logging.getLogger(record.name)
    while logger.parent is not None:  # up to the root, whose handler `configure` sets
        logger.handlers = [handler for handler in logger.handlers if type(handler) is not logging.StreamHandler]
        logger.propagate = True
        logger = logger.parent
    return True


class AnswerLog:
    """Limits the lines about responses with status 503 to one per second and code.

    Under attack, or during an outage of S3, a process sends thousands of these. The others are lines at `debug`.
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self._lock = Lock()
        self._silent_until: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def line(self, error: UploadError, now: float) -> tuple[int, dict[str, object]]:
        """Return the level and the values of a response's line; `now` is in seconds.

        The value `count` is the number of responses with this code that the line stands for, if more than one.
        """
        values: dict[str, object] = {"code": error.code, "status": error.status}
        if error.status != Overloaded.status:
            return logging.ERROR if error.status >= Internal.status else logging.INFO, values
        with self._lock:
            self._counts[error.code] = count = self._counts.get(error.code, 0) + 1
            if now < self._silent_until.get(error.code, now):
                return logging.DEBUG, values
            self._silent_until[error.code] = now + self.SECONDS
            del self._counts[error.code]
        return logging.ERROR, values | ({"count": count} if count > 1 else {})


class _AcceptErrorLimit(logging.Filter):
    """Reduces asyncio's reports of missing file descriptors to one line per minute.

    asyncio reports each connection that it cannot accept, a hundred in a row, with a traceback, and again every second.
    """

    SECONDS = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.silent_until = 0.0

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        if (now := time.monotonic()) < self.silent_until:
            return False
        self.silent_until = now + self.SECONDS
        reason = record.exc_info[1] if record.exc_info else None
        record.msg, record.args, record.exc_info = "no connection can be accepted for now: %s", (reason,), None
        return True


_ACCEPT_ERROR_LIMIT = _AcceptErrorLimit()
