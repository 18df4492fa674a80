"""Format the log as JSON or text, with request ids and without secrets; by structlog.

All code logs by the standard library's `logging`, as the SDK and the servers do, so that all lines look alike. The
start of a process calls `configure`. `create_app` does not, since the log belongs to the process, not to an app in it.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, override

from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    clear_contextvars,
    get_contextvars,
    merge_contextvars,
)
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from filehandoff.errors import Internal, Overloaded, UploadError
from filehandoff.settings import Settings

type Line = MutableMapping[str, Any]

#: The first values of a line, in this order.
_FIRST = {name: place for place, name in enumerate(("timestamp", "level", "event", "request_id"))}

#: Loggers that write from UPLOAD_LOG_LEVEL on. All others write warnings, or at `debug` everything.
OWN_LOGGERS = ("filehandoff", "flask_app", "quart_app")
#: Servers' loggers, with handlers and formats of their own, which a server may install after it loads the app.
SERVER_LOGGERS = (
    *("gunicorn.error", "gunicorn.access"),
    *("hypercorn.error", "hypercorn.access"),
    *("uvicorn.error", "uvicorn.access", "uvicorn.asgi"),
)

#: Environment variables with secrets: the SDK's credentials, and the app's own secret.
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "UPLOAD_PROMISE_SECRET")
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
#: What each match of `_SECRET` contains. Most values have none, and this search is several times as fast.
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
    unbind()
    bind_contextvars(request_id=request_id)


def unbind() -> None:
    """Add no id to the following lines: the request has ended."""
    clear_contextvars()


def bound(request_id: str) -> AbstractContextManager[None]:
    """Add the id to a block's lines, in a thread without the request's context."""
    return bound_contextvars(request_id=request_id)


def bound_id() -> str:
    """Return the id that `bind` or `bound` has set; empty if none."""
    return str(get_contextvars().get("request_id", ""))


def formatter(style: str, secrets: list[str]) -> logging.Formatter:
    """Return the formatter of `json` or `console` lines, which hides these and other secrets."""
    if style == "json":
        # In ASCII: no filename can contain a line end or a terminal's control code.
        render: list[Any] = [JSONRenderer()]
        time = TimeStamper("iso", utc=True)
    else:
        render = [_for_terminal, _as_text]
        time = TimeStamper("%Y-%m-%d %H:%M:%S +0000", utc=True)
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, add_log_level, add_logger_name, ExtraAdder(), _add_place],
        processors=[ProcessorFormatter.remove_processors_meta, time, format_exc_info, _hide(secrets), *render],
    )


def _add_place(_logger: object, _method: str, line: Line) -> Line:
    record: logging.LogRecord = line["_record"]
    line.update(process=record.process, thread=record.threadName)
    line.pop("color_message", None)  # uvicorn's message again, with colours
    return line


def _hide(secrets: list[str]) -> Callable[[Any, str, Line], Line]:
    """Return a processor that hides these secrets, and values after a secret's name."""
    known = [secret for secret in secrets if len(secret) >= 8]  # noqa: PLR2004 - a shorter secret may be part of common words

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            for secret in known:
                value = value.replace(secret, HIDDEN)
            return _SECRET.sub(rf"\g<1>\g<2>{HIDDEN}", value) if _SEPARATOR.search(value) else value
        if isinstance(value, dict):
            return {name: hidden(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [hidden(one) for one in value]
        return value if isinstance(value, int | float | None) else hidden(str(value))

    def hide(_logger: object, _method: str, line: Line) -> Line:
        return {name: hidden(line[name]) for name in sorted(line, key=lambda name: _FIRST.get(name, len(_FIRST)))}

    return hide


def _for_terminal(_logger: object, _method: str, line: Line) -> Line:
    """Put the request's id before the message; escape line ends and control codes."""
    request_id = line.pop("request_id", None)
    for name in ("thread", "code"):  # useful only in searches: an error's message begins with its code
        line.pop(name, None)
    event = str(line["event"])
    line["event"] = printable(f"request {request_id}: {event}" if request_id else event)
    if "exception" in line:
        # Indented, so that no line of the traceback looks like a line of the log.
        line["exception"] = "\n".join(f"    {printable(one)}" for one in line["exception"].splitlines())
    return line


def printable(text: str) -> str:
    r"""Escape unprintable characters: line ends, control characters, text directions; `\n`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _as_text(_logger: object, _method: str, line: Line) -> str:
    """Return a line like the servers': `[time] [process] [LEVEL] message` and values by name."""
    time, process, level, event = (line.pop(name) for name in ("timestamp", "process", "level", "event"))
    exception = line.pop("exception", None)
    values = [f"{name}={_brief(line[name])}" for name in sorted(line)]
    text = " ".join((f"[{time}] [{process}] [{level.upper()}] {event}", *values))
    return f"{text}\n{exception}" if exception else text


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
